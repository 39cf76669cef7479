"""A network of a test's own, in which packets can be dropped: a network namespace of Linux, for one thread and what it starts."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import threading
from collections.abc import Callable

import pytest

CLONE_NEWNET = 0x40000000  # sched.h


def alone(body: Callable[[], None], limit_s: float) -> None:
    """Run ``body`` in a thread that has only a loopback interface of its own, and so has what it starts. Raises what it raises.

    Skips the test where there may be no such network. ``body`` must end what it starts.
    """
    for program in ("ip", "iptables"):
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program} here (on Debian and Ubuntu: apt-get install iproute2 iptables)")
    failures: list[BaseException] = []

    def run() -> None:
        try:
            if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):  # of this thread alone
                pytest.skip(f"no network namespace of one's own: {os.strerror(ctypes.get_errno())}")
            for command in (["ip", "link", "set", "lo", "up"], ["iptables", "--list"]):
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    pytest.skip(f"{' '.join(command)}: {done.stderr.strip()}")
            body()
        except BaseException as failure:  # pytest's own outcomes too; raised again below
            failures.append(failure)

    running = threading.Thread(target=run, name="network of its own")
    running.start()
    running.join(limit_s)
    assert not running.is_alive(), f"not done after {limit_s:g} s"
    if failures:
        raise failures[0]


def drop(port: int) -> None:
    """From now on nothing arrives from or at this TCP port. Only within ``alone``."""
    for end in ("--sport", "--dport"):
        subprocess.run(["iptables", "-A", "INPUT", "-p", "tcp", end, str(port), "-j", "DROP"], check=True)
