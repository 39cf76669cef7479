"""What stands around the kubectl door in its tests: a gate, links to agents, and a client that says exactly these bytes."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable
from typing import Any, Self

from kas.access.caller import Caller
from kas.access.grants import Access, AgentRef, Candidate, Grant
from kas.errors import AgentNotConnected, KasError, Unauthenticated
from kastunnel.link.frames import AsAgent, Code, Head, Headers, Hop, Impersonate, Open, Reset, Uid
from kastunnel.link.handler import Exchange, Handler

TOKEN = b"good"
BEARER = b"Authorization: Bearer ci:1:good\r\n"


def grant(agent_id: int = 1, identity: AsAgent | Impersonate | None = None) -> Grant:
    caller = Caller(issuer="kas", project="group/project", job_id="7", expires_at=1e12)
    agent = AgentRef(agent_id, "group/agents", "prod")
    return Grant(caller, agent, identity or AsAgent(), "default", "ci_access.projects[0]", {"job": "7"})


def access(of: Grant) -> Access:
    """To everything, with this grant."""
    return Access(of.caller, of.agent, (Candidate(None, of),))


class FakeGate:
    """Knows ``grants`` by agent id and token. ``is_warm``: at once; else only ``admit`` does, when ``open`` is set."""

    def __init__(self) -> None:
        self.grants: dict[tuple[int, bytes], Grant] = {(1, TOKEN): grant()}
        self.is_warm = True
        self.open = asyncio.Event()
        self.open.set()
        self.error: KasError | None = None
        self.asked: list[tuple[int, bytes]] = []

    def admitted(self, agent_id: int, token: bytes, *, is_open: bool = False) -> Access | None:
        self.asked.append((agent_id, token))
        found = self.grants.get((agent_id, token)) if self.is_warm else None
        return None if found is None else access(found)

    async def admit(self, agent_id: int, token: bytes, *, is_open: bool = False) -> Access:
        await self.open.wait()
        if self.error is not None:
            raise self.error
        if (agent_id, token) not in self.grants:
            raise Unauthenticated
        return access(self.grants[agent_id, token])


class FakeOpenExchange:
    """A request at an agent, as the test plays it: what the door said, and the agent's part through ``handler``."""

    def __init__(self, agent_id: int, wanted: Open, handler: Handler, window: int) -> None:
        self.agent_id = agent_id
        self.wanted = wanted
        self.handler = handler
        self.uid = Uid(0, 0)
        self.body = wanted.body
        self.is_ended = wanted.end
        self.reset_said: Reset | None = None
        self.consumed_bytes = 0
        self.window = window
        self.happened = asyncio.Event()

    @property
    def room(self) -> int:
        return self.window - len(self.body)

    def send_head(
        self, status: int, headers: Headers, body: bytes = b"", *, end: bool = False, body_length: int | None = None
    ) -> None:
        raise AssertionError("the opener says no head")

    def send(self, data: bytes) -> None:
        assert not self.is_ended
        assert self.reset_said is None
        assert data
        self.body += data
        self.happened.set()

    def end(self) -> None:
        assert not self.is_ended
        self.is_ended = True
        self.happened.set()

    def reset(
        self, code: Code, reason: str = "", *, hop: Hop = Hop.HOP_UNSET, not_run: bool = False, after_data: bool = False
    ) -> None:
        if self.reset_said is None:
            self.reset_said = Reset(code, reason, hop, not_run)
            self.happened.set()

    def consumed(self, count: int) -> None:
        self.consumed_bytes += count
        self.happened.set()

    def stop(self, code: Code) -> None:
        pass

    # What the test does

    def answer(self, status: int = 200, body: bytes = b"", headers: Headers = (), **more: Any) -> None:
        """The whole answer in one frame, or with ``end=False`` its beginning."""
        self.handler.on_head(Head(status, headers, body, more.get("end", True), more.get("body_length")))

    def give_room(self, count: int) -> None:
        was_full = self.room <= 0
        self.window += count
        if was_full and self.room > 0:
            self.handler.on_room()

    async def until(self, predicate: Callable[[FakeOpenExchange], object], timeout_s: float = 5.0) -> None:
        async with asyncio.timeout(timeout_s):
            while not predicate(self):
                self.happened.clear()
                await self.happened.wait()


class FakeUpstream:
    """Links to agents. ``is_linked``: there is one. ``script`` plays the agent's part of each request; without it the test does."""

    def __init__(self) -> None:
        self.is_linked = True
        self.linked = asyncio.Event()
        self.window = 1 << 20
        self.opened: list[FakeOpenExchange] = []
        self.script: Callable[[FakeOpenExchange], None] | None = lambda asked: asked.answer(200, b"hello")
        self._happened = asyncio.Event()

    def open(self, agent_id: int, request: Open, handler: Handler) -> Exchange | None:
        if not self.is_linked:
            return None
        exchange = FakeOpenExchange(agent_id, request, handler, self.window)
        self.opened.append(exchange)
        self._happened.set()
        if self.script is not None:
            asyncio.get_running_loop().call_soon(self.script, exchange)
        return exchange

    async def wait(self, agent_id: int) -> None:
        if not self.is_linked:
            await self.linked.wait()
        if not self.is_linked:
            raise AgentNotConnected

    async def request(self, number: int = 1, timeout_s: float = 5.0) -> FakeOpenExchange:
        """The ``number``th request that reached an agent."""
        async with asyncio.timeout(timeout_s):
            while len(self.opened) < number:
                self._happened.clear()
                await self._happened.wait()
        return self.opened[number - 1]


class Response:
    """One response as the client read it."""

    def __init__(self, head: bytes, body: bytes) -> None:
        line, *fields = head.split(b"\r\n")
        self.status = int(line.split(b" ")[1])
        self.fields = [tuple(field.split(b": ", 1)) for field in fields]
        self.body = body

    def __getitem__(self, name: bytes) -> bytes:
        return next((value for key, value in self.fields if key.lower() == name.lower()), b"")

    @property
    def message(self) -> str:
        """Of a Status, or the text itself."""
        if self[b"content-type"] == b"application/json":
            return str(json.loads(self.body)["message"])
        return self.body.decode()


class RawClient:
    """Says bytes as they are, and reads responses; ``async with``."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._port = port
        self._tls = tls

    async def __aenter__(self) -> Self:
        name = "kubernetes" if self._tls else None
        self.reader, self.writer = await asyncio.open_connection(
            "127.0.0.1", self._port, ssl=self._tls, server_hostname=name
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()
        await asyncio.sleep(0)

    def say(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self, timeout_s: float = 5.0) -> bytes:
        async with asyncio.timeout(timeout_s):
            return (await self.reader.readuntil(b"\r\n\r\n"))[:-4]

    async def response(self, *, is_head: bool = False, timeout_s: float = 5.0) -> Response:
        """The next response with a length, or chunked."""
        async with asyncio.timeout(timeout_s):
            response = Response(await self.head(), b"")
            if is_head or response.status in (204, 304):
                return response
            if response[b"transfer-encoding"] == b"chunked":
                while size := int(await self.reader.readuntil(b"\r\n"), 16):
                    response.body += (await self.reader.readexactly(size + 2))[:-2]
                await self.reader.readexactly(2)
            else:
                response.body = await self.reader.readexactly(int(response[b"content-length"]))
            return response

    async def rest(self, timeout_s: float = 5.0) -> bytes:
        """Everything until the door closes, and b"RESET" where it does that hard."""
        data = b""
        async with asyncio.timeout(timeout_s):
            try:
                while more := await self.reader.read(65536):
                    data += more
            except (ConnectionError, ssl.SSLError):
                data += b"RESET"
        return data

    async def is_closed(self, timeout_s: float = 5.0) -> bool:
        """The door closes without another byte."""
        return await self.rest(timeout_s) in (b"", b"RESET")


def get(
    path: bytes = b"/agents/1/version", fields: bytes = b"", *, bearer: bytes = BEARER, method: bytes = b"GET"
) -> bytes:
    """A request as bytes."""
    return method + b" " + path + b" HTTP/1.1\r\nHost: kas\r\n" + bearer + fields + b"\r\n"
