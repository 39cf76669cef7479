"""What containers print, kept and followed."""

from __future__ import annotations

import asyncio

import pytest

from kas.demo.practice_cluster import container_logs
from kas.demo.practice_cluster.container_logs import ContainerLog

from .conftest import Clock


@pytest.fixture
def log(clock: Clock) -> ContainerLog:
    return ContainerLog(clock)


def kept(log: ContainerLog) -> list[bytes]:
    return [line.text for line in log.kept()]


async def test_lines_are_kept_whole_however_they_come(log: ContainerLog):
    await log.add("stdout", b"one\ntw")
    await log.add("stderr", b"error\n")
    await log.add("stdout", b"o\nthree")
    assert kept(log) == [b"one\n", b"error\n", b"two\n"]
    log.flush()
    assert kept(log)[-1] == b"three"


async def test_the_oldest_lines_go_first(log: ContainerLog, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(container_logs, "MAX_KEPT_BYTES", 10)
    for number in range(9):
        await log.add("stdout", b"%d...\n" % number)
    assert kept(log) == [b"7...\n", b"8...\n"]
    assert log.count == 9


async def test_a_line_without_end_is_kept_in_pieces(log: ContainerLog):
    await log.add("stdout", b"x" * (container_logs.MAX_LINE_BYTES * 2 + 5))
    assert [len(text) for text in kept(log)] == [container_logs.MAX_LINE_BYTES] * 2


async def test_a_follower_gets_what_comes_until_the_end(log: ContainerLog):
    await log.add("stdout", b"before\n")
    seen: list[bytes] = []

    async def follow() -> None:
        async for lines in log.follow(log.count):
            seen.extend(line.text for line in lines)

    following = asyncio.get_running_loop().create_task(follow())
    await asyncio.sleep(0)
    await log.add("stdout", b"after\nlast")
    log.end()
    await following
    assert seen == [b"after\n", b"last"]


async def test_who_is_attached_is_waited_for_until_it_detaches(log: ContainerLog):
    queue = log.attach()
    for _ in range(container_logs.MAX_PIECES_AHEAD):
        await log.add("stdout", b"x")
    waiting = asyncio.get_running_loop().create_task(log.add("stdout", b"y"))
    await asyncio.sleep(0)
    assert not waiting.done()
    log.detach(queue)
    await waiting
