"""Windows never take more than the budgets have."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kastunnel.link.credit import Budget, Window
from kastunnel.link.limits import INITIAL_WINDOW, MAX_WINDOW


@given(st.integers(0, 8 * MAX_WINDOW), st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=80))
def test_growth_is_within_the_budget_and_all_of_it_comes_back(limit, steps):
    process = Budget(limit)
    links = [Budget(3 * MAX_WINDOW, process), Budget(3 * MAX_WINDOW, process)]
    windows = [Window(links[i % 2]) for i in range(6)]
    for which, grow in steps:
        if grow:
            windows[which].grow()
        else:
            windows[which].shrink()
        grown = sum(window.size - INITIAL_WINDOW for window in windows)
        assert process.used == grown <= limit
        assert all(window.size <= MAX_WINDOW for window in windows)
        assert all(link.used <= link.limit for link in links)
    for window in windows:
        window.shrink()
    assert process.used == 0
