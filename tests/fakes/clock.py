"""A wall clock that moves only when told to."""

from __future__ import annotations


class Time:
    """Call it for unix seconds; set ``now`` to move it."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now
