"""Repositories at a forge, read through its file API: two small questions instead of a clone. One table says how each forge is asked."""

from __future__ import annotations

import asyncio
import hmac
import json
import ssl
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from hashlib import sha256
from typing import Any, NamedTuple
from urllib.parse import quote

from kas.agent_config.repositories import RepositoryProblem, at_ref
from kas.outbound import Outbound, PeerUnavailable, Reply, read_json

LIMIT_S = 10.0


class ForgeApi(NamedTuple):
    """How one kind of forge is asked: paths below its API, and where its answers have what is wanted."""

    root: str  # of the API below the forge's URL
    headers: Callable[[str], dict[str, str]]  # with the token
    head: Callable[[str, str | None], str]  # project, ref
    commit: Callable[[Any], Any]  # of what `head` answers
    file: Callable[[str, str, str], str]  # project, path, commit
    raw: Mapping[str, str]  # more headers for a file
    status: Callable[[str, str], str]  # project, commit
    verdicts: tuple[str, str]  # of a good and a bad file
    signature: str  # the header of a webhook that proves who sent it
    event: tuple[str, str]  # the header that says what happened, and what it says of a push


def _first(answer: Any, key: str) -> Any:
    return answer[0][key]


def _q(text: str) -> str:
    return quote(text, safe="")


APIS: Mapping[str, ForgeApi] = {
    "gitlab": ForgeApi(
        root="/api/v4",
        headers=lambda token: {"Private-Token": token},
        head=lambda project, ref: (
            f"/projects/{_q(project)}/repository/commits?per_page=1{f'&ref_name={_q(ref)}' if ref else ''}"
        ),
        commit=lambda answer: _first(answer, "id"),
        file=lambda project, path, commit: f"/projects/{_q(project)}/repository/files/{_q(path)}/raw?ref={commit}",
        raw={},
        status=lambda project, commit: f"/projects/{_q(project)}/statuses/{commit}",
        verdicts=("success", "failed"),
        signature="x-gitlab-token",
        event=("x-gitlab-event", "Push Hook"),
    ),
    "gitea": ForgeApi(
        root="/api/v1",
        headers=lambda token: {"Authorization": f"token {token}"},
        head=lambda project, ref: (
            f"/repos/{project}/commits?limit=1&stat=false&files=false{f'&sha={_q(ref)}' if ref else ''}"
        ),
        commit=lambda answer: _first(answer, "sha"),
        file=lambda project, path, commit: f"/repos/{project}/raw/{quote(path)}?ref={commit}",
        raw={},
        status=lambda project, commit: f"/repos/{project}/statuses/{commit}",
        verdicts=("success", "failure"),
        signature="x-gitea-signature",
        event=("x-gitea-event", "push"),
    ),
    "github": ForgeApi(
        root="",
        headers=lambda token: {"Authorization": f"Bearer {token}", "X-GitHub-Api-Version": "2022-11-28"},
        head=lambda project, ref: f"/repos/{project}/commits/{_q(ref or 'HEAD')}",
        commit=lambda answer: answer["sha"],
        file=lambda project, path, commit: f"/repos/{project}/contents/{quote(path)}?ref={commit}",
        raw={"Accept": "application/vnd.github.raw+json"},
        status=lambda project, commit: f"/repos/{project}/statuses/{commit}",
        verdicts=("success", "failure"),
        signature="x-hub-signature-256",
        event=("x-github-event", "push"),
    ),
}


class ForgeRepository:
    """One project's repository. Its two questions block: they are asked from threads, on the loop that owns ``outbound``."""

    is_remote = True

    def __init__(
        self,
        kind: str,
        api_url: str,
        project: str,
        ref: str | None,
        token: str | None,
        outbound: Outbound,
        tls: ssl.SSLContext | None,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._api = APIS[kind]
        self._url = f"{api_url.rstrip('/')}{self._api.root}"
        self._project = project
        self._ref = ref
        self._headers = {} if token is None else self._api.headers(token)
        self._outbound = outbound
        self._tls = tls
        self._loop = loop
        self._etag = ""  # of the newest commit: an answer "not modified" costs the forge, and our quota there, nothing
        self._commit = ""
        self._asked: set[Future[Reply]] = set()
        self._is_closed = False
        self.where = at_ref(f"{api_url.rstrip('/')}/{project}", ref)

    def __repr__(self) -> str:
        return f"<ForgeRepository {self.where}>"

    def head(self) -> str:
        """See Repository."""
        reply = self._ask(
            "GET", self._api.head(self._project, self._ref), {"If-None-Match": self._etag} if self._etag else {}
        )
        if reply.status == 304 and self._commit:
            return self._commit
        if reply.status != 200:
            raise RepositoryProblem(
                f"{self.where}: the forge answers {reply.status}: {_MEANING.get(reply.status, 'look at its API')}"
            )
        try:
            commit = self._api.commit(read_json(reply, self._url))
        except (KeyError, IndexError, TypeError, PeerUnavailable):
            commit = None
        if not isinstance(commit, str) or not (7 <= len(commit) <= 64 and commit.isascii() and commit.isalnum()):
            raise RepositoryProblem(
                f"{self.where}: the forge names no commit: is the repository empty, or the ref another one?"
            )
        self._etag, self._commit = reply.headers.get("etag", ""), commit
        return commit

    def read(self, commit: str, path: str, max_bytes: int) -> bytes | None:
        """See Repository."""
        reply = self._ask(
            "GET", self._api.file(self._project, path, commit), dict(self._api.raw), max_bytes=max_bytes + 1
        )
        if reply.status == 404:
            return None
        if reply.status != 200:
            raise RepositoryProblem(
                f"{self.where}: the forge answers {reply.status} for {path}: {_MEANING.get(reply.status, 'look at its API')}"
            )
        return reply.body

    def close(self) -> None:
        """Give up what is being asked and ask nothing more; who waits is told so. From any thread."""
        self._is_closed = True
        for asked in list(self._asked):
            asked.cancel()

    def tell(self, commit: str, name: str, mistake: str) -> None:
        """Show at the commit whether its configuration is in force; ``mistake`` is empty where it is. Raises RepositoryProblem."""
        good, bad = self._api.verdicts
        said = {
            "state": bad if mistake else good,
            "context": f"kas/{name}",
            "description": (mistake or "in force")[:140],
        }
        body = json.dumps(said | {"name": f"kas/{name}"}).encode()
        reply = self._ask(
            "POST", self._api.status(self._project, commit), {"Content-Type": "application/json"}, body=body
        )
        if reply.status not in (200, 201):
            raise RepositoryProblem(
                f"{self.where}: the forge answers {reply.status} to a commit status: the token may not write one"
            )

    def _ask(
        self, method: str, path: str, headers: Mapping[str, str], *, body: bytes | None = None, max_bytes: int = 1 << 20
    ) -> Reply:
        if self._is_closed:
            raise RepositoryProblem(f"{self.where}: the question was given up")
        asking = self._outbound.ask(
            method,
            f"{self._url}{path}",
            headers={**self._headers, **headers},
            body=body,
            max_bytes=max_bytes,
            timeout_s=LIMIT_S,
            tls=self._tls,
        )
        asked = asyncio.run_coroutine_threadsafe(asking, self._loop)
        self._asked.add(asked)
        try:
            return asked.result(LIMIT_S + 1)
        except CancelledError:
            raise RepositoryProblem(f"{self.where}: the question was given up") from None
        except PeerUnavailable as error:
            raise RepositoryProblem(f"{self.where}: {error}") from error
        except TimeoutError:
            raise RepositoryProblem(f"{self.where}: no answer within {LIMIT_S:g} s") from None
        finally:
            self._asked.discard(asked)


_MEANING = {
    401: "its token is refused",
    403: "its token may not read this repository, or a limit is reached",
    404: "there is no such repository or ref, or its token may not see it",
    409: "the repository is empty",
}


def pushed_project(kind: str, headers: Mapping[str, str], body: bytes, secret: str) -> str | None:
    """The project of a push that the forge tells us of; empty for another event. None: it does not prove that it comes from there.

    Names of ``headers`` are in lower case. Of the body nothing but the project's name is used, for a look at its repository.
    """
    api = APIS[kind]
    proof = headers.get(api.signature, "").encode("utf-8", "surrogateescape")
    if kind == "gitlab":
        is_proven = hmac.compare_digest(proof, secret.encode())
    else:
        expected = hmac.digest(secret.encode(), body, sha256).hex()
        is_proven = hmac.compare_digest(proof.removeprefix(b"sha256="), expected.encode())
    if not is_proven:
        return None
    name, push = api.event
    if headers.get(name) != push:
        return ""
    try:
        said = json.loads(body)
        project = said["project"]["path_with_namespace"] if kind == "gitlab" else said["repository"]["full_name"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return project if isinstance(project, str) else ""
