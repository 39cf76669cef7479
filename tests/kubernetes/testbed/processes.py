"""Background processes that another process may have to stop: each has a pid file and a log in one folder."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

STOP_LIMIT_S = 10


class StartFailed(Exception):
    """A part of the cluster did not come up; the text ends with the last lines of its log."""


class Processes:
    """The processes whose pid files lie in ``folder``. A pid is believed only while its command line names the folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: Sequence[str | Path]) -> None:
        """Start ``command`` in a session of its own. The command line must name something in the folder."""
        with (self._folder / f"{name}.log").open("ab") as log:
            self._children[name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        (self._folder / f"{name}.pid").write_text(str(self._children[name].pid))

    def wait(self, name: str, ready: Callable[[], bool], limit_s: float) -> None:
        """Wait until ``ready``. Raises StartFailed if the process ends first or ``limit_s`` passes."""
        deadline = time.monotonic() + limit_s
        while not ready():
            if self._running(name) is None:
                raise StartFailed(f"{name} ended: {self.log_tail(name)}")
            if time.monotonic() > deadline:
                raise StartFailed(f"{name} was not ready after {limit_s:.0f} s: {self.log_tail(name)}")
            time.sleep(0.1)

    def stop(self, name: str) -> None:
        """End the process, if it runs: SIGTERM, then SIGKILL after 10 s."""
        for kind in (signal.SIGTERM, signal.SIGKILL):
            pid = self._running(name)
            if pid is None:
                break
            os.kill(pid, kind)
            deadline = time.monotonic() + STOP_LIMIT_S
            while self._running(name) is not None and time.monotonic() < deadline:
                time.sleep(0.05)
        child = self._children.pop(name, None)
        if child is not None:
            child.wait(STOP_LIMIT_S)
        (self._folder / f"{name}.pid").unlink(missing_ok=True)

    def log_tail(self, name: str, lines: int = 8) -> str:
        """The last lines of the log of ``name``."""
        log = self._folder / f"{name}.log"
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else "(no log)"

    def _running(self, name: str) -> int | None:
        try:
            pid = int((self._folder / f"{name}.pid").read_text())
        except (FileNotFoundError, ValueError):
            return None
        if name in self._children:  # of a child that has just been started the command line may still be empty
            return pid if self._children[name].poll() is None else None
        return pid if str(self._folder) in command_line(pid) else None


def command_line(pid: int) -> str:
    """The command line of a process; empty where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def processes_naming(text: str) -> list[int]:
    """The processes whose command line names ``text``, this one aside."""
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [pid for pid in pids if pid != os.getpid() and text in command_line(pid)]
