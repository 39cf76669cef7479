"""What a transport may hold in user space for a protocol that pauses."""

from __future__ import annotations

import asyncio

READ_HIGH_BYTES = 32 * 1024
# More than a record of TLS, 18 KiB and 5 bytes (RFC 5246, section 6.2.3): nothing can be taken of half a record, so that a lower
# mark would never be reached, and the connection stand for ever.
READ_LOW_BYTES = 20 * 1024


def bound(transport: asyncio.Transport, write_bytes: int) -> None:
    """Set both limits. By itself TLS goes on reading up to 256 KiB of a connection that is paused; without TLS nothing is read then."""
    transport.set_write_buffer_limits(high=write_bytes)
    limit_reading = getattr(transport, "set_read_buffer_limits", None)
    if limit_reading is not None:
        limit_reading(high=READ_HIGH_BYTES, low=READ_LOW_BYTES)
