"""What every ring of tests needs."""

from __future__ import annotations

import asyncio


def pytest_configure() -> None:
    """Say once that there is no event loop: else pytest-asyncio makes asyncio invent one that nobody ever closes."""
    asyncio.set_event_loop(None)
