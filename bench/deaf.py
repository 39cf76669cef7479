"""What one watch of a thousand that is never read does to the others: how long their events take, with it and without it, in one run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from statistics import median, quantiles
from typing import cast

import uvloop

from bench.clients import AT_ONCE, ask, trusting
from bench.load import Target
from bench.machine import memory_kib
from bench.measure import Effort, Figures
from bench.nginx import WATCH
from bench.parts import Parts

PACE_MS = 1_000  # between two events of a watch that is read: with a thousand watches, a thousand events a second
EVENT_BYTES = 1_000
FLOOD_MS, FLOOD_BYTES = 5, 16_000  # of the one that is not: what may be kept for it is full within a second
FULL_S = 3.0
_AT = b'"at": '


class Delays:
    """Milliseconds from an event's making to its arrival, while somebody wants them."""

    def __init__(self) -> None:
        self.collected: list[float] | None = None

    def came(self, event: bytes) -> None:
        """One event: a line of JSON with the moment in which it was made."""
        if self.collected is not None:
            begin = event.index(_AT) + len(_AT)
            made = float(event[begin : event.index(b",", begin)])
            self.collected.append((time.monotonic() - made) * 1000)

    async def p99_ms(self, seconds: float) -> float:
        """Of the events that come within ``seconds``."""
        self.collected = []
        await asyncio.sleep(seconds)
        found, self.collected = self.collected, None
        if len(found) < 100:
            raise RuntimeError(f"{len(found)} events came")
        return quantiles(found, n=100)[98]


def one_deaf_watch(parts: Parts, effort: Effort) -> Figures:
    """p99 of the events of all watches but one, with that one open and never read, against the same without it."""
    return uvloop.run(_measured(parts, effort))


async def _measured(parts: Parts, effort: Effort) -> Figures:
    delays = Delays()
    runs: dict[bool, list[float]] = {False: [], True: []}
    grown: list[float] = []
    async with _read_watches(parts.ours, effort.idle_watches - 1, delays):
        await asyncio.sleep(FULL_S)
        before = _memory_mib(parts)
        for _ in range(2 * effort.rounds):
            runs[False].append(await delays.p99_ms(effort.seconds))
            async with _deaf_watch(parts.ours):
                await asyncio.sleep(FULL_S)
                runs[True].append(await delays.p99_ms(effort.seconds))
                grown.append(_memory_mib(parts) - before)
            await asyncio.sleep(FULL_S)
    without, beside = median(runs[False]), median(runs[True])
    return {
        "deaf_without_p99_ms": without,
        "deaf_beside_p99_ms": beside,
        "deaf_p99_ratio": beside / without,
        "deaf_mib": max(grown),
    }


@asynccontextmanager
async def _read_watches(target: Target, count: int, delays: Delays) -> AsyncIterator[None]:
    tls = trusting()
    gate = asyncio.Semaphore(AT_ONCE)
    waiting = count
    all_open = asyncio.Event()

    async def watch() -> None:
        nonlocal waiting
        async with gate:
            reader, writer = await ask(target, f"{WATCH}&every_ms={PACE_MS}&bytes={EVENT_BYTES}", tls)
        waiting -= 1
        if not waiting:
            all_open.set()
        try:
            async for line in reader:
                if line.startswith(b"{"):
                    delays.came(line)
        finally:
            writer.transport.abort()
        raise RuntimeError("a watch ended")

    async with asyncio.TaskGroup() as group:
        watching = [group.create_task(watch()) for _ in range(count)]
        await all_open.wait()
        yield
        for task in watching:
            task.cancel()


@asynccontextmanager
async def _deaf_watch(target: Target) -> AsyncIterator[None]:
    """A watch with far more events than anybody may keep, of which nothing is read behind the head."""
    _, writer = await ask(target, f"{WATCH}&every_ms={FLOOD_MS}&bytes={FLOOD_BYTES}", trusting())
    transport = cast("asyncio.Transport", writer.transport)  # uvloop has a class of its own
    transport.pause_reading()
    try:
        yield
    finally:
        transport.abort()


def _memory_mib(parts: Parts) -> float:
    return sum(memory_kib(pid) for pid in parts.ours.pids.values()) / 1024
