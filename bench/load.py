"""Load from outside: wrk for many small requests, curl for one big body."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import NamedTuple

from bench.machine import cpu_s
from bench.nginx import BULK_BYTES

SCRIPT = Path(__file__).with_name("wrk.lua")
CURL_LIMIT_S = 120


class Target(NamedTuple):
    """What is measured: where it listens, the header with the credential, and the processes whose CPU time counts."""

    name: str
    url: str
    authorization: str
    pids: dict[str, int]


class Run(NamedTuple):
    """One run of wrk. ``cpu_ms``: per request, by process."""

    rps: float
    mb_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_ms: dict[str, float]


def wrk(target: Target, path: str, connections: int, seconds: float) -> Run:
    """Raises RuntimeError if one request fails: a server that refuses is quick."""
    before = {name: cpu_s(pid) for name, pid in target.pids.items()}
    command = [
        *("wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency", "--timeout", "20s"),
        *("-s", str(SCRIPT), "-H", f"Authorization: {target.authorization}", target.url + path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    said = json.loads(done.stdout.splitlines()[-1])
    if said["errors"] or not said["requests"]:
        raise RuntimeError(f"{said['errors']} of {said['requests']} requests failed at {target.name}{path}")
    spent = {name: (cpu_s(pid) - before[name]) * 1000 / said["requests"] for name, pid in target.pids.items()}
    duration_s = said["duration_us"] / 1e6
    return Run(
        said["requests"] / duration_s,
        said["bytes"] / duration_s / 1e6,
        said["p50_us"] / 1000,
        said["p99_us"] / 1000,
        spent,
    )


def asked(target: Target, path: str) -> None:
    """One small request. RuntimeError unless it is answered with success."""
    _curl(target, path, "--output", "/dev/null", size="%{size_download}")


def download(target: Target, path: str) -> float:
    """MB/s of one big answer."""
    return _bulk(_curl(target, path, "--output", "/dev/null", size="%{size_download}"))


def upload(target: Target, path: str, file: Path) -> float:
    """MB/s of one big body; the answer comes when its last byte is in."""
    options = ("--upload-file", str(file), "--output", "/dev/null", "-H", "Expect:")
    return _bulk(_curl(target, path, *options, size="%{size_upload}"))


def _bulk(took: tuple[int, float]) -> float:
    count, seconds = took
    if count != BULK_BYTES:
        raise RuntimeError(f"{count} of {BULK_BYTES} bytes")
    return count / seconds / 1e6


def _curl(target: Target, path: str, *options: str, size: str) -> tuple[int, float]:
    """Bytes and seconds."""
    command = [
        *("curl", "--silent", "--show-error", "--fail", "--insecure", "--http1.1", "--noproxy", "*"),
        *("--max-time", str(CURL_LIMIT_S)),
        *("-H", f"Authorization: {target.authorization}", "--write-out", f"%{{stderr}}{size} %{{time_total}}"),
        *(*options, target.url + path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"curl at {target.name}{path}: {done.stderr}")
    count, seconds = done.stderr.split()
    return int(count), float(seconds)
