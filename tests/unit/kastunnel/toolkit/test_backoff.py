"""A crowd comes back spread out."""

from __future__ import annotations

import random

from kastunnel.toolkit.backoff import full_jitter


def test_pauses_fill_the_whole_interval_and_nothing_beyond():
    rng = random.Random(1)
    pauses = [full_jitter(10, rng) for _ in range(2000)]
    assert 0 <= min(pauses) < 0.1
    assert 9.9 < max(pauses) <= 10
