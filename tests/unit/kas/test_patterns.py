"""Patterns: as a regular expression would, in linear time."""

from __future__ import annotations

import re
import time

from hypothesis import given
from hypothesis import strategies as st

from kas.patterns import matches, matches_any


@given(st.text(alphabet="ab*", max_size=6), st.text(alphabet="ab", max_size=8))
def test_patterns_match_as_a_regular_expression_would(pattern, name):
    expected = re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name, re.DOTALL) is not None
    assert matches(pattern, name) == expected


def test_a_hostile_pattern_costs_linear_time():
    pattern, name = "*a" * 120 + "*b", "a" * 255
    started = time.perf_counter()
    assert not matches(pattern, name)
    assert time.perf_counter() - started < 0.05


def test_one_of_several_is_enough_and_none_fits_nothing():
    assert matches_any(["a", "b*"], "bc")
    assert not matches_any(["a", "b*"], "c")
    assert not matches_any([], "c")
