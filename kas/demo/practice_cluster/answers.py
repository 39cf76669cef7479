"""HTTP answers: JSON as an API server sends it, and streams that a fault can cut."""

from __future__ import annotations

import asyncio
import gzip
import json
import uuid
from typing import Any

from aiohttp.web import BaseRequest, RequestKey, Response, StreamResponse

GZIP_FROM_BYTES = 128 * 1024  # the API server compresses bodies larger than this, if asked to
CUT_AFTER = RequestKey("cut_after", int)  # bytes of the body, set by a fault


def common_headers() -> dict[str, str]:
    """What every answer of an API server carries."""
    return {"Audit-Id": str(uuid.uuid4()), "Cache-Control": "no-cache, private"}


def json_answer(
    request: BaseRequest,
    document: Any,
    *,
    status: int = 200,
    content_type: str = "application/json",
    warnings: list[str] | None = None,
) -> Response:
    """``document`` as JSON; compressed when large and the client accepts it."""
    body = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    answer = bytes_answer(request, body, status=status, content_type=content_type)
    for warning in warnings or []:
        escaped = warning.replace("\\", "\\\\").replace('"', '\\"')
        answer.headers.add("Warning", f'299 - "{escaped}"')
    return answer


def bytes_answer(request: BaseRequest, body: bytes, *, status: int = 200, content_type: str) -> Response:
    """``body`` as it is; compressed when large and the client accepts it."""
    headers = {**common_headers(), "Content-Type": content_type}
    if len(body) > GZIP_FROM_BYTES and "gzip" in request.headers.get("Accept-Encoding", ""):
        body = gzip.compress(body, 1, mtime=0)
        headers["Content-Encoding"] = "gzip"
        headers["Vary"] = "Accept-Encoding"
    return Response(body=body, status=status, headers=headers)


class Stream(StreamResponse):
    """An endless body, sent piece by piece (chunked)."""

    def __init__(self, content_type: str) -> None:
        super().__init__(headers={**common_headers(), "Content-Type": content_type})
        self._request: BaseRequest | None = None
        self._left: int | None = None  # bytes until a fault cuts the body

    async def begin(self, request: BaseRequest) -> None:
        """Send the head now."""
        self._request = request
        self._left = request.get(CUT_AFTER)
        self.enable_chunked_encoding()
        await self.prepare(request)

    async def send(self, data: bytes) -> None:
        """Send a piece; waits while the client does not read. Raises ConnectionError when it is gone."""
        if self._left is None or len(data) <= self._left:
            if self._left is not None:
                self._left -= len(data)
            await self.write(data)
            return
        await self.write(data[: self._left])
        assert self._request is not None  # noqa: S101 begin() came first
        await cut(self._request)


async def cut(request: BaseRequest) -> None:
    """End the connection in the middle of what was said; never returns."""
    if request.transport is not None:
        request.transport.close()  # what was written still goes out; then nothing
    await asyncio.Event().wait()  # the lost connection cancels this request
