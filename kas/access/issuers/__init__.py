"""Who vouches for callers: one module for each kind of issuer. Nobody else constructs a Caller."""

from __future__ import annotations

from typing import Protocol

from kas.access.caller import Caller


class Issuer(Protocol):
    """Turns a bearer token into the caller that it stands for. Several tasks may ask at once; the gate keeps the answers."""

    async def caller(self, token: bytes) -> Caller | None:
        """The caller, or None for a token that is not this issuer's, is unknown, has expired or was revoked.

        Raises IssuerUnavailable if that cannot be found out right now. Nothing is left behind by a cancellation.
        """
