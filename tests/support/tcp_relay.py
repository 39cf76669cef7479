"""A TCP relay between two ends, with knobs for what networks do to connections."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

SEGMENT = 1448  # bytes of a TCP segment on an Ethernet


@dataclass(frozen=True)
class Weather:
    """What a path does to each direction of a connection, as those at its ends see it: of a lost segment they see that all waits for it."""

    delay_s: float = 0.0
    bytes_per_s: float = float("inf")
    loss: float = 0.0
    """Of segments; one that is lost comes a round trip later, and what is behind it with it."""
    queue: int = 64
    """Reads of a segment each that may be under way; then the sender is held up."""


class TcpRelay:
    """Forwards 127.0.0.1:``port`` to ``target``, in some ``weather``.

    ``cut`` resets every connection, ``finish`` ends it as a closing program would, ``mute`` lets it stand and drops what comes from then
    on. While ``refuses``, new ones are closed at once.
    """

    def __init__(self, target: int, weather: Weather | None = None) -> None:
        self._target = target
        self._weather = weather
        self._writers: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self._dialling: set[asyncio.Task[None]] = set()
        self._muted: set[asyncio.StreamWriter] = set()
        self.refuses = False
        self.accepted = 0
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        await asyncio.sleep(0)  # for what was accepted just now to have its task
        for dialling in list(self._dialling):
            dialling.cancel()
        self.cut()
        await asyncio.gather(*self._dialling, *self._pumps, return_exceptions=True)
        await self._server.wait_closed()
        await asyncio.sleep(0)  # for what was aborted to be closed

    def cut(self) -> None:
        """RST to both sides of every connection."""
        for writer in list(self._writers):
            tcp = writer.get_extra_info("socket")
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    def finish(self) -> None:
        """FIN to both sides of every connection."""
        for writer in list(self._writers):
            writer.close()

    def mute(self) -> None:
        """Every connection that is open stands from now on, and nothing arrives at either side."""
        self._muted |= self._writers

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self.refuses:
            writer.transport.abort()
            return
        self._writers.add(writer)
        dialling = asyncio.get_running_loop().create_task(self._dial(reader, writer))
        self._dialling.add(dialling)
        dialling.add_done_callback(self._dialling.discard)

    async def _dial(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except (OSError, asyncio.CancelledError):
            self._writers.discard(writer)
            writer.transport.abort()
            return
        self._writers.add(far_writer)
        loop = asyncio.get_running_loop()
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            pump = loop.create_task(self._pump(source, sink))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            if self._weather is not None:
                await self._through(self._weather, source, sink)
                return
            while data := await source.read(65536):
                if sink in self._muted:
                    continue
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        finally:
            self._writers.discard(sink)
            self._muted.discard(sink)
            sink.close()

    async def _through(self, weather: Weather, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """Carry one direction to its end."""
        loop = asyncio.get_running_loop()
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(weather.queue)
        chance = random.Random(1)  # the same weather in each run

        async def send() -> None:
            free_at = arrives_at = 0.0
            while True:
                try:
                    data = await source.read(SEGMENT)
                except OSError:
                    data = b""
                free_at = max(free_at, loop.time()) + len(data) / weather.bytes_per_s
                again = 2 * weather.delay_s if chance.random() < weather.loss else 0.0
                arrives_at = max(arrives_at, free_at + weather.delay_s + again)
                await under_way.put((arrives_at, data))
                if not data:
                    return

        sending = loop.create_task(send())
        try:
            while True:
                arrives_at, data = await under_way.get()
                await asyncio.sleep(arrives_at - loop.time())
                if not data:
                    return
                if sink not in self._muted:
                    sink.write(data)
                    await sink.drain()
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


class Road:
    """A relay that lives in a thread of its own, for tests whose ends are programs."""

    def __init__(self, target: int, weather: Weather | None = None) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._relay = TcpRelay(target, weather)
        self.cuts = 0

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._relay.__aenter__(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._relay.__aexit__(None, None, None), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._relay.port

    @property
    def accepted(self) -> int:
        """Connections so far."""
        return self._relay.accepted

    def now(self, what: Callable[[TcpRelay], None]) -> None:
        """Do this to the relay."""
        self._loop.call_soon_threadsafe(what, self._relay)

    @contextmanager
    def every(self, pause_s: float, what: Callable[[TcpRelay], None]) -> Iterator[None]:
        """Do this again and again while the block runs."""
        ending = threading.Event()

        def again() -> None:
            while not ending.wait(pause_s):
                self.cuts += 1
                self.now(what)

        doing = threading.Thread(target=again)
        doing.start()
        try:
            yield
        finally:
            ending.set()
            doing.join()
