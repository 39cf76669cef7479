"""The wall clock as something that can be handed in, so that tests own time."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]  # unix seconds


def system_clock() -> float:
    """Unix seconds by this machine's clock."""
    return time.time()  # noqa: TID251 - the one place that reads it
