"""Bodies of small answers over HTTP, whole and bounded: what another machine sends may be of any size and come in any pieces."""

from __future__ import annotations

import aiohttp


class TooLarge(ValueError):
    """The body has more bytes than the reader takes."""


async def whole_body(answer: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    """All of the body. (``answer.content.read(n)`` is not that: it returns what has arrived so far.)

    Raises TooLarge, aiohttp.ClientError where the body breaks off, and nothing for time: the caller has a limit. What is left after an
    error or a cancellation is never read: the connection is closed with ``answer``.
    """
    parts = bytearray()
    async for part in answer.content.iter_any():
        parts += part
        if len(parts) > max_bytes:
            raise TooLarge(f"more than {max_bytes} bytes")
    return bytes(parts)
