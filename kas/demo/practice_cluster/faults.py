"""Fault knobs: what an API server, or the network before it, may do to the next requests.

``cluster.faults.answer(503, times=2, path="/api")`` and so on. Each knob concerns requests whose path starts with
``path`` and is used up after ``times`` of them; the first that fits is taken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp.web import BaseRequest, Response, StreamResponse

from kas.demo.practice_cluster import answers

Handler = Callable[[BaseRequest], Awaitable[StreamResponse]]
Effect = Callable[[BaseRequest, Handler], Awaitable[StreamResponse]]


@dataclass
class Fault:
    """One knob as it is set."""

    effect: Effect
    path: str
    method: str
    times: int

    def fits(self, request: BaseRequest) -> bool:
        """Whether it concerns ``request`` and is not used up."""
        return self.times > 0 and request.raw_path.startswith(self.path) and self.method in ("", request.method)


class Faults:
    """The knobs that are set."""

    def __init__(self) -> None:
        self.connections_to_refuse = 0
        self._faults: list[Fault] = []

    def __repr__(self) -> str:
        return f"<Faults set={len(self._faults)} refusing={self.connections_to_refuse}>"

    def clear(self) -> None:
        """Unset every knob."""
        self.connections_to_refuse = 0
        self._faults.clear()

    def refuse_connections(self, times: int) -> None:
        """Abort the next connections as soon as their TLS handshake is done."""
        self.connections_to_refuse = times

    def answer(
        self,
        status: int,
        *,
        body: str = "",
        headers: dict[str, str] | None = None,
        path: str = "/",
        method: str = "",
        times: int = 1,
    ) -> None:
        """Answer this instead."""

        async def effect(_: BaseRequest, __: Handler) -> StreamResponse:
            return Response(status=status, text=body, headers=headers)

        self._set(effect, path, method, times)

    def redirect(self, location: str, *, path: str = "/", method: str = "", times: int = 1) -> None:
        """Answer 302 to ``location``."""
        self.answer(302, headers={"Location": location}, path=path, method=method, times=times)

    def delay(self, seconds: float, *, path: str = "/", method: str = "", times: int = 1) -> None:
        """Answer as usual, but later."""

        async def effect(request: BaseRequest, handler: Handler) -> StreamResponse:
            await asyncio.sleep(seconds)
            return await handler(request)

        self._set(effect, path, method, times)

    def never_answer(self, *, path: str = "/", method: str = "", times: int = 1) -> None:
        """Say nothing until the client goes away."""

        async def effect(_: BaseRequest, __: Handler) -> StreamResponse:
            await asyncio.Event().wait()
            raise AssertionError

        self._set(effect, path, method, times)

    def cut_body(self, after_bytes: int, *, path: str = "/", method: str = "", times: int = 1) -> None:
        """Answer as usual, but end the connection after so many bytes of the body (announced length unchanged)."""

        async def effect(request: BaseRequest, handler: Handler) -> StreamResponse:
            request[answers.CUT_AFTER] = after_bytes
            answer = await handler(request)
            if isinstance(answer, Response) and not answer.prepared and isinstance(answer.body, bytes):
                await _send(request, _head(answer) + answer.body[:after_bytes])
                await answers.cut(request)
            return answer

        self._set(effect, path, method, times)

    def raw(self, data: bytes, *, then: str = "close", path: str = "/", method: str = "", times: int = 1) -> None:
        """Answer with these very bytes, then ``close``, ``abort`` (TCP reset) or ``hold`` the connection."""

        async def effect(request: BaseRequest, _: Handler) -> StreamResponse:
            await _send(request, data)
            if then == "abort" and request.transport is not None:
                request.transport.abort()
            if then == "hold":
                await asyncio.Event().wait()
            await answers.cut(request)
            raise AssertionError

        self._set(effect, path, method, times)

    def malformed_head(self, *, path: str = "/", method: str = "", times: int = 1) -> None:
        """Answer with something that is not HTTP."""
        self.raw(b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n{}", path=path, method=method, times=times)

    def close_delimited(self, body: bytes, *, path: str = "/", method: str = "", times: int = 1) -> None:
        """Answer 200 without a length: the body ends with the connection."""
        self.raw(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + body, path=path, method=method, times=times
        )

    def unsolicited_101(self, *, path: str = "/", method: str = "", times: int = 1) -> None:
        """Switch protocols although nobody asked."""
        head = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        self.raw(head, then="hold", path=path, method=method, times=times)

    def plain_discovery(self, *, times: int = 1) -> None:
        """Answer /api and /apis as API servers before 1.26 do, which know nothing of the aggregated form."""

        async def effect(request: BaseRequest, handler: Handler) -> StreamResponse:
            if request.path.rstrip("/") in {"/api", "/apis"}:
                request = request.clone(headers={**request.headers, "Accept": "application/json"})
            return await handler(request)

        self._set(effect, "/api", "GET", times)

    async def handle(self, request: BaseRequest, handler: Handler) -> StreamResponse:
        """Let ``handler`` answer, unless a knob says otherwise."""
        for fault in self._faults:
            if fault.fits(request):
                fault.times -= 1
                return await fault.effect(request, handler)
        return await handler(request)

    def _set(self, effect: Effect, path: str, method: str, times: int) -> None:
        self._faults.append(Fault(effect, path, method, times))


def _head(answer: Response) -> bytes:
    assert isinstance(answer.body, bytes)  # noqa: S101 checked by the caller
    lines = [f"HTTP/1.1 {answer.status} {answer.reason}", *(f"{key}: {value}" for key, value in answer.headers.items())]
    return "\r\n".join([*lines, f"Content-Length: {len(answer.body)}", "", ""]).encode("latin-1")


async def _send(request: BaseRequest, data: bytes) -> None:
    if request.transport is not None:
        request.transport.write(data)
    await asyncio.sleep(0)
