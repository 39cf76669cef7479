"""The demo's programs: started in order, ended in reverse, and gone when the demo is, however it ends."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

READY_S = 15.0  # for one program to be ready
STOP_S = 8.0
_PR_SET_PDEATHSIG = 1  # prctl(2)


class DemoFailed(Exception):
    """The demo cannot go on; the text says which program said what."""


class Processes:
    """Owns every program that it started. Leaving the block ends them all, the last one first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[tuple[str, subprocess.Popen[bytes]]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._running:
            _, process = self._running.pop()
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def start(self, name: str, command: Sequence[str | Path], more: Mapping[str, str] | None = None) -> None:
        """Start a program; what it says goes to ``NAME.log`` in the folder."""
        with self.log(name).open("ab") as output:
            process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**environment(self._folder), **(more or {})},
                cwd=self._folder,
                start_new_session=True,  # Ctrl-C ends the demo, and the demo ends its programs
                preexec_fn=_end_with_parent,
            )
        self._running.append((name, process))

    def log(self, name: str) -> Path:
        """Where ``name`` writes what it says."""
        return self._folder / f"{name}.log"

    def wait(self, name: str, ready: Callable[[], bool]) -> None:
        """Wait until ``ready``, as long as the program runs. Raises DemoFailed."""
        deadline = time.monotonic() + READY_S
        while not ready():
            if (ended := self.ended()) or time.monotonic() > deadline:
                said = self.log(ended or name).read_text(errors="replace")[-2000:]
                raise DemoFailed(f"{ended or name} {'ended' if ended else 'is not ready'}; it said:\n{said}")
            time.sleep(0.05)

    def ended(self) -> str:
        """The name of a program that has ended by itself, or nothing."""
        return next((name for name, process in self._running if process.poll() is not None), "")


def environment(home: Path) -> dict[str, str]:
    """What the demo's programs inherit: nothing that names another cluster, another kas, or a proxy for localhost."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("KAS_", "AGENTK_", "KUBE")) and not name.lower().endswith("_proxy")
    }
    return {**kept, "HOME": str(home)}


def answers(url: str) -> bool:
    """``url`` answers 200 now."""
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:  # noqa: S310 - of this demo, on localhost
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _end_with_parent() -> None:
    """Linux ends this program when the demo is killed; elsewhere only a clean end of the demo does."""
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    except (OSError, AttributeError):
        pass
