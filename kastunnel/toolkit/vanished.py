"""Peers that are gone without a word while something is being said to them.

TCP's keep-alive finds those that nothing is said to. As long as bytes are unacknowledged Linux sends none, and says them again for a
quarter of an hour instead. TCP_USER_TIMEOUT would shorten that, but also end who has stopped reading, as `kubectl logs --follow | less`
does: such a peer answers, and may take as long as it likes (RFC 9293, section 3.8.6.1).
"""

from __future__ import annotations

import asyncio
import socket
import struct

LOOK_S = 30.0  # between two looks at a connection
SILENT_S = 90.0  # without an acknowledgement of bytes that were said again; both together are the two minutes of the keep-alive

# The fields of linux/tcp.h's struct tcp_info that matter here, and how far it is read.
_RETRANSMITS = struct.Struct("2xB")
_UNACKED = struct.Struct("24xI")
_LAST_ACK_RECEIVED_MS = struct.Struct("56xI")
_BYTES = 60
_TCP_INFO: int | None = getattr(socket, "TCP_INFO", None)  # Linux


def is_vanished(transport: asyncio.Transport, silent_s: float = SILENT_S) -> bool:
    """Whether the other end has long acknowledged nothing of what it was told again and again. False where that cannot be known."""
    sock = transport.get_extra_info("socket")
    if sock is None or _TCP_INFO is None or sock.family == socket.AF_UNIX:
        return False
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _BYTES)
    except OSError:  # closed meanwhile
        return False
    if len(info) < _BYTES:
        return False
    (unacked,) = _UNACKED.unpack_from(info)
    (retransmits,) = _RETRANSMITS.unpack_from(info)
    (silent_ms,) = _LAST_ACK_RECEIVED_MS.unpack_from(info)
    return bool(unacked and retransmits) and silent_ms >= silent_s * 1000
