"""One question to a git server over https or ssh, which ends: at its deadline, at its size, and when it is told to.

dulwich has a limit for each silence only: a server that sends a byte now and then would hold its thread for ever.
"""

from __future__ import annotations

import logging
import shlex
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import SplitResult

import urllib3
from dulwich.client import HttpGitClient, SSHGitClient, SubprocessSSHVendor

from kas.outbound import proxy_of
from kastunnel.toolkit.proxies import Proxy

SILENCE_S = 15.0
DEADLINE_S = 60.0
MAX_BYTES = 256 << 20  # of everything that the server says
_COMPLAINT_BYTES = 2048  # of what ssh says at last

# It warns at each fetch of a server that cannot leave files out. Everything that matters is raised.
logging.getLogger("dulwich").setLevel(logging.ERROR)


class Overrun(Exception):
    """The server says more than MAX_BYTES, or sends us to another address."""


class Question:
    """``with``; ``client`` and ``path`` are dulwich's. ``hang_up`` from any thread makes whatever waits for the server fail soon.

    Looking up the host's name and dialling each of its addresses are not ended by it; they have limits of their own.
    """

    client: Any
    path: str

    def __init__(self) -> None:
        self.has_ended = False  # by its deadline or by ``hang_up``
        self._received = 0
        self._lock = threading.Lock()
        self._ends: list[Callable[[], None]] = []
        self._timer = threading.Timer(DEADLINE_S, self.hang_up)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        self.close()

    @property
    def complaint(self) -> str:
        """The last line that ssh wrote about what went wrong."""
        return ""

    def close(self) -> None:
        """Leave nothing open."""

    def hang_up(self) -> None:
        """End it now. Idempotent."""
        with self._lock:
            self.has_ended = True
            ends, self._ends = self._ends, []
        for end in ends:
            with suppress(OSError):
                end()

    def ends_with(self, end: Callable[[], None]) -> None:
        """``end`` is called when this ends before its time; at once, if it has."""
        with self._lock:
            if not self.has_ended:
                self._ends.append(end)
                return
        with suppress(OSError):
            end()

    def counted(self, read: Callable[..., bytes]) -> Callable[..., bytes]:
        """``read``, which raises Overrun once all of them together have brought too much."""

        def reading(*words: Any, **options: Any) -> bytes:
            data = read(*words, **options)
            self._received += len(data)
            if self._received > MAX_BYTES:
                raise Overrun(f"the server sends more than {MAX_BYTES} bytes")
            return data

        return reading


class HttpsQuestion(Question):
    """Over https, or http in tests and trusted networks."""

    def __init__(self, url: SplitResult, user: str, token: str | None, ca_file: Path | None) -> None:
        super().__init__()
        base = f"{url.scheme}://{url.netloc}/"
        self.path = url.path.lstrip("/")
        self._pool = _pool(self, f"{base}{self.path.rstrip('/')}/", ca_file, proxy_of(base))
        login = user if token else None
        self.client = HttpGitClient(
            base, pool_manager=self._pool, username=login, password=token, thin_packs=False, quiet=True
        )

    def close(self) -> None:
        """See Question."""
        self._pool.close()


class _Watching:
    """Connections of one question, all of which ``close`` ends: also those of answers that dulwich refused and left unread."""

    pool_classes_by_scheme: Any

    def __init__(self, question: Question, root: str, *words: Any, **options: Any) -> None:
        super().__init__(*words, **options)
        self._question = question
        self._addresses = (f"{root}info/refs", f"{root}git-upload-pack")
        self._answers: list[Any] = []
        self._sockets: list[socket.socket] = []
        self.pool_classes_by_scheme = {
            "http": self._watched(urllib3.HTTPConnectionPool),
            "https": self._watched(urllib3.HTTPSConnectionPool),
        }

    def request(self, method: str, url: str, *words: Any, **options: Any) -> Any:
        """As PoolManager does, at the two addresses of git's smart protocol: an answer may name others, which nobody configured."""
        if url.partition("?")[0] not in self._addresses:
            raise Overrun("it does not speak git's smart protocol, or sends us to another address")
        answer: Any = super().request(method, url, *words, **options)  # type: ignore[misc]
        answer.read = self._question.counted(answer.read)
        self._answers.append(answer)
        return answer

    def close(self) -> None:
        """The end."""
        for answer in self._answers:
            answer.close()
        self.clear()  # type: ignore[attr-defined]
        for one in self._sockets:
            one.close()

    def _watched(self, pool: Any) -> Any:
        """The class of pools whose sockets can be shut from another thread, also in the midst of a handshake."""
        connection: Any = pool.ConnectionCls
        watch = self._watch

        class Watched(connection):  # type: ignore[misc]
            def _new_conn(self) -> Any:
                return watch(super()._new_conn())

        return type("WatchedPool", (pool,), {"ConnectionCls": Watched})

    def _watch(self, made: socket.socket) -> socket.socket:
        twin = made.dup()  # TLS takes the first one away
        self._sockets.append(twin)
        self._question.ends_with(lambda: twin.shutdown(socket.SHUT_RDWR))
        return made


class _Pool(_Watching, urllib3.PoolManager):
    """Straight there."""


class _ProxiedPool(_Watching, urllib3.ProxyManager):
    """Through a proxy."""


def _pool(question: Question, root: str, ca_file: Path | None, proxy: Proxy | None) -> _Pool | _ProxiedPool:
    options = {
        "cert_reqs": "CERT_REQUIRED",
        "ca_certs": None if ca_file is None else str(ca_file),
        "timeout": urllib3.Timeout(connect=SILENCE_S, read=SILENCE_S),
        "retries": False,
    }
    if proxy is None:
        return _Pool(question, root, **options)
    return _ProxiedPool(question, root, f"http://{proxy}", proxy_headers=proxy.headers, **options)


class SshQuestion(Question):
    """Over ssh, whose host keys are always checked."""

    def __init__(self, url: SplitResult, key_file: Path | None, known_hosts_file: Path | None) -> None:
        super().__init__()
        self.path = url.path
        self._programs = _Programs(self)
        words = ["ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"]
        words += ["-o", "IdentitiesOnly=yes", "-o", f"ConnectTimeout={SILENCE_S:.0f}", "-o", "ServerAliveInterval=5"]
        if known_hosts_file is not None:
            words += ["-o", f'UserKnownHostsFile="{known_hosts_file}"']
        if key_file is not None:
            words += ["-i", str(key_file)]
        self.client = SSHGitClient(
            url.hostname or "",
            url.port,
            url.username or "git",
            vendor=self._programs,
            ssh_command=shlex.join(words),
            thin_packs=False,
            quiet=True,
        )

    @property
    def complaint(self) -> str:
        """See Question."""
        return self._programs.complaint

    def close(self) -> None:
        """See Question."""
        self._programs.close()


class _Programs(SubprocessSSHVendor):
    """The ssh programs of one question, all of which ``close`` ends: also one whose other end hung up."""

    def __init__(self, question: Question) -> None:
        self._question = question
        self._running: list[tuple[Any, threading.Thread]] = []
        self._said = b""

    @property
    def complaint(self) -> str:
        """The last line of what they wrote to stderr; complete once they have ended."""
        for _, listener in self._running:
            listener.join(1)
        lines = self._said.decode("utf-8", "replace").strip().splitlines()
        return "".join(c for c in lines[-1] if c.isprintable())[:200] if lines else ""

    def run_command(self, *words: Any, **options: Any) -> Any:
        """As SubprocessSSHVendor does."""
        program = super().run_command(*words, **options)
        program.read = self._question.counted(program.read)
        stderr, program.proc.stderr = program.proc.stderr, None  # dulwich does not read it while it waits for more
        listener = threading.Thread(target=self._listen, args=(stderr,), daemon=True)
        listener.start()
        self._running.append((program.proc, listener))
        self._question.ends_with(program.proc.kill)
        return program

    def _listen(self, stderr: Any) -> None:
        with stderr:
            while data := stderr.read(_COMPLAINT_BYTES):
                self._said = (self._said + data)[-_COMPLAINT_BYTES:]

    def close(self) -> None:
        """The end."""
        for process, listener in self._running:
            process.kill()
            for pipe in (process.stdin, process.stdout):
                with suppress(OSError, ValueError):
                    pipe.close()
            process.wait()
            listener.join(1)
