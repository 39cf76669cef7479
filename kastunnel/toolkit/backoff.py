"""Full jitter: a crowd that lost the same server comes back spread out."""

from __future__ import annotations

import random


def full_jitter(ceiling_s: float, rng: random.Random | None = None) -> float:
    """Seconds to wait: uniform between 0 and ``ceiling_s``."""
    return (rng or _RNG).uniform(0, ceiling_s)


_RNG = random.SystemRandom()
