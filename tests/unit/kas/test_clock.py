from __future__ import annotations

from datetime import UTC, datetime

from kas.clock import system_clock


def test_the_system_clock_is_unix_seconds():
    assert abs(system_clock() - datetime.now(UTC).timestamp()) < 5
