from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kas.store import Store, open_store
from tests.fakes.clock import Time


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/kas.db"


@pytest.fixture
async def store(url: str, time: Time) -> AsyncIterator[Store]:
    async with open_store(url, clock=time) as opened:
        yield opened
