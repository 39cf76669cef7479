"""One side of the matrix: a kubectl with its way to the cluster, a namespace of its own, and a record of what it did."""

from __future__ import annotations

import fcntl
import hashlib
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.kubectls import Kubectl

MIB = 1 << 20
LIMIT_S = 60
# What differs between two runs of one command on one way: moments, ages, addresses, numbers that the cluster gives away.
VOLATILE = [
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z", "MOMENT"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ [+-]\d{4}", "MOMENT"),
    (r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}", "MOMENT"),
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UID"),
    (r"\b(?:10|127)\.\d+\.\d+\.\d+\b", "ADDRESS"),
    (r"\b[0-9a-f]{64}\b(?=\")", "EXEC"),
    (r"(?m)^[IWE]\d{4} .*websocket\.go.*Unknown stream id.*\n", ""),  # said by kubectl when it stops before its peer
    (r"containerd://[0-9a-f]+", "CONTAINER"),
    (r"(?:kube-api-access)-[a-z0-9]{5}", "TOKEN-VOLUME"),
    (r"(-[a-z0-9]{6,10})?-[a-z0-9]{5}\b(?= +\d/\d)", "-RANDOM"),
    (r"(resourceVersion\"?: ?)\"?\d+\"?", r"\1N"),
    (r"(pod-template-hash[=:] ?)\"?[a-z0-9]+\"?", r"\1HASH"),
    (r"/tmp/[A-Z]+-\d+/", "/tmp/DIFF/"),
    (r"(LIVE|MERGED)-\d+", r"\1"),
    (r"\b\d+(?:m\d+)?s\b|\b\d+m\b", "AGE"),
    (r"[IWE]\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ ", "KLOG "),
    (r"(?m)[ \t]+$", ""),
    (r" {2,}", "  "),
]


@dataclass(frozen=True)
class Seen:
    """What one command did."""

    command: str
    code: int | None  # None: it was ended by us
    stdout: str
    stderr: str = ""


@dataclass
class Side:
    """Runs commands and remembers. ``name`` is direct or kas."""

    name: str
    kubectl: Kubectl
    namespace: str
    folder: Path
    image: str
    seen: list[Seen] = field(default_factory=list)

    def run(self, *words: str, input: bytes | str = b"", hidden: bool = False) -> str:  # noqa: A002 - as subprocess
        """A command to its end; ``hidden``: what it prints is no part of the record."""
        done = self.kubectl.result(*words, input=input or None)
        out, err = done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
        if hidden:
            self._note(words, done.returncode, "", "" if done.returncode == 0 else err)
        else:
            self._note(words, done.returncode, out, err)
        return out

    def run_hashed(self, *words: str, input: bytes = b"") -> None:  # noqa: A002
        """A command whose output is compared by its SHA-256."""
        done = self.kubectl.result(*words, input=input or None)
        said = f"{len(done.stdout)} bytes, {hashlib.sha256(done.stdout).hexdigest()}"
        self._note(words, done.returncode, said, done.stderr.decode("utf-8", "replace"))

    @contextmanager
    def running(self, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        """A command that is ended at the end of the block."""
        with self.kubectl.running(*words) as process:
            yield process

    def lines(self, process: subprocess.Popen[bytes], count: int, what: str) -> None:
        """Note so many lines of a running command."""
        assert process.stdout is not None
        said = b"".join(process.stdout.readline() for _ in range(count))
        self.note(what, said.decode())

    def note(self, what: str, said: str) -> None:
        """Note something that is not the end of a command."""
        self._note((what,), None, said, "")

    def fetch(self, url: str) -> None:
        """Note what a URL on this machine gives."""
        with urllib.request.urlopen(url, timeout=LIMIT_S) as page:
            content = page.read()
        said = (
            content.decode()
            if len(content) < 10_000
            else f"{len(content)} bytes, {hashlib.sha256(content).hexdigest()}"
        )
        self.note(re.sub(r":\d+", ":PORT", url), said)

    def in_terminal(self, *words: str, sizes: list[tuple[int, int]], said: bytes = b"") -> None:
        """A command under a pseudo-terminal of the first size, which becomes the next one each time ``NEXT`` is read."""
        pid, terminal = pty.fork()
        if pid == 0:
            environment = {**self.kubectl.environment_now(), "TERM": "xterm"}
            os.execve(self.kubectl.program, [str(self.kubectl.program), *words], environment)
        rest = [struct.pack("HHHH", rows, columns, 0, 0) for rows, columns in sizes]
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, rest.pop(0))
        heard = b""
        told = 0
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            if not select.select([terminal], [], [], 0.2)[0]:
                continue
            try:
                piece = os.read(terminal, 65536)
            except OSError:  # the other end is closed
                break
            heard += piece
            while rest and heard.count(b"NEXT") > told:
                told += 1
                fcntl.ioctl(terminal, termios.TIOCSWINSZ, rest.pop(0))
            if said and b"TYPE" in heard:
                os.write(terminal, said)
                said = b""
        os.close(terminal)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        # The notice about the prompt comes where it comes.
        text = re.sub(r"If you don't see a command prompt, try pressing enter\.\r?\n", "", heard.decode())
        self._note(words, code, text, "")

    def _note(self, words: tuple[str, ...], code: int | None, out: str, err: str) -> None:
        self.seen.append(Seen(self.plain(" ".join(words)), code, self.plain(out), self.plain(err)))

    def plain(self, text: str) -> str:
        """The text without what differs between any two runs."""
        text = text.replace(self.namespace, "NAMESPACE").replace(str(self.folder), "FOLDER")
        text = text.replace(str(self.kubectl.program), "kubectl")
        for pattern, instead in VOLATILE:
            text = re.sub(pattern, instead, text)
        return text
