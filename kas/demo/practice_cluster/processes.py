"""Local processes in their own process groups, with or without a terminal, that never outlive the cluster."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path

READ_BYTES = 64 * 1024
PROGRAMS = Path(__file__).parent / "programs"


class CannotStart(Exception):
    """The program cannot be started: it is not there, or not a program."""


class Warden:
    """A helper process that kills the process groups entrusted to it when this process is gone, however it died."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def entrust(self, group: int) -> None:
        """``group`` is to die with us."""
        self._say(f"+{group}")

    def release(self, group: int) -> None:
        """``group`` is gone already."""
        self._say(f"-{group}")

    def close(self) -> None:
        """Kill whatever is still entrusted; idempotent."""
        if self._process is not None:
            assert self._process.stdin is not None  # noqa: S101 it is a pipe
            with contextlib.suppress(OSError):
                self._process.stdin.close()
            self._process.wait()
            self._process = None

    def _say(self, line: str) -> None:
        if self._process is None:
            arguments = [sys.executable, "-I", "-S", str(PROGRAMS / "warden.py")]
            self._process = subprocess.Popen(arguments, stdin=subprocess.PIPE, start_new_session=True)
        assert self._process.stdin is not None  # noqa: S101 it is a pipe
        with contextlib.suppress(OSError):
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()


class LocalProcess:
    """One running program. ``close`` is due in any case: it kills the whole group."""

    def __init__(self, process: asyncio.subprocess.Process, warden: Warden, terminal: Terminal | None) -> None:
        self._process = process
        self._warden = warden
        self._terminal = terminal
        self.pid = process.pid
        self.drained = asyncio.Event()  # set by its reader once it has ended and all its output is read
        warden.entrust(self.pid)

    @property
    def stdout(self) -> asyncio.StreamReader:
        """What it prints; of a terminal, stderr too."""
        reader = self._terminal.reader if self._terminal else self._process.stdout
        assert reader is not None  # noqa: S101 a pipe or a terminal
        return reader

    @property
    def stderr(self) -> asyncio.StreamReader | None:
        """None with a terminal."""
        return self._process.stderr

    async def write(self, data: bytes) -> None:
        """Give it input; waits while it does not read. What a dead process would have read is lost."""
        writer = self._terminal.writer if self._terminal else self._process.stdin
        if writer is not None and not writer.is_closing():
            with contextlib.suppress(OSError):
                writer.write(data)
                await writer.drain()

    def end_input(self) -> None:
        """No more input; for a terminal, Ctrl-D."""
        if self._terminal:
            self._terminal.writer.write(b"\x04")
        elif self._process.stdin is not None:
            self._process.stdin.close()

    def resize(self, columns: int, rows: int) -> None:
        """Set the terminal's size."""
        if self._terminal:
            self._terminal.resize(columns, rows)

    async def wait(self) -> int:
        """Its exit code, 128 + n for signal n."""
        code = await self._process.wait()
        return 128 - code if code < 0 else code

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to its group; nothing if that is gone."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    async def close(self) -> None:
        """Kill the group, and whatever its members have started in it; idempotent."""
        self.signal(signal.SIGKILL)
        self._warden.release(self.pid)
        if self._process.stdin is not None:
            self._process.stdin.close()
        if self._terminal:
            self._terminal.close()
        await self._process.wait()
        # Whoever inherited its pipes may hold them open; asyncio offers no other way to give up our ends.
        self._process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001


class UntilHungUp(asyncio.StreamReaderProtocol):
    """Takes the error that a hung-up terminal gives for the end that it is; else output not yet read would be lost."""

    def connection_lost(self, exc: Exception | None) -> None:
        """From the transport."""
        super().connection_lost(None)


class Terminal:
    """The master side of a pseudo-terminal."""

    def __init__(self, master: int, reader: asyncio.StreamReader, transports: list[asyncio.BaseTransport]) -> None:
        self._master = master
        self._transports = transports
        self.reader = reader
        self.writer: asyncio.StreamWriter

    @classmethod
    async def of(cls, master: int) -> Terminal:
        """Takes ``master`` over."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(READ_BYTES, loop=loop)
        incoming, _ = await loop.connect_read_pipe(
            lambda: UntilHungUp(reader, loop=loop), os.fdopen(os.dup(master), "rb", 0)
        )
        outgoing, protocol = await loop.connect_write_pipe(
            lambda: asyncio.streams.FlowControlMixin(loop=loop), os.fdopen(os.dup(master), "wb", 0)
        )
        terminal = cls(master, reader, [incoming, outgoing])
        terminal.writer = asyncio.StreamWriter(outgoing, protocol, None, loop)
        return terminal

    def resize(self, columns: int, rows: int) -> None:
        """Set the size."""
        with contextlib.suppress(OSError):
            fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def close(self) -> None:
        """Idempotent."""
        for transport in self._transports:
            transport.close()
        if self._master >= 0:
            os.close(self._master)
            self._master = -1


async def start(
    command: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    warden: Warden,
    *,
    stdin: bool = False,
    terminal: bool = False,
) -> LocalProcess:
    """Start ``command`` in ``folder``; the caller owns the process. Raises CannotStart."""
    if terminal:
        return await _start_in_terminal(command, environment, folder, warden)
    pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=pipe if stdin else nothing,
            stdout=pipe,
            stderr=pipe,
            env=environment,
            cwd=folder,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise _cannot_start(command, error) from error
    return LocalProcess(process, warden, None)


async def _start_in_terminal(
    command: Sequence[str], environment: Mapping[str, str], folder: Path, warden: Warden
) -> LocalProcess:
    """A program takes the terminal as its controlling one and then becomes ``command``.

    (A function that does so between fork and exec would do as well, but uvloop calls it before there is a session.)
    """
    master, slave = pty.openpty()
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            str(PROGRAMS / "terminal.py"),
            *command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={"TERM": "xterm", **environment},
            cwd=folder,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        os.close(master)
        raise _cannot_start(command, error) from error
    finally:
        os.close(slave)
    return LocalProcess(process, warden, await Terminal.of(master))


def _cannot_start(command: Sequence[str], error: Exception) -> CannotStart:
    reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    return CannotStart(f'exec: "{command[0]}": {reason}')
