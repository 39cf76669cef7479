"""What every ring of tests needs."""

from __future__ import annotations

import asyncio

from hypothesis import HealthCheck, settings

# How fast examples are made and run says something about the machine, never about the code: a busy one must not fail a test.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])


def pytest_configure() -> None:
    """Say once that there is no event loop: else pytest-asyncio makes asyncio invent one that nobody ever closes."""
    asyncio.set_event_loop(None)
    settings.load_profile("default")
