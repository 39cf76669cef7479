"""Buckets and streams by key."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kas.limits.usage import Rates


def test_a_burst_and_then_so_many_per_second():
    rates = Rates(per_s=10, burst=5)
    taken = 0
    while not rates.take("a", 0.0):
        taken += 1
    assert taken == 5
    assert rates.wait_s("a", 0.0) == 0.1
    assert rates.wait_s("b", 0.0) == 0
    assert rates.wait_s("a", 0.1) == 0
    assert rates.take("a", 0.1) == 0
    assert rates.take("a", 0.1) > 0
    rates.give_back("a")
    assert rates.take("a", 0.1) == 0


@given(st.lists(st.floats(0, 3), min_size=1, max_size=200))
def test_never_more_than_the_burst_and_the_rate_together(gaps):
    rates, now, taken = Rates(per_s=2, burst=3), 0.0, 0
    for gap in gaps:
        now += gap
        expected = rates.wait_s("a", now)
        assert rates.take("a", now) == expected
        taken += not expected
        assert taken <= 3 + 2 * now + 1e-6


@given(st.floats(0, 10), st.floats(0.1, 100))
def test_who_waits_as_long_as_told_is_let_in(used_at, rate):
    rates = Rates(per_s=rate, burst=1)
    rates.take("a", used_at)
    wait_s = rates.wait_s("a", used_at)
    assert rates.wait_s("a", used_at + wait_s + 1e-6) == 0


def test_streams_are_counted_until_they_are_closed():
    rates = Rates(0, 0, max_streams=2)
    for _ in range(2):
        assert not rates.is_full("a")
        rates.open("a", 0.0)
    assert rates.is_full("a")
    assert not rates.is_full("b")
    rates.close("a")
    assert not rates.is_full("a")
    rates.close("b")
    rates.close("nobody")


def test_no_limit_keeps_nothing():
    rates = Rates(0, 0)
    for number in range(1000):
        assert rates.wait_s(number, 0.0) == 0
        rates.take(number, 0.0)
        rates.open(number, 0.0)
    assert len(rates) == 0


def test_a_flood_of_keys_costs_bounded_memory_and_pushes_no_open_stream_out():
    rates = Rates(1, 1, max_streams=1, max_keys=100)
    rates.open("streaming", 0.0)
    for number in range(1000):
        rates.take(number, 0.0)
    assert len(rates) <= 100
    assert rates.is_full("streaming")
