"""Where configuration files come from: one adapter for each kind of repository."""

from __future__ import annotations

from typing import Protocol

from kas.errors import KasError


class RepositoryProblem(KasError):
    """The configuration repository cannot be read."""  # the message says why, for the operator


class DamagedRepository(RepositoryProblem):
    """What is on this machine's disk is not a repository, or not a whole one."""


class Repository(Protocol):
    """One project's repository. Both methods block: they are called in a thread, by one thread at a time."""

    @property
    def where(self) -> str:
        """For people: the path or address, without secrets, and the ref where one is named. Another one is another source."""

    @property
    def is_remote(self) -> bool:
        """Whether its questions go over the network: then it is asked less often, and by itself."""

    def head(self) -> str:
        """The newest commit of the branch that counts. Cheap: it is asked every few seconds. Raises RepositoryProblem."""

    def read(self, commit: str, path: str, max_bytes: int) -> bytes | None:
        """The file at ``path`` in ``commit``; None: there is none. Raises RepositoryProblem, also for one over ``max_bytes``."""


def at_ref(where: str, ref: str | None) -> str:
    """A path or address, and the ref where one is named."""
    return where if ref is None else f"{where} ({ref})"
