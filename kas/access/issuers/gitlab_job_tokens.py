"""GitLab's job tokens: ``CI_JOB_TOKEN`` as it stands in every job, vouched for by the GitLab that made it.

Two questions, at once, with the job's own token: ``GET /api/v4/job`` says which job it is and whether it runs; ``GET
/api/v4/job/allowed_agents`` adds groups, roles, the environment, and which of GitLab's own agents the job may use. Where GitLab's KAS
is off or absent the second has no answer, and the first is enough: the rules are ours. Neither says whether the ref is protected, what
the environment is called (only its slug), or whether the project is a fork: with an API token of the operator those are asked too.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from kas.access.caller import Caller, Environment
from kas.access.issuers.oidc import is_owned, issuer_of
from kas.clock import Clock
from kas.errors import IssuerUnavailable, JobIsOver, Unauthenticated
from kas.names import check_project
from kas.outbound import Outbound, PeerUnavailable

PREFIX = b"glcbt-"
_FORM = re.compile(rb"[A-Za-z0-9_.=-]{16,8192}")
OVER = frozenset({"success", "failed", "canceled", "skipped", "manual"})
LIVES_S = 24 * 3600.0  # GitLab says no end; the gate asks again each minute anyway
RECHECK_S = 5.0  # a job with open streams is asked about so often
KEPT_S = 600.0  # what hardly changes: forks, names of environments
PROTECTED_KEPT_S = 55.0  # a ref that is protected no more is noticed when the job is asked about again
MAX_KEPT = 10_000
MAX_PAGES = 10
MAX_GROUPS = 200
MAX_AGENTS = 10_000


class GitlabJobTokens:
    """An Issuer that asks GitLab."""

    def __init__(
        self,
        name: str,
        url: str,
        outbound: Outbound,
        *,
        tls: ssl.SSLContext | None = None,
        api_token: str | None = None,
        takes_opaque: bool = True,
        takes_host: bool = True,
        owners: frozenset[str] = frozenset(),
        is_public: bool = False,
        clock: Clock,
        monotonic: Callable[[], float],
    ) -> None:
        """``takes_opaque``: whether tokens that do not say their issuer are asked about here: at one GitLab at most.

        ``takes_host``: the same for tokens that say its host, where several are on one.
        """
        self.name = name
        self._url = url.rstrip("/")
        # A job token that is a JWT names the host alone (Authn::Tokens::Jwt of GitLab 18); two instances on one host cannot be told apart
        # by it, so only the first is shown one.
        self._names = {self._url, f"{self._url}/"} | ({urlsplit(url).hostname or ""} if takes_host else set())
        self._outbound = outbound
        self._tls = tls
        self._takes_opaque = takes_opaque
        self._owners = owners
        self._is_public = is_public
        self._clock = clock
        self._more = None if api_token is None else _More(self._ask, api_token, monotonic)

    def __repr__(self) -> str:
        return f"<GitlabJobTokens {self.name} {self._url}>"

    async def caller(self, token: bytes) -> Caller | None:
        """See Issuer."""
        if not self._is_mine(token):
            return None
        headers = {"Job-Token": token.decode("ascii")}
        try:
            answers: Any = await asyncio.gather(
                self._ask("/job", headers), self._ask("/job/allowed_agents", headers), return_exceptions=True
            )
            for answer in answers:
                if isinstance(answer, BaseException):
                    raise answer
            job, allowed = answers
            if job is None:
                raise Unauthenticated(f"{self.name} does not know this job token, or its job is over")
            caller = self._caller(job, allowed)
            if self._more is not None:
                caller = await self._more.about(caller)
        except PeerUnavailable as error:
            raise IssuerUnavailable(f"the issuer {self.name} cannot be asked right now: {error}") from error
        if not is_owned(caller, self._owners):
            raise Unauthenticated(
                f"the job is of a project whose owner may not use this kas (issuers, {self.name}: owners)"
            )
        return caller

    def _is_mine(self, token: bytes) -> bool:
        """Tokens that evidently are somebody else's must not be shown to this GitLab."""
        if token.startswith(b"kas") or not _FORM.fullmatch(token):
            return False
        said = issuer_of(token.removeprefix(PREFIX))
        if said is None:
            return self._takes_opaque and token.count(b".") != 2
        return said in self._names

    async def _ask(self, path: str, headers: Mapping[str, str]) -> Any:
        """The object or list; None where GitLab refuses or has none. Raises PeerUnavailable, Unauthenticated for the token itself."""
        status, said = await self._outbound.get_json(f"{self._url}/api/v4{path}", headers=headers, tls=self._tls)
        if status == 401 and "Job-Token" in headers:
            raise Unauthenticated(f"{self.name} does not know this job token, or its job is over")
        if status in (401, 403, 404, 410):
            return None
        if status != 200 or not isinstance(said, dict | list):
            raise PeerUnavailable(f"GitLab answers {status} in a form that is not its own")
        return said

    def _caller(self, job: Any, allowed: Any) -> Caller:
        pipeline, user = _object(job, "pipeline"), _object(job, "user")
        if _text(job, "status") in OVER:
            raise JobIsOver
        ref = _text(job, "ref")
        is_tag = job.get("tag") is True
        is_ref = bool(ref) and not ref.startswith("refs/")  # a merge request's is neither a branch nor a tag
        caller = Caller(
            issuer=self.name,
            project=self._project(job),
            project_id=_id(pipeline, "project_id"),
            ref=ref if is_ref else "",
            ref_type=("tag" if is_tag else "branch") if is_ref else "",
            pipeline_id=_id(pipeline, "id"),
            job_id=_id(job, "id"),
            username=_text(user, "username"),
            user_id=_id(user, "id"),
            expires_at=self._clock() + LIVES_S,
            is_public_issuer=self._is_public,
            speaks_gitlab=True,
            recheck_s=RECHECK_S,
        )
        return caller if allowed is None else _with_allowed(caller, allowed)

    def _project(self, job: Any) -> str:
        """The path of the job's project, which stands nowhere but in the job's own address."""
        address = _text(job, "web_url")
        path, found, number = address.removeprefix(f"{self._url}/").partition("/-/jobs/")
        if not address.startswith(f"{self._url}/") or not found or number != _id(job, "id"):
            raise PeerUnavailable(f"the job's address is not below {self._url}: set url to GitLab's own external URL")
        try:
            return check_project(path)
        except ValueError:
            raise PeerUnavailable("the job's project has no path as projects have") from None


def _with_allowed(caller: Caller, allowed: Any) -> Caller:
    """What `allowed_agents` adds. Both answers must speak of the same job."""
    project = _object(allowed, "project")
    same = (_id(_object(allowed, "job"), "id"), _id(project, "id")) == (caller.job_id, caller.project_id)
    if not same:
        raise PeerUnavailable("GitLab's two answers about the job contradict each other")
    environment = None
    if allowed.get("environment") is not None:
        said = _object(allowed, "environment")
        environment = Environment("", _text(said, "slug"), _text(said, "tier"))
    return _replaced(
        caller,
        group_ids=tuple(_id(one, "id") for one in _list(project, "groups", MAX_GROUPS)),
        roles=tuple(_short(one) for one in _list(_object(allowed, "user"), "roles_in_project", 20)),
        environment=environment,
        forge_agents=frozenset(_id(one, "id") for one in _list(allowed, "allowed_agents", MAX_AGENTS)),
    )


class _More:
    """What only an API token of the operator can read: forks, names of environments, protected refs. Kept for ten minutes."""

    def __init__(
        self, ask: Callable[[str, Mapping[str, str]], Any], token: str, monotonic: Callable[[], float]
    ) -> None:
        self._ask = ask
        self._headers = {"Private-Token": token}
        self._clock = monotonic
        self._kept: OrderedDict[str, tuple[float, Any]] = OrderedDict()

    async def about(self, caller: Caller) -> Caller:
        """The caller with all of it. What the token may not read stays unknown. Raises PeerUnavailable."""
        root = f"/projects/{quote(caller.project_id, safe='')}"
        project = await self._known(root)
        is_fork = isinstance(project, dict) and project.get("forked_from_project") is not None
        is_protected = False
        if caller.ref_type:
            kind = "tags" if caller.ref_type == "tag" else "branches"
            ref = await self._known(f"{root}/repository/{kind}/{quote(caller.ref, safe='')}", PROTECTED_KEPT_S)
            is_protected = isinstance(ref, dict) and ref.get("protected") is True
        environment = caller.environment
        if environment is not None:
            environment = environment._replace(name=await self._environment(root, environment.slug))
        return _replaced(caller, is_fork=is_fork, ref_protected=is_protected, environment=environment)

    async def _environment(self, root: str, slug: str) -> str:
        for page in range(1, MAX_PAGES + 1):
            listed = await self._known(f"{root}/environments?per_page=100&page={page}")
            if not isinstance(listed, list):
                return ""
            for one in listed:
                if isinstance(one, dict) and one.get("slug") == slug and isinstance(one.get("name"), str):
                    return _short(one["name"])
            if len(listed) < 100:
                break
        return ""

    async def _known(self, path: str, kept_s: float = KEPT_S) -> Any:
        now = self._clock()
        kept = self._kept.get(path)
        if kept is not None and now < kept[0]:
            return kept[1]
        said = await self._ask(path, self._headers)
        self._kept[path] = (now + kept_s, said)
        self._kept.move_to_end(path)
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        return said


def _replaced(caller: Caller, **changed: Any) -> Caller:
    values = {name: getattr(caller, name) for name in Caller.__dataclass_fields__}
    return Caller(**{**values, **changed})


def _object(said: Any, name: str) -> dict[str, Any]:
    value = said.get(name) if isinstance(said, dict) else None
    if not isinstance(value, dict):
        raise PeerUnavailable(f"GitLab's answer has no {name}")
    return value


def _list(said: dict[str, Any], name: str, limit: int) -> list[Any]:
    value = said.get(name, [])
    if not isinstance(value, list) or len(value) > limit:
        raise PeerUnavailable(f"GitLab's answer has no list of at most {limit} as {name}")
    return value


def _id(said: Any, name: str) -> str:
    value = said.get(name) if isinstance(said, dict) else None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 1 << 63:
        raise PeerUnavailable(f"GitLab's answer has no number as {name}")
    return str(value)


def _text(said: Any, name: str) -> str:
    return _short(said.get(name, "") if isinstance(said, dict) else None, name)


def _short(value: Any, name: str = "a value") -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > 2048 or not value.isprintable():
        raise PeerUnavailable(f"GitLab's answer has no text as {name}")
    return value
