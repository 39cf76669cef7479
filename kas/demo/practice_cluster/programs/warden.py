"""Kills process groups when the process that holds the other end of its stdin is gone.

Reads lines: ``+GROUP`` entrusts a process group, ``-GROUP`` releases it. At the end of the input every group that is
still entrusted is killed.
"""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """Serve until the end of the input."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends when its owner ends, not before
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line[0] == "+":
            groups.add(group)
        else:
            groups.discard(group)
    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass


if __name__ == "__main__":
    main()
