"""Every task has an owner that ends it."""

from __future__ import annotations

import asyncio
import logging

import pytest

from kastunnel.toolkit.tasks import LoopEnded, TaskOwner, background


async def test_background_loops_end_with_the_block() -> None:
    ended = []

    async def loop() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append(True)

    async with background(loop=loop):
        await asyncio.sleep(0)
    assert ended == [True]


async def test_a_loop_that_returns_ends_the_block() -> None:
    async def returns() -> None:
        return

    with pytest.raises(ExceptionGroup) as group:
        async with background(returns=returns):
            await asyncio.sleep(3600)
    assert group.group_contains(LoopEnded)


async def test_a_loop_that_fails_ends_the_block() -> None:
    async def fails() -> None:
        raise ValueError("no")

    with pytest.raises(ExceptionGroup) as group:
        async with background(fails=fails):
            await asyncio.sleep(3600)
    assert group.group_contains(ValueError)


async def test_an_owner_cancels_and_awaits_what_still_runs() -> None:
    ended = []

    async def work() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append(True)

    async with TaskOwner("test") as owner:
        owner.spawn(work(), name="one")
        await asyncio.sleep(0)
        assert repr(owner) == "<TaskOwner test tasks=1 closed=False>"
    assert ended == [True]
    assert len(owner) == 0


async def test_a_failed_task_is_logged_and_takes_nobody_with_it(caplog: pytest.LogCaptureFixture) -> None:
    async def fails() -> None:
        raise ValueError("no")

    async with TaskOwner("test") as owner:
        with caplog.at_level(logging.ERROR):
            owner.spawn(fails(), name="bad")
            await asyncio.sleep(0.01)
    assert [record.message for record in caplog.records] == ["task failed"]


async def test_a_closed_owner_takes_no_work() -> None:
    owner = TaskOwner("test")
    await owner.close()

    async def work() -> None:
        raise AssertionError("must not run")

    with pytest.raises(RuntimeError, match="test is closed"):
        owner.spawn(work(), name="late")
