"""Git repositories on this machine's disk, bare or with a work tree, read without a checkout and without a git program."""

from __future__ import annotations

import stat
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from dulwich.errors import ApplyDeltaError, ChecksumMismatch, FileFormatException, NotGitRepository
from dulwich.objects import Blob, Commit, ObjectID, Tree
from dulwich.pack import PackFileDisappeared, UnresolvedDeltas
from dulwich.refs import SymrefLoop
from dulwich.repo import Repo, UnsupportedExtension, UnsupportedVersion

from kas.agent_config.repositories import DamagedRepository, RepositoryProblem, at_ref
from kas.agent_config.repositories.bounded_objects import largest_part
from kas.names import check_project

MAX_TREE_BYTES = 16 * 1024 * 1024  # a folder of 400,000 files; larger ones are not for configuration
_LINK = 0o120000
_SUBMODULE = 0o160000
_DAMAGE = (  # what dulwich raises about objects that are cut, changed, or not there
    KeyError,
    IndexError,
    ValueError,
    AssertionError,
    ApplyDeltaError,
    ChecksumMismatch,
    FileFormatException,
    PackFileDisappeared,
    UnresolvedDeltas,
    zlib.error,
)


class LocalRepository:
    """One repository. Nothing is kept open between two calls."""

    is_remote = False

    def __init__(self, path: Path, ref: str | None = None) -> None:
        """``ref``: a branch, or a full name that begins with ``refs/``; without it HEAD, the default branch."""
        self._path = path
        self.where = at_ref(str(path), ref)
        self._ref = b"HEAD" if ref is None else (ref if ref.startswith("refs/") else f"refs/heads/{ref}").encode()
        self._refs: Any = (
            None  # kept: it reads files anew each time, and opening a repository costs seven times as much
        )

    def __repr__(self) -> str:
        return f"<LocalRepository {self.where}>"

    @property
    def exists(self) -> bool:
        """Whether there is a folder."""
        return self._path.is_dir()

    def head(self) -> str:
        """See Repository."""
        with self._problems():
            if self._refs is None or not self._path.exists():
                with self._open() as repo:
                    self._refs = repo.refs
            names, commit = self._refs.follow(self._ref)
        if commit is None:
            branch = names[-1].decode(errors="replace")
            raise RepositoryProblem(f"{self.where}: {branch} has no commit: push one, or name the branch with `ref`")
        return str(commit.decode("ascii"))

    def has(self, commit: str) -> bool:
        """Whether the commit is there; what it holds may not be. Raises RepositoryProblem."""
        with self._problems(), self._open() as repo:
            return ObjectID(commit.encode("ascii")) in repo.object_store

    def read(self, commit: str, path: str, max_bytes: int) -> bytes | None:
        """See Repository. Links and submodules on the way are refused: what they lead to is not what was reviewed."""
        with self._problems(), self._open() as repo:
            found: Any = self._object(repo, ObjectID(commit.encode("ascii")), Commit, MAX_TREE_BYTES)
            sha: ObjectID = found.tree
            walked = ""
            *folders, name = path.split("/")
            for folder in folders:
                walked += f"{folder}/"
                entry = self._entry(repo, sha, folder, walked)
                if entry is None or not stat.S_ISDIR(entry[0]):
                    return None
                sha = entry[1]
            entry = self._entry(repo, sha, name, path)
            if entry is None or not stat.S_ISREG(entry[0]):
                return None
            blob: Any = self._object(repo, entry[1], Blob, max_bytes)
            return bytes(blob.data)

    def _entry(self, repo: Repo, tree: ObjectID, name: str, path: str) -> tuple[int, ObjectID] | None:
        folder: Any = self._object(repo, tree, Tree, MAX_TREE_BYTES)
        try:
            mode, sha = folder[name.encode()]
        except KeyError:
            return None
        if stat.S_IFMT(mode) in (_LINK, _SUBMODULE):
            kind = "symbolic link" if stat.S_IFMT(mode) == _LINK else "submodule"
            raise RepositoryProblem(f"{path.rstrip('/')} is a {kind}: the file itself was expected")
        return mode, sha

    def _object(self, repo: Repo, sha: ObjectID, kind: type, max_bytes: int) -> Any:
        size = largest_part(repo.object_store, sha)
        if size > max_bytes:
            what = "the file is" if kind is Blob else f"{sha[:8].decode('ascii')} is"
            raise RepositoryProblem(f"{what} larger than {max_bytes} bytes")
        repo.object_store.loose_object_size_limit = max_bytes + _HEADER_ROOM  # in case the header lies
        found = repo.object_store[sha]
        if not isinstance(found, kind):
            raise RepositoryProblem(f"{self.where}: {sha.decode('ascii')} is not a {kind.__name__.lower()}")
        return found

    @contextmanager
    def _open(self) -> Iterator[Repo]:
        repo = Repo(str(self._path))
        try:
            yield repo
        finally:
            repo.close()

    @contextmanager
    def _problems(self) -> Iterator[None]:
        """Everything that a missing or damaged repository makes dulwich raise."""
        try:
            yield
        except NotGitRepository:
            self._refs = None
            exists = self._path.exists()
            reason = "this is not a git repository" if exists else "there is no such folder"
            raise DamagedRepository(f"{self.where}: {reason}") from None
        except (OSError, SymrefLoop) as error:
            self._refs = None
            raise RepositoryProblem(f"{self.where}: cannot be read: {error}") from error
        except (UnsupportedVersion, UnsupportedExtension) as error:
            raise RepositoryProblem(f"{self.where}: this format of repository is not supported: {error}") from error
        except _DAMAGE as error:
            self._refs = None
            reason = f"the repository is damaged or incomplete ({type(error).__name__})"
            raise DamagedRepository(f"{self.where}: {reason}") from error


_HEADER_ROOM = 64  # "blob 131072\0" in front of a loose object's content


OWN_ISSUER = "kas"  # as kas.access.caller calls it


class RepositorySettings(Protocol):
    """One entry of ``configuration_repositories`` in kas.yaml: project and path, or root."""

    @property
    def project(self) -> str | None:
        """The project that the repository belongs to."""

    @property
    def path(self) -> Path | None:
        """Where it is."""

    @property
    def root(self) -> Path | None:
        """Instead: the folder of all repositories."""

    @property
    def issuer(self) -> str:
        """Whose projects they are."""

    @property
    def ref(self) -> str | None:
        """The branch; None: the default one."""


class LocalRepositories:
    """Which repository belongs to which project: the first entry of the settings that knows it."""

    def __init__(self, settings: Sequence[RepositorySettings]) -> None:
        self._settings = settings
        self._found: dict[tuple[str, str], LocalRepository] = {}

    def poll_s(self, project: str, issuer: str) -> float:
        """See Repositories: none is on another machine."""
        return 0.0

    def tell(self, project: str, issuer: str, name: str, commit: str, mistake: str) -> None:
        """See Repositories: none is on another machine."""

    def find(self, project: str, issuer: str = OWN_ISSUER) -> LocalRepository | None:
        """The project's repository; None: no entry of its issuer names it. Blocks."""
        found = self._found.get((issuer, project))
        if found is not None:
            return found
        missing = None
        for entry in self._settings:
            if entry.issuer != issuer:
                continue
            for path in _candidates(entry, project):
                repository = LocalRepository(path, entry.ref)
                if path.is_dir():
                    self._found[issuer, project] = repository
                    return repository
                missing = missing or repository
        return missing  # it may come: to say that it is missing is better than to say that nobody configured it


def _candidates(entry: RepositorySettings, project: str) -> Iterator[Path]:
    if entry.path is not None and entry.project == project:
        yield entry.path
    if entry.root is not None:
        path = entry.root.joinpath(*check_project(project).split("/"))  # a checked path has no part that leads out
        yield path.with_name(path.name + ".git")
        yield path
