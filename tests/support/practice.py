"""The practice cluster for tests whose other ends are programs: as a process of its own, or in a thread, where its knobs are at hand."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kas.demo.practice_cluster.cluster import PracticeCluster

STOP_LIMIT_S = 10


@contextmanager
def practice_cluster(folder: Path, port: int = 0) -> Iterator[Path]:
    """Serves while the block runs; yields the administrator's kubeconfig, in ``folder``."""
    command = [sys.executable, "-m", "kas.demo.practice_cluster", "--directory", str(folder), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        kubeconfig = Path(process.stdout.readline().strip())
        try:
            assert kubeconfig.is_file()
            yield kubeconfig
        finally:
            process.terminate()
            assert process.wait(STOP_LIMIT_S) == 0


@contextmanager
def practice_cluster_here(folder: Path) -> Iterator[PracticeCluster]:
    """Serves in a thread while the block runs. Of it only ``kubeconfig``, ``faults`` and ``requests`` may be used from outside."""
    loop = asyncio.new_event_loop()
    serving = threading.Thread(target=loop.run_forever, name="practice cluster")
    serving.start()

    async def made() -> PracticeCluster:
        return await PracticeCluster(folder).__aenter__()

    try:
        cluster = asyncio.run_coroutine_threadsafe(made(), loop).result(STOP_LIMIT_S)
        try:
            yield cluster
        finally:
            asyncio.run_coroutine_threadsafe(cluster.__aexit__(None, None, None), loop).result(STOP_LIMIT_S)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        serving.join(STOP_LIMIT_S)
        loop.close()
