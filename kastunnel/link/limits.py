"""Every size and time on the wire: unit, reason, source (docs/link-protocol.md where nothing else is named)."""

from __future__ import annotations

from typing import NamedTuple

KIB = 1024
MIB = 1024 * KIB

VERSION = 1  # the protocol version that this code speaks

INITIAL_WINDOW = 64 * KIB  # bytes a direction may carry before the first Credit: most answers need no Credit at all
MAX_WINDOW = 1 * MIB  # bytes; fills 8 ms at 1 Gbit/s, and bounds what one stalled reader holds
INLINE_BODY = 64 * KIB  # bytes of body inside Open and Head: a complete small answer is one frame
ENVELOPE_TARGET = 256 * KIB  # bytes; messages cost, not bytes, and beyond this size nothing more is gained
ENVELOPE_ACCEPT = (
    1 * MIB
)  # bytes we take in one envelope: the target, one overshooting frame, and room for later versions
TURN = 64 * KIB  # bytes a request may say before the next one's turn (deficit round robin), if one waits
POSITIONS_PER_FRAME = 1_000  # about 60 KiB …
POSITIONS_BYTES = 128 * KIB  # … unless many carry the reason of a Reset

LINK_BUDGET = 32 * MIB  # bytes of window growth beyond INITIAL_WINDOW, each way, per link
PROCESS_BUDGET = 256 * MIB  # the same for all links of a process
MAX_REQUESTS = 10_000  # open requests on a link; times INITIAL_WINDOW is the worst case of a hostile peer

ACK_BYTES = 64 * KIB  # an acknowledgement is owed after so many bytes …
ACK_DELAY_S = 0.05  # … or so long: it nearly always rides on an envelope that goes anyway
BEAT_S = 10.0  # something is said at least this often
SILENCE_S = 30.0  # and silence for this long means that the stream is lost
RELEASE_IDLE_S = 1.0  # a sender idle for so long gives grown credit back
DETACH_MS = 30_000  # a detached link and its requests live this long
UID_MEMORY_S = 60.0  # agentk remembers ended requests for this long: twice what a link may be detached

REASON_BYTES = 1 * KIB  # of Reset.reason, for people
NO_TIMEOUT_MS = 0xFFFF_FFFF  # Open.timeout_ms of a long-running request: no limit until the head


class PeerLimits(NamedTuple):
    """What an end accepts, as it says in hello or welcome: requests open at once, bytes an envelope, bytes a window, ms of silence."""

    max_requests: int = MAX_REQUESTS
    envelope: int = ENVELOPE_ACCEPT
    window: int = MAX_WINDOW
    silence_ms: int = int(SILENCE_S * 1000)


LEAST = PeerLimits(max_requests=1, envelope=512 * KIB, window=INITIAL_WINDOW, silence_ms=3_000)
"""What an end must accept at least: an envelope of the target size and one overshooting request fit, a beat a second keeps it."""
