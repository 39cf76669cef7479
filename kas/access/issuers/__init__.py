"""Who vouches for callers: one module for each kind of issuer. Nobody else constructs a Caller."""

from __future__ import annotations

from typing import Protocol

from kas.access.caller import Caller


class Issuer(Protocol):
    """Turns a bearer token into the caller that it stands for. Several tasks may ask at once; the gate keeps the answers."""

    async def caller(self, token: bytes) -> Caller | None:
        """The caller, or None for a token that is not this issuer's or that it does not know.

        Raises Unauthenticated (or JobIsOver) for one that is this issuer's and does not count any more, with the reason that its holder
        may read; IssuerUnavailable if that cannot be found out right now. A token that is evidently another issuer's is never sent
        anywhere. Nothing is left behind by a cancellation.
        """


class JobWatch(Protocol):
    """Whether a job still runs, asked of the forge by those who can: once per job, however many streams it has open."""

    async def ensure_running(self, caller: Caller) -> None:
        """Return if the job runs. Raises JobIsOver, or IssuerUnavailable if that cannot be found out right now."""
