"""A git repository that a test writes commits into."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Self

from dulwich.objects import Blob, Commit, Tree
from dulwich.repo import Repo

MAIN = b"refs/heads/main"
FILE = stat.S_IFREG | 0o644
FOLDER = stat.S_IFDIR
LINK = 0o120000
SUBMODULE = 0o160000


class GitRepository:
    """Made at ``path``; closed at the end of the ``with`` block."""

    def __init__(self, path: Path, *, bare: bool = True) -> None:
        path.mkdir(parents=True)
        self.path = path
        self.repo = Repo.init_bare(str(path)) if bare else Repo.init(str(path))
        self.repo.refs.set_symbolic_ref(b"HEAD", MAIN)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.repo.close()

    def commit(self, files: dict[str, bytes], *, branch: bytes = MAIN, modes: dict[str, int] | None = None) -> str:
        """Commit exactly these files; ``modes`` overrides the mode of a path, and its object is then what the bytes name."""
        tree = self._tree(files, modes or {}, "")
        commit = Commit()
        commit.tree = tree
        commit.author = commit.committer = b"A <a@example.com>"
        commit.commit_time = commit.author_time = 1_700_000_000
        commit.commit_timezone = commit.author_timezone = 0
        commit.message = os.urandom(4).hex().encode()
        self.repo.object_store.add_object(commit)
        self.repo.refs[branch] = commit.id
        return commit.id.decode()

    def _tree(self, files: dict[str, bytes], modes: dict[str, int], at: str) -> bytes:
        tree = Tree()
        for name in sorted({path.partition("/")[0] for path in files}):
            inside = {path.partition("/")[2]: text for path, text in files.items() if path.startswith(f"{name}/")}
            path = f"{at}{name}"
            if path in modes and modes[path] == SUBMODULE:
                tree.add(name.encode(), SUBMODULE, b"a" * 40)
            elif inside:
                tree.add(name.encode(), FOLDER, self._tree(inside, modes, f"{path}/"))
            else:
                blob = Blob.from_string(files[name])
                self.repo.object_store.add_object(blob)
                tree.add(name.encode(), modes.get(path, FILE), blob.id)
        self.repo.object_store.add_object(tree)
        return tree.id

    def pack(self) -> None:
        """As git gc does: everything into one pack, with deltas, and references into packed-refs."""
        self.repo.object_store.pack_loose_objects()
        self.repo.refs.pack_refs(all=True)
