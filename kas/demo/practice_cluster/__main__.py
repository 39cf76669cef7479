"""``python -m kas.demo.practice_cluster --directory D [--port P]``: the practice cluster as a process of its own.

Prints the path of the administrator's kubeconfig once it serves. Ends on SIGTERM and SIGINT, and when the process
that started it is gone; nothing that it started is left behind.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path

from kas.demo.practice_cluster.cluster import PracticeCluster, gone
from kastunnel.toolkit.tasks import TaskOwner


def main() -> int:
    """The exit code: 0 stopped, 1 could not start, or failed."""
    parent = os.getppid()  # now: it may be gone before the cluster is up
    parser = argparse.ArgumentParser(
        prog="python -m kas.demo.practice_cluster",
        description="A small API server on localhost whose pods are local processes, for demos and tests. "
        "It is not Kubernetes. It runs programs, with your rights, for whoever holds its random token.",
    )
    parser.add_argument("--directory", type=Path, required=True, help="for the kubeconfig and the pods' files")
    parser.add_argument("--port", type=int, default=0, help="of 127.0.0.1 (default: a free one)")
    arguments = parser.parse_args()
    try:
        return asyncio.run(_serve(arguments.directory.absolute(), arguments.port, parent))
    except OSError as error:
        print(f"practice cluster: cannot start: {error}", file=sys.stderr)
        return 1


async def _serve(directory: Path, port: int, parent: int) -> int:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stopped.set)
    async with PracticeCluster(directory, port) as cluster, TaskOwner("practice cluster") as tasks:
        print(cluster.kubeconfig, flush=True)
        failed = tasks.spawn(cluster.failed(), name="failed")
        ends = [failed, tasks.spawn(stopped.wait(), name="signal"), tasks.spawn(gone(parent), name="parent")]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        return 1 if failed.done() else 0


if __name__ == "__main__":
    sys.exit(main())
