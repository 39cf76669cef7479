"""Git repositories on other machines, over https or ssh: one look at the refs each time, and a fetch of one commit when that is new."""

from __future__ import annotations

import fcntl
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import urllib3
from dulwich.client import HTTPUnauthorized
from dulwich.errors import GitProtocolError, HangupException, NotGitRepository
from dulwich.objects import ObjectID
from dulwich.repo import Repo

from kas.agent_config.repositories import DamagedRepository, RepositoryProblem, at_ref
from kas.agent_config.repositories.bounded_packs import UnfitPack, check_pack
from kas.agent_config.repositories.git_questions import DEADLINE_S, HttpsQuestion, Overrun, Question, SshQuestion
from kas.agent_config.repositories.local import LocalRepository
from kas.outbound import PeerUnavailable

MAX_PACKS = 50  # then the cache is made anew: each fetch adds one
_FILTER = b"blob:limit=2m"  # larger files are no configuration; servers that cannot leave them out send everything
_T = TypeVar("_T")


class GitRemote:
    """One repository, with a bare cache of its newest commits below ``cache``. Nothing secret is written there.

    Several processes may use one cache. ``close`` ends the questions that are being asked; it may be called from any thread.
    """

    is_remote = True

    def __init__(
        self,
        url: str,
        cache: Path,
        ref: str | None = None,
        *,
        token: str | None = None,
        user: str = "kas",
        ca_file: Path | None = None,
        key_file: Path | None = None,
        known_hosts_file: Path | None = None,
    ) -> None:
        """``token``: the password of https. ``key_file`` and ``known_hosts_file``: of ssh, whose host keys are always checked."""
        self._url = urlsplit(url)
        self.where = at_ref(url, ref)
        self._ref = None if ref is None else (ref if ref.startswith("refs/") else f"refs/heads/{ref}").encode()
        self._folder = cache / sha256(url.encode()).hexdigest()[:24]
        self._token = token
        self._user = user
        self._ca_file = ca_file
        self._key_file = key_file
        self._known_hosts_file = known_hosts_file
        self._asked: set[Question] = set()
        self._is_closed = False
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<GitRemote {self.where}>"

    def head(self) -> str:
        """See Repository."""
        found = self._ask(lambda question: question.client.get_refs(question.path).refs)
        name = self._ref or b"HEAD"
        commit = found.get(name)
        if commit is None:
            raise RepositoryProblem(
                f"{self.where}: {name.decode()} has no commit: push one, or name the branch with `ref`"
            )
        return str(commit.decode("ascii"))

    def read(self, commit: str, path: str, max_bytes: int) -> bytes | None:
        """See Repository. Fetches the commit if it is not in the cache; a damaged cache is made anew."""
        with self._cache():
            if self._has(commit):
                with suppress(DamagedRepository):
                    return LocalRepository(self._folder).read(commit, path, max_bytes)
                shutil.rmtree(self._folder, ignore_errors=True)
            self._fetch(commit)
            try:
                return LocalRepository(self._folder).read(commit, path, max_bytes)
            except DamagedRepository as error:  # of what came just now
                raise RepositoryProblem(
                    f"{self.where}: {path} did not come with the commit: it is larger than 2 MB, or damaged there ({error})"
                ) from None

    def close(self) -> None:
        """Hang up, and ask nothing more."""
        with self._lock:
            self._is_closed = True
            asked = list(self._asked)
        for question in asked:
            question.hang_up()

    @contextmanager
    def _cache(self) -> Iterator[None]:
        """One at a time, also of other processes."""
        try:
            self._folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._folder.with_suffix(".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> RepositoryProblem:
        return RepositoryProblem(f"{self.where}: its cache {self._folder} cannot be written: {error.strerror}")

    def _has(self, commit: str) -> bool:
        """Whether the cache has the commit. What is not a repository (we were killed while making it) is removed."""
        if not self._folder.is_dir():
            return False
        try:
            return LocalRepository(self._folder).has(commit)
        except RepositoryProblem:
            shutil.rmtree(self._folder)
            return False

    def _fetch(self, commit: str) -> None:
        if len(list((self._folder / "objects" / "pack").glob("*.pack"))) >= MAX_PACKS:
            shutil.rmtree(self._folder)
        if not self._folder.is_dir():
            self._folder.mkdir(mode=0o700)
            Repo.init_bare(str(self._folder)).close()
        with Repo(str(self._folder)) as repo:
            pack, commit_pack, abort = repo.object_store.add_pack()

            def write(data: bytes) -> None:
                try:
                    pack.write(data)
                except OSError as error:  # else it would be taken for the network's
                    raise self._unwritable(error) from error

            try:
                self._ask(lambda question: _fetch_pack(question, repo, commit, write))
                pack.flush()
                check_pack(pack, repo.object_format.oid_length)
            except BaseException as error:
                abort()
                if isinstance(error, UnfitPack):
                    raise RepositoryProblem(f"{self.where}: what it sends is refused: {error}") from None
                raise
            commit_pack()

    def _made(self) -> Question:
        if self._url.scheme == "ssh":
            return SshQuestion(self._url, self._key_file, self._known_hosts_file)
        try:
            return HttpsQuestion(self._url, self._user, self._token, self._ca_file)
        except PeerUnavailable as error:
            raise RepositoryProblem(f"{self.where}: {error}") from None

    @contextmanager
    def _question(self) -> Iterator[Question]:
        with self._made() as question:
            with self._lock:
                if self._is_closed:
                    raise RepositoryProblem(f"{self.where}: the question was given up")
                self._asked.add(question)
            try:
                yield question
            finally:
                with self._lock:
                    self._asked.discard(question)

    def _ask(self, work: Callable[[Question], _T]) -> _T:
        with self._question() as question:
            try:
                return work(question)
            except Exception as error:
                if question.has_ended:
                    why = "the question was given up" if self._is_closed else f"no whole answer within {DEADLINE_S:g} s"
                    raise RepositoryProblem(f"{self.where}: {why}") from None
                said = _meaning(error, question)
                if said is None:
                    raise
                raise RepositoryProblem(f"{self.where}: {said}") from None


def _fetch_pack(question: Question, repo: Repo, commit: str, write: Callable[[bytes], object]) -> None:
    wanted = ObjectID(commit.encode("ascii"))
    question.client.fetch_pack(
        question.path,
        lambda *_, **__: [wanted],
        repo.get_graph_walker(),
        write,
        depth=1,
        filter_spec=_FILTER,
    )


def _meaning(error: Exception, question: Question) -> str | None:
    """What an error of dulwich or of the network means to the operator; None: it is none of theirs."""
    said = f" ({question.complaint})" if question.complaint else ""
    meanings = (
        (HTTPUnauthorized, "its token is refused, or none was given (token_file)"),
        (NotGitRepository, "there is no such repository, or its token may not see it"),
        (HangupException, f"the other end hung up{said}: check the host's key, key_file and the path"),
        (Overrun, f"what it sends is refused: {error}"),
        (GitProtocolError, f"cannot be read: {_plain(error)}"),
        ((urllib3.exceptions.HTTPError, OSError), f"cannot be reached: {_plain(error)}"),
        (
            (ValueError, KeyError, AssertionError),
            f"what it answers is not git's protocol ({type(error).__name__}){said}",
        ),
    )
    return next((meaning for kind, meaning in meanings if isinstance(error, kind)), None)


def _plain(error: Exception) -> str:
    text = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    return text if "@" not in text else type(error).__name__  # never a URL with credentials
