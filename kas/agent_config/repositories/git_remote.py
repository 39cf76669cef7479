"""Git repositories on other machines, over https or ssh: one look at the refs each time, and a fetch of one commit when that is new."""

from __future__ import annotations

import shlex
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import urllib3
from dulwich.client import HttpGitClient, HTTPUnauthorized, SSHGitClient, SubprocessSSHVendor
from dulwich.errors import GitProtocolError, HangupException, NotGitRepository
from dulwich.objects import ObjectID
from dulwich.repo import Repo

from kas.agent_config.repositories import RepositoryProblem
from kas.agent_config.repositories.local import LocalRepository

LIMIT_S = 15.0
MAX_PACKS = 50  # then the cache is made anew: each fetch adds one


class GitRemote:
    """One repository, with a bare cache of its newest commits below ``cache``. Nothing secret is written there."""

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
        self.where = url
        self._ref = None if ref is None else (ref if ref.startswith("refs/") else f"refs/heads/{ref}").encode()
        self._folder = cache / sha256(url.encode()).hexdigest()[:24]
        self._token = token
        self._user = user
        self._ca_file = ca_file
        self._key_file = key_file
        self._known_hosts_file = known_hosts_file
        self._fetching = threading.Lock()

    def __repr__(self) -> str:
        return f"<GitRemote {self.where}>"

    def head(self) -> str:
        """See Repository."""
        with self._client() as (client, path):
            found = self._try(lambda: client.get_refs(path)).refs
        name = self._ref or b"HEAD"
        commit = found.get(name)
        if commit is None:
            raise RepositoryProblem(
                f"{self.where}: {name.decode()} has no commit: push one, or name the branch with `ref`"
            )
        return str(commit.decode("ascii"))

    def read(self, commit: str, path: str, max_bytes: int) -> bytes | None:
        """See Repository. Fetches the commit if it is not in the cache."""
        with self._fetching:
            if not self._has(commit):
                self._fetch(commit)
        return LocalRepository(self._folder).read(commit, path, max_bytes)

    def _has(self, commit: str) -> bool:
        if not (self._folder / "objects").is_dir():
            return False
        with Repo(str(self._folder)) as repo:
            return ObjectID(commit.encode("ascii")) in repo.object_store

    def _fetch(self, commit: str) -> None:
        if len(list((self._folder / "objects" / "pack").glob("*.pack"))) >= MAX_PACKS:
            shutil.rmtree(self._folder)
        wanted = ObjectID(commit.encode("ascii"))
        try:
            if not (self._folder / "objects").is_dir():
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                Repo.init_bare(str(self._folder)).close()
            with self._client() as (client, path), Repo(str(self._folder)) as repo:
                self._try(lambda: client.fetch(path, repo, determine_wants=lambda *_, **__: [wanted], depth=1))
        except OSError as error:
            raise RepositoryProblem(
                f"{self.where}: its cache {self._folder} cannot be written: {error.strerror}"
            ) from error

    @contextmanager
    def _client(self) -> Iterator[tuple[Any, str]]:
        """A client for one question, and the repository's path there."""
        url = self._url
        if url.scheme == "ssh":
            ssh = _Ssh()
            command = shlex.join(self._ssh_words())
            login = url.username or "git"
            try:
                yield SSHGitClient(url.hostname or "", url.port, login, vendor=ssh, ssh_command=command), url.path
            finally:
                ssh.close()
            return
        pool = _Pool(
            cert_reqs="CERT_REQUIRED",
            ca_certs=None if self._ca_file is None else str(self._ca_file),
            timeout=urllib3.Timeout(connect=LIMIT_S, read=LIMIT_S),
            retries=False,
        )
        try:
            base = f"{url.scheme}://{url.netloc}/"
            user = self._user if self._token else None
            yield HttpGitClient(base, pool_manager=pool, username=user, password=self._token), url.path.lstrip("/")
        finally:
            pool.close()

    def _ssh_words(self) -> list[str]:
        words = ["ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes"]
        words += ["-o", f"ConnectTimeout={LIMIT_S:.0f}", "-o", "ServerAliveInterval=5", "-F", "none"]
        if self._known_hosts_file is not None:
            words += ["-o", f"UserKnownHostsFile={self._known_hosts_file}"]
        return words if self._key_file is None else [*words, "-i", str(self._key_file)]

    def _try(self, work: Any) -> Any:
        try:
            return work()
        except HTTPUnauthorized:
            raise RepositoryProblem(f"{self.where}: its token is refused, or none was given (token_file)") from None
        except NotGitRepository:
            raise RepositoryProblem(f"{self.where}: there is no such repository, or its token may not see it") from None
        except HangupException:
            raise RepositoryProblem(
                f"{self.where}: the other end hung up: check the host's key, key_file and the path"
            ) from None
        except GitProtocolError as error:
            raise RepositoryProblem(f"{self.where}: cannot be read: {_plain(error)}") from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise RepositoryProblem(f"{self.where}: cannot be reached: {_plain(error)}") from None
        except (ValueError, KeyError, AssertionError) as error:
            said = type(error).__name__
            raise RepositoryProblem(f"{self.where}: what it answers is not git's protocol ({said})") from None


def _plain(error: Exception) -> str:
    text = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    return text if "@" not in text else type(error).__name__  # never a URL with credentials


class _Ssh(SubprocessSSHVendor):
    """Programs of one question, all of which ``close`` ends: also one whose other end hung up."""

    def __init__(self) -> None:
        self._programs: list[Any] = []

    def run_command(self, *words: Any, **options: Any) -> Any:
        """As SubprocessSSHVendor does."""
        program = super().run_command(*words, **options)
        self._programs.append(program.proc)
        return program

    def close(self) -> None:
        """The end."""
        for process in self._programs:
            process.kill()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    with suppress(OSError, ValueError):
                        pipe.close()
            process.wait()


class _Pool(urllib3.PoolManager):
    """Connections of one question, all of which ``close`` ends: also those of answers that dulwich refused and left unread."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._answers: list[Any] = []

    def request(self, *words: Any, **options: Any) -> Any:
        """As PoolManager does."""
        answer = super().request(*words, **options)
        self._answers.append(answer)
        return answer

    def close(self) -> None:
        """The end."""
        for answer in self._answers:
            answer.close()
        self.clear()
