"""The outside world of a link in two methods."""

from __future__ import annotations

from typing import Protocol


class StreamLost(Exception):
    """The stream is gone: cut, cancelled, or ended by the other side. The link may be resumed on a new one."""


class Duplex(Protocol):
    """One stream of envelopes. One task may read while another writes; neither is called twice at once.

    Whoever opened it closes it. A cancelled ``write`` may have sent the envelope or not; a cancelled ``read`` loses none.
    """

    async def read(self) -> bytes:
        """The next envelope. Raises StreamLost."""

    async def write(self, envelope: bytes) -> None:
        """Send one envelope; returns when the transport takes more. Raises StreamLost."""
