"""The frames of a request as plain values: comparable, immutable, and cheap to make (named tuples: a third of a frozen dataclass's cost).

Bytes stay bytes: methods, targets and header values need not be UTF-8. Offsets and totals count uncompressed body bytes.
The numbers of ``Code``, ``Hop`` and ``Feature`` are those of proto/kastunnel/v1/link.proto.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

Headers = Sequence[tuple[bytes, bytes]]


class Code(IntEnum):
    """Why a request or a link ended early."""

    CODE_UNSET = 0
    CANCELLED = 1
    UNSUPPORTED = 2
    PROTOCOL = 3
    LIMIT = 4
    TIMEOUT = 5
    UPSTREAM_DIAL = 6
    UPSTREAM_BROKEN = 7
    REVOKED = 8
    ACCESS_ENDED = 9
    DRAINING = 10
    UNAUTHENTICATED = 11
    TOO_LATE = 12
    SUPERSEDED = 13
    INTERNAL = 14
    UPSTREAM_TLS = 15
    UPSTREAM_BAD = 16


class Hop(IntEnum):
    """Who failed."""

    HOP_UNSET = 0
    CALLER = 1
    ENTRY = 2
    HOLDER = 3
    AGENTK = 4
    API_SERVER = 5


class Feature(IntEnum):
    """What an end understands beyond the base protocol; in force only when both ends say it."""

    FEATURE_UNSET = 0
    END_TO_END = 1
    CARRY = 2
    CLUSTERS = 3
    DEADLINE = 4
    TRAILERS = 5
    INTERIM = 6
    AGENT_OPENS = 7
    RELEASE = 8
    COMPRESSION = 9


class Uid(NamedTuple):
    """The identity of a request on any link, unique for ever: 64 random bits per boot of the opener, and a counter."""

    origin: int
    counter: int


class AsAgent(NamedTuple):
    """Act as agentk's own service account."""


class Impersonate(NamedTuple):
    """Act as somebody else: agentk adds Impersonate-* headers with exactly these values."""

    user: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


class Open(NamedTuple):
    """What the opener wants: one HTTP request, cleaned, with a typed identity.

    ``body`` is the beginning of the body; ``end`` says that it is all of it. ``body_length`` is None where unknown
    (chunked). With ``upgrade``, the two directions become byte pipes after a 101.
    """

    identity: AsAgent | Impersonate
    method: bytes
    target: bytes
    headers: Headers
    body: bytes = b""
    end: bool = False
    upgrade: bool = False
    body_length: int | None = None
    timeout_ms: int = 0
    request_id: str = ""
    labels: Mapping[str, str] = {}
    needs: tuple[int, ...] = ()
    uid: Uid = Uid(0, 0)
    trace_parent: str = ""
    trace_state: str = ""


class Head(NamedTuple):
    """The answer's head: a final status or 101, cleaned headers without framing, and the beginning of the body."""

    status: int
    headers: Headers
    body: bytes = b""
    end: bool = False
    body_length: int | None = None


class Reset(NamedTuple):
    """The request has failed: why, for people and for programs, and who failed.

    ``not_run``: it had no effect and may be dispatched again. ``after``: deliver the bytes below it first; None = at once.
    """

    code: Code
    reason: str = ""
    hop: Hop = Hop.HOP_UNSET
    not_run: bool = False
    after: int | None = None
