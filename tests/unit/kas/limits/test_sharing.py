"""Turns at a busy agent: by weight, never more than there are, and nothing is left behind."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kas.errors import TooManyRequests
from kas.limits.sharing import Turns


def turns(max_in_flight: int = 1, max_waiting: int = 1000, **weights: float) -> Turns:
    return Turns(max_in_flight, max_waiting, lambda project: weights.get(str(project), 1.0))


async def settle() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_a_turn_is_had_at_once_while_there_are_some():
    shared = turns(2)
    assert [shared.take(), shared.take(), shared.take()] == [True, True, False]
    shared.leave()
    assert shared.take()


async def test_who_waits_gets_the_next_turn_and_nobody_passes():
    shared = turns()
    assert shared.take()
    waiter = asyncio.create_task(shared.wait("a", 10))
    await settle()
    assert not shared.take()
    shared.leave()
    assert not shared.take()  # it is the waiter's already
    await waiter
    shared.leave()
    assert shared.is_idle


async def order(shared: Turns, waiting: list[str]) -> list[str]:
    """In which order these projects' requests get their turns, one at a time."""
    assert shared.take()
    got: list[str] = []

    async def one(project: str) -> None:
        await shared.wait(project, 60)
        got.append(project)

    async with asyncio.TaskGroup() as group:
        for project in waiting:
            group.create_task(one(project))
        await settle()
        for _ in range(len(waiting) + 1):
            shared.leave()
            await settle()
    assert shared.is_idle
    return got


@pytest.mark.parametrize(("weight", "share"), [(1.0, 0.5), (3.0, 0.75), (0.25, 0.2), (9.0, 0.9)])
async def test_busy_projects_get_turns_in_proportion_to_their_weights(weight, share):
    got = await order(turns(a=weight), ["a"] * 400 + ["b"] * 400)
    both_busy = got[: int(400 / max(share, 1 - share)) - 1]
    assert abs(Counter(both_busy)["a"] / len(both_busy) - share) < 0.05


async def test_a_project_that_was_idle_waits_for_few_others():
    got = await order(turns(), ["busy"] * 100 + ["idle"])
    assert got.index("idle") <= 2


async def test_a_crowd_of_one_project_starves_nobody():
    got = await order(turns(big=10.0), ["big"] * 200 + ["small"] * 5)
    assert got.index("small") <= 12


async def test_too_many_waiting_of_one_project_are_refused_at_once_and_others_are_not():
    shared = turns(max_waiting=2)
    assert shared.take()
    waiting = [asyncio.create_task(shared.wait("a", 10)) for _ in range(2)]
    await settle()
    with pytest.raises(TooManyRequests, match="2 requests of the project wait"):
        await shared.wait("a", 10)
    other = asyncio.create_task(shared.wait("b", 10))
    await settle()
    for task in (*waiting, other):
        task.cancel()
    await asyncio.gather(*waiting, other, return_exceptions=True)
    shared.leave()
    assert shared.is_idle


@pytest.mark.looptime
async def test_waiting_has_an_end_and_leaves_nothing():
    shared = turns()
    assert shared.take()
    with pytest.raises(TooManyRequests, match="no turn for the project within 10 s"):
        await shared.wait("a", 10)
    shared.leave()
    assert shared.is_idle


async def test_a_turn_that_is_given_while_its_waiter_is_cancelled_is_given_on():
    shared = turns()
    assert shared.take()
    waiter = asyncio.create_task(shared.wait("a", 10))
    await settle()
    shared.leave()  # the turn is the waiter's now
    waiter.cancel()  # in the same moment
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert shared.is_idle


@settings(max_examples=50)
@given(st.lists(st.tuples(st.sampled_from(["arrive", "leave", "cancel"]), st.sampled_from("abc")), max_size=60))
def test_no_schedule_admits_too_many_or_forgets_anybody(steps):
    async def play() -> None:
        shared = turns(2, a=2.0, b=0.5)
        inside = 0
        waiting: list[asyncio.Task[None]] = []

        def done(task: asyncio.Task[None]) -> None:
            nonlocal inside
            waiting.remove(task)
            inside += not task.cancelled() and task.exception() is None

        for step, project in steps:
            if step == "arrive":
                if shared.take():
                    inside += 1
                else:
                    task = asyncio.create_task(shared.wait(project, 60))
                    waiting.append(task)
                    task.add_done_callback(done)
            elif step == "leave" and inside:
                inside -= 1
                shared.leave()
            elif step == "cancel" and waiting:
                waiting[0].cancel()
            await settle()
            assert inside == shared.in_flight <= 2
            assert not waiting or inside == 2
        while waiting or inside:
            if inside:
                inside -= 1
                shared.leave()
            await settle()
        assert shared.is_idle

    asyncio.run(play())


async def test_waiters_that_went_away_cost_their_project_nothing_and_leave_nothing_while_others_wait():
    shared = turns()
    assert shared.take()
    got: list[str] = []

    async def one(project: str) -> None:
        await shared.wait(project, 60)
        got.append(project)

    busy = [asyncio.create_task(one("busy")) for _ in range(20)]
    await settle()
    for _ in range(500):
        gone = asyncio.create_task(shared.wait("unlucky", 60))
        await settle()
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
    assert len(shared._heap) + len(shared._finish) < 100
    last = asyncio.create_task(one("unlucky"))
    await settle()
    for _ in range(22):
        shared.leave()
        await settle()
    await asyncio.gather(*busy, last)
    assert got.index("unlucky") <= 2
    assert shared.is_idle


async def test_projects_that_pass_by_starve_nobody_and_are_forgotten(monkeypatch):
    monkeypatch.setattr("kas.limits.sharing.MAX_REMEMBERED", 50)
    shared = turns(a=0.0001)
    assert shared.take()
    slow = [asyncio.create_task(shared.wait("a", 60)) for _ in range(2)]
    await settle()
    passing = [asyncio.create_task(shared.wait(f"p{number}", 60)) for number in range(1000)]
    await settle()
    shared.leave()
    await settle()
    assert slow[0].done()
    for _ in range(990):
        shared.leave()
        await settle()
    assert not slow[1].done()  # its weight is small, and others wait
    assert len(shared._heap) + len(shared._finish) < 300
    while not shared.is_idle:
        shared.leave()
        await settle()
    await asyncio.gather(*slow, *passing)
