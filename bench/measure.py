"""What is measured, each by one function from Parts and Effort to figures. Names end in their unit; ratios are ours over nginx's."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from statistics import median
from urllib.parse import urlsplit

import uvloop

from bench import load
from bench.clients import Arrivals, Road, checked_download, checked_watch, slow_reader, watches
from bench.load import Run, Target
from bench.machine import memory_kib
from bench.nginx import DOWNLOAD, LIST, POD, UPLOAD, WATCH
from bench.parts import HERE, Parts
from tests.support.ports import free_ports

Figures = dict[str, float]

CONNECTIONS = (1, 32, 128)
SLOW_BYTES_PER_S = 100_000
EVENT_MS = 5
SETTLE_S = 1.0  # for buffers to be given back
STEADY_S = 5.5  # agentk dials at once after a cut only if the link was steady for 5 s
AFTER_CUT_S = 1.5  # in which a pause is looked for
FIRST_PIECES = 64  # of the download, which has some hundreds, come before the cut


@dataclass(frozen=True)
class Effort:
    """How long and how often. Medians are taken over ``rounds``, in which the two sides alternate."""

    seconds: float = 6
    rounds: int = 3
    idle_watches: int = 1000
    idle_agents: int = 200


QUICK = Effort(seconds=2, rounds=1, idle_watches=300, idle_agents=50)


def _middle(runs: list[Run]) -> Run:
    return Run(
        median(run.rps for run in runs),
        median(run.mb_per_s for run in runs),
        median(run.p50_ms for run in runs),
        median(run.p99_ms for run in runs),
        {name: median(run.cpu_ms[name] for run in runs) for name in runs[0].cpu_ms},
    )


def _side_by_side(parts: Parts, effort: Effort, path: str, connections: int) -> tuple[Run, Run]:
    """Ours and nginx's, alternating, after a short run of each that warms up."""
    sides: list[tuple[Target, list[Run]]] = [(parts.reference, []), (parts.ours, [])]
    for target, _ in sides:
        load.wrk(target, path, connections, 1)
    for _ in range(effort.rounds):
        for target, runs in sides:
            runs.append(load.wrk(target, path, connections, effort.seconds))
    return _middle(sides[1][1]), _middle(sides[0][1])


def small_requests(parts: Parts, effort: Effort) -> Figures:
    """A pod of 1.9 kB, at 1, 32 and 128 connections; CPU time at 32."""
    figures: Figures = {}
    for connections in CONNECTIONS:
        ours, nginx = _side_by_side(parts, effort, POD, connections)
        name = f"get_c{connections}"
        for side, run in (("ours", ours), ("nginx", nginx)):
            figures[f"{name}_{side}_rps"] = run.rps
            figures[f"{name}_{side}_p50_ms"] = run.p50_ms
            figures[f"{name}_{side}_p99_ms"] = run.p99_ms
        figures[f"{name}_ratio"] = ours.rps / nginx.rps
        figures[f"{name}_p50_ratio"] = ours.p50_ms / nginx.p50_ms
        if connections == 32:
            figures["cpu_ms_kas"] = ours.cpu_ms["kas"]
            figures["cpu_ms_agentk"] = ours.cpu_ms["agentk"]
            figures["cpu_ms_nginx"] = nginx.cpu_ms["nginx"]
    return figures


def lists(parts: Parts, effort: Effort) -> Figures:
    """A list of 250 kB, at 8 connections."""
    ours, nginx = _side_by_side(parts, effort, LIST, 8)
    return {
        "list_c8_ours_mb_per_s": ours.mb_per_s,
        "list_c8_nginx_mb_per_s": nginx.mb_per_s,
        "list_c8_ours_p99_ms": ours.p99_ms,
        "list_c8_nginx_p99_ms": nginx.p99_ms,
        "list_c8_ratio": ours.mb_per_s / nginx.mb_per_s,
    }


def _bulk(parts: Parts, effort: Effort, name: str, once: Callable[[Target], float]) -> Figures:
    speeds: dict[str, list[float]] = {"nginx": [], "kas": []}
    for round_number in range(effort.rounds + 1):  # the first warms up
        for target in (parts.reference, parts.ours):
            speed = once(target)
            if round_number:
                speeds[target.name].append(speed)
    ours, nginx = median(speeds["kas"]), median(speeds["nginx"])
    return {f"{name}_ours_mb_per_s": ours, f"{name}_nginx_mb_per_s": nginx, f"{name}_ratio": ours / nginx}


def downloads(parts: Parts, effort: Effort) -> Figures:
    """One answer of 256 MiB, one connection."""
    return _bulk(parts, effort, "download", lambda target: load.download(target, DOWNLOAD))


def uploads(parts: Parts, effort: Effort) -> Figures:
    """One body of 256 MiB, one connection; counted at its end."""
    return _bulk(parts, effort, "upload", lambda target: load.upload(target, UPLOAD, parts.bulk_file))


def idle_watches(parts: Parts, effort: Effort) -> Figures:
    """Memory of a watch that waits, in kas and in agentk: the slope beyond a tenth as many that were there before."""

    async def hold() -> Figures:
        async with watches(parts.ours, WATCH, effort.idle_watches // 10):
            await asyncio.sleep(SETTLE_S)
            before = {name: memory_kib(pid) for name, pid in parts.ours.pids.items()}
            async with watches(parts.ours, WATCH, effort.idle_watches):
                await asyncio.sleep(SETTLE_S)
                return {
                    f"watch_kib_{name}": (memory_kib(pid) - before[name]) / effort.idle_watches
                    for name, pid in parts.ours.pids.items()
                }

    return uvloop.run(hold())


def idle_agents(parts: Parts, effort: Effort) -> Figures:
    """Memory in kas of a link that waits; agentk's own code at the other end."""
    product = parts.product
    files = str(parts.idle.token_file), str(product.ca_file)
    command = [sys.executable, str(HERE / "idle_agents.py"), product.kas_address, *files]
    counts = (max(1, effort.idle_agents // 10), effort.idle_agents)
    memory: list[int] = []
    running: list[subprocess.Popen[str]] = []
    try:
        for count in counts:
            popen = subprocess.Popen(
                [*command, str(count), f"idle-{len(running)}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=HERE.parent,
                start_new_session=True,
            )
            running.append(popen)
            assert popen.stdout is not None
            if popen.stdout.readline().strip() != "linked":
                raise RuntimeError("the idle agents could not be linked")
            time.sleep(SETTLE_S)
            memory.append(memory_kib(parts.kas.pid))
    finally:
        for popen in running:
            popen.communicate(timeout=30)
    return {"agent_kib_kas": (memory[1] - memory[0]) / effort.idle_agents}


def beside_a_slow_reader(parts: Parts, effort: Effort) -> Figures:
    """p99 of small requests while one reader takes a big download at 100 kB/s, against the same without it."""
    load.wrk(parts.ours, POD, 32, 1)
    runs: dict[bool, list[Run]] = {False: [], True: []}
    grown: list[float] = []
    before = _memory_of_both(parts)
    for _ in range(effort.rounds):
        for is_there in runs:
            with slow_reader(parts.ours, DOWNLOAD, SLOW_BYTES_PER_S) if is_there else nullcontext():
                runs[is_there].append(load.wrk(parts.ours, POD, 32, effort.seconds))
                if is_there:
                    grown.append((_memory_of_both(parts) - before) / 1024)
    without, beside = _middle(runs[False]), _middle(runs[True])
    return {
        "slow_reader_without_p99_ms": without.p99_ms,
        "slow_reader_beside_p99_ms": beside.p99_ms,
        "slow_reader_p99_ratio": beside.p99_ms / without.p99_ms,
        "slow_reader_mib": max(grown),
    }


def _memory_of_both(parts: Parts) -> int:
    return sum(memory_kib(pid) for pid in parts.ours.pids.values())


def cuts(parts: Parts, effort: Effort) -> Figures:
    """The TCP connection between kas and agentk is reset amid a download and a watch. RuntimeError if either of them notices."""
    pauses = uvloop.run(_cut_again_and_again(parts, effort.rounds))
    return {
        "cut_pause_ms": median(max(pair) for pair in pauses),
        "cut_pause_worst_ms": max(max(pair) for pair in pauses),
        "cut_download_pause_ms": median(pair[0] for pair in pauses),
        "cut_watch_pause_ms": median(pair[1] for pair in pauses),
    }


async def _cut_again_and_again(parts: Parts, times: int) -> list[tuple[float, float]]:
    """The longest pauses of the download and of the watch after each cut, in ms."""
    loop = asyncio.get_running_loop()
    with parts.bulk_file.open("rb") as file:
        expected = await loop.run_in_executor(None, lambda: hashlib.file_digest(file, "sha256").hexdigest())
    road = Road()
    (port,) = free_ports(1)
    kas_port = urlsplit(parts.product.kas_address).port
    assert kas_port is not None
    pauses = []
    async with road.open(port, kas_port), parts.detour(f"grpcs://localhost:{port}") as target:
        events = Arrivals()
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(checked_watch(target, f"{WATCH}&every_ms={EVENT_MS}", events))
            for _ in range(times):
                await asyncio.sleep(STEADY_S)
                pauses.append(await _cut_once(target, road, events, expected))
            watching.cancel()
    return pauses


async def _cut_once(target: Target, road: Road, events: Arrivals, expected: str) -> tuple[float, float]:
    pieces = Arrivals()
    async with asyncio.TaskGroup() as group:
        downloading = group.create_task(checked_download(target, DOWNLOAD, pieces))
        while len(pieces.at) < FIRST_PIECES:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
        road.cut()
        await asyncio.sleep(AFTER_CUT_S)
        since, until = road.cut_at, road.cut_at + AFTER_CUT_S
        pauses = pieces.longest_pause_ms(since, until), events.longest_pause_ms(since, until)
    if downloading.result() != expected:
        raise RuntimeError("the download that was cut is not what was sent")
    return pauses


MEASUREMENTS: dict[str, Callable[[Parts, Effort], Figures]] = {
    "get": small_requests,
    "list": lists,
    "download": downloads,
    "upload": uploads,
    "slow": beside_a_slow_reader,
    "cut": cuts,
    "watch": idle_watches,
    "agent": idle_agents,
}
# Memory that was used and given back hides what more is needed: these get a kas and an agentk that have done nothing yet.
FRESH = frozenset({"watch", "agent"})
