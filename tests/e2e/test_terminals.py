"""exec -it under a real pseudo-terminal that changes its size again and again."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import JOBS_PROJECT, chosen
from tests.support.kubectls import Kubectl, installed, kubectl_program
from tests.support.product import Agent, Product

POD = """\
apiVersion: v1
kind: Pod
metadata: {name: terminal}
spec: {containers: [{name: main, image: busybox, command: [sleep, "600"]}]}
"""
TELLS = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.02; done"
SIZES = [(20 + number, 81 + 2 * number) for number in range(50)]
LIMIT_S = 60


@pytest.fixture(scope="module", autouse=True)
def pod(admin: Kubectl) -> Iterator[None]:
    admin.run("apply", "-f", "-", input=POD)
    admin.run("wait", "--for=condition=Ready", "pod/terminal", "--timeout=30s")
    yield
    admin.run("delete", "pod", "terminal", "--now")


class Terminal:
    """A command under a pseudo-terminal."""

    def __init__(self, kubectl: Kubectl, *words: str) -> None:
        self._pid, self._file = pty.fork()
        if self._pid == 0:
            environment = {**kubectl.environment_now(), "TERM": "xterm"}
            os.execve(kubectl.program, [str(kubectl.program), *words], environment)
        self.heard = b""

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._file, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def until(self, said: bytes) -> None:
        deadline = time.monotonic() + LIMIT_S
        while said not in self.heard:
            assert time.monotonic() < deadline, self.heard[-300:]
            if select.select([self._file], [], [], 1)[0]:
                self.heard += os.read(self._file, 65536)

    def press(self, key: bytes) -> None:
        os.write(self._file, key)

    def code(self) -> int:
        """Of the command, once it has ended; what it still says is heard first."""
        try:
            while piece := os.read(self._file, 65536):
                self.heard += piece
        except OSError:  # the other end is closed
            pass
        os.close(self._file)
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])


@pytest.mark.covers("U-06")
@pytest.mark.parametrize("minor", ["1.27", "1.33"])
def test_fifty_new_sizes_of_a_terminal_all_arrive_in_order(
    minor: str, product: Product, agent: Agent, tmp_path: Path
) -> None:
    if minor not in installed():
        pytest.skip(f"there is no kubectl {minor}")
    kubeconfig = chosen(product, product.kubeconfig(product.job_token(JOBS_PROJECT)), agent)
    job = Kubectl(kubectl_program(minor), kubeconfig, tmp_path)
    terminal = Terminal(job, "exec", "-it", "terminal", "--", "sh", "-c", TELLS)
    terminal.until(b"ready")
    begun = len(terminal.heard)
    for rows, columns in SIZES:
        terminal.resize(rows, columns)
        terminal.until(b"%d %d\r\n" % (rows, columns))
    terminal.press(b"\x03")
    assert terminal.code() == 130
    told = [(int(rows), int(columns)) for rows, columns in re.findall(rb"(\d+) (\d+)\r\n", terminal.heard[begun:])]
    assert [size for number, size in enumerate(told) if size in SIZES and size not in told[:number]] == SIZES
