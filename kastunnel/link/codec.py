"""Envelopes to bytes and back. The only file that knows protobuf.

What is said on every request (Open, Head, Data, End, Credit) is written by hand: a third of the time of building protobuf
messages, and a body is copied once instead of three times. Everything else, and all reading, is protobuf's own code:
what comes from the other side is hostile. A property test holds the two against each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from kastunnel.link.errors import LinkError, RequestError, Unsupported
from kastunnel.link.frames import AsAgent, Code, Head, Headers, Hop, Impersonate, Open, Reset, Uid
from kastunnel.v1 import link_pb2 as pb

_SMALL = [bytes([n]) if n < 128 else bytes([n & 127 | 128, n >> 7]) for n in range(16384)]


def varint(n: int) -> bytes:
    """Base-128 varint (protobuf encoding guide)."""
    if n < 16384:
        return _SMALL[n]
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


# ---- writing ----------------------------------------------------------------------------------------------------------


def envelope(number: int, ack: int, frames: Iterable[bytes]) -> bytes:
    """An envelope around frames that were encoded by the functions below."""
    parts = [b""]
    size = 0
    if number:
        parts += (b"\x08", varint(number))
    if ack:
        parts += (b"\x10", varint(ack))
    for frame in frames:
        size = len(frame)
        parts += (b"\x1a", _SMALL[size] if size < 16384 else varint(size), frame)
    return b"".join(parts)


def open_frame(number: int, uid: Uid, request: Open, body: bytes, end: bool) -> bytes:
    """The Frame that opens a request; ``body`` and ``end`` are what is said of its body with it."""
    parts: list[bytes] = [
        b"\x0a",
        b"",
        b"\x09",
        uid.origin.to_bytes(8, "little"),
        b"\x10",
        counter := varint(uid.counter),
    ]
    parts[1] = _SMALL[10 + len(counter)]
    if request.needs:
        needs = b"".join(map(varint, request.needs))
        parts += (b"\x12", varint(len(needs)), needs)
    parts += (_identity(request.identity), b"\x32", varint(len(request.method)), request.method)
    parts += (b"\x3a", varint(len(request.target)), request.target)
    _add_headers(parts, b"\x42", request.headers)
    if body:
        parts += (b"\x4a", varint(len(body)), body)
    if end:
        parts.append(b"\x50\x01")
    if request.upgrade:
        parts.append(b"\x58\x01")
    if request.body_length is not None:
        parts += (b"\x60", varint(request.body_length + 1))
    if request.timeout_ms:
        parts += (b"\x70", varint(request.timeout_ms))
    if request.trace_parent:
        _add_text(parts, b"\x7a", request.trace_parent)
    if request.trace_state:
        _add_text(parts, b"\x82\x01", request.trace_state)
    if request.labels:
        parts.append(_labels(tuple(request.labels.items())))
    if request.request_id:
        _add_text(parts, b"\x9a\x01", request.request_id)
    return _frame(number, b"\x1a", b"".join(parts))


def head_frame(number: int, head: Head, body: bytes, end: bool) -> bytes:
    """The Frame with an answer's head; ``body`` and ``end`` are what is said of its body with it."""
    parts: list[bytes] = [b"\x08", varint(head.status)]
    _add_headers(parts, b"\x12", head.headers)
    if body:
        parts += (b"\x1a", varint(len(body)), body)
    if end:
        parts.append(b"\x20\x01")
    if head.body_length is not None:
        parts += (b"\x28", varint(head.body_length + 1))
    return _frame(number, b"\x22", b"".join(parts))


def data_frame(number: int, offset: int, data: bytes, end: bool) -> bytes:
    """A Frame with body bytes from ``offset`` on."""
    size = varint(len(data))
    at = varint(offset)
    inner = (1 + len(at) if offset else 0) + 1 + len(size) + len(data) + (2 if end else 0)
    return b"".join(
        (
            b"\x08",
            varint(number),
            b"\x2a",
            varint(inner),
            b"\x08" + at if offset else b"",
            b"\x12",
            size,
            data,
            b"\x18\x01" if end else b"",
        )
    )


def end_frame(number: int, total: int, stopped: bool) -> bytes:
    """A Frame that ends a direction."""
    return _frame(number, b"\x32", (b"\x08" + varint(total) if total else b"") + (b"\x10\x01" if stopped else b""))


def credit_frame(number: int, limit: int) -> bytes:
    """A Frame that grants bytes below ``limit``."""
    return _frame(number, b"\x42", b"\x08" + varint(limit))


def reset_frame(number: int, reset: Reset) -> bytes:
    """A Frame that says a request has failed."""
    return pb.Frame(request=number, reset=reset_message(reset)).SerializeToString()


def stop_frame(number: int, code: Code) -> bytes:
    """A Frame that asks the other end to end its body early."""
    return pb.Frame(request=number, stop=pb.StopSending(code=enum(code))).SerializeToString()


def release_frame(number: int, limit: int, seen: int) -> bytes:
    """A Frame that gives credit back."""
    return pb.Frame(request=number, release=pb.Release(limit=limit, seen=seen)).SerializeToString()


def reset_message(reset: Reset) -> pb.Reset:
    """A Reset as it travels, in a frame or in a position."""
    after = 0 if reset.after is None else reset.after + 1
    return pb.Reset(code=enum(reset.code), reason=reset.reason, not_run=reset.not_run, after=after, hop=enum(reset.hop))


def enum(value: int) -> Any:
    """A number as protobuf's typed stubs want it; at run time an enum is a plain number."""
    return int(value)


def _frame(number: int, tag: bytes, inner: bytes) -> bytes:
    return b"".join((b"\x08", varint(number), tag, varint(len(inner)), inner))


def _add_headers(parts: list[bytes], tag: bytes, headers: Headers) -> None:
    for name, value in headers:
        name_size, value_size = len(name), len(value)
        if name_size < 128 and value_size < 128:  # nearly all: one table look-up each
            parts += (
                tag,
                _SMALL[name_size + value_size + 4],
                b"\x0a",
                _SMALL[name_size],
                name,
                b"\x12",
                _SMALL[value_size],
                value,
            )
        else:
            a, b = varint(name_size), varint(value_size)
            inner = 2 + len(a) + len(b) + name_size + value_size
            parts += (tag, varint(inner), b"\x0a", a, name, b"\x12", b, value)


def _add_text(parts: list[bytes], tag: bytes, text: str) -> None:
    data = text.encode()
    parts += (tag, varint(len(data)), data)


@lru_cache(maxsize=4096)
def _labels(labels: tuple[tuple[str, str], ...]) -> bytes:
    """The labels of an Open; a job's requests all carry the same ones."""
    parts: list[bytes] = []
    for key, value in labels:
        entry: list[bytes] = []
        _add_text(entry, b"\x0a", key)
        _add_text(entry, b"\x12", value)
        inner = b"".join(entry)
        parts += (b"\x8a\x01", varint(len(inner)), inner)
    return b"".join(parts)


@lru_cache(maxsize=4096)
def _identity(identity: AsAgent | Impersonate) -> bytes:
    """The identity field of an Open; a job's requests all carry the same one."""
    if isinstance(identity, AsAgent):
        return b"\x1a\x00"
    message = pb.Impersonate(user=identity.user, groups=identity.groups, uid=identity.uid)
    for key, values in identity.extra:
        message.extra.add(key=key, values=values)
    data = message.SerializeToString()
    return b"\x22" + varint(len(data)) + data


# ---- reading ----------------------------------------------------------------------------------------------------------


def read_envelope(data: bytes) -> pb.Envelope:
    """Raises LinkError if ``data`` is no envelope."""
    try:
        return pb.Envelope.FromString(data)
    except DecodeError as error:
        raise LinkError("unparsable envelope") from error


def read_open(message: pb.Open, understood: frozenset[int]) -> Open:
    """Raises Unsupported where less might be understood than was meant: an unknown need, no identity, or one with unknown fields."""
    for need in message.needs:
        if need not in understood:
            raise Unsupported(f"unknown need {need}")
    which = message.WhichOneof("identity")
    identity: AsAgent | Impersonate
    if which == "impersonate":
        identity = _read_impersonate(message.impersonate.SerializeToString())
    elif which == "as_agent":
        if len(UnknownFieldSet(message.as_agent)):
            raise Unsupported("identity with unknown fields")
        identity = AsAgent()
    else:
        raise Unsupported(f"identity {which or 'unset'}")
    if message.cluster:
        raise Unsupported("cluster without the feature CLUSTERS")
    return Open(
        identity=identity,
        method=message.method,
        target=message.target,
        headers=[(header.name, header.value) for header in message.headers],
        body=message.body,
        end=message.end,
        upgrade=message.upgrade,
        body_length=message.body_length - 1 if message.body_length else None,
        timeout_ms=message.timeout_ms,
        request_id=message.request_id,
        labels=dict(message.labels),
        needs=tuple(message.needs),
        uid=read_uid(message.uid),
        trace_parent=message.trace_parent,
        trace_state=message.trace_state,
    )


@lru_cache(maxsize=4096)
def _read_impersonate(encoded: bytes) -> Impersonate:
    """Kept by its bytes: a job's requests all carry the same one. A refusal is not kept."""
    message = pb.Impersonate.FromString(encoded)
    if len(UnknownFieldSet(message)) or any(len(UnknownFieldSet(extra)) for extra in message.extra):
        raise Unsupported("identity with unknown fields")
    if not message.user:
        raise RequestError("impersonation without a user")
    extra = tuple((entry.key, tuple(entry.values)) for entry in message.extra)
    return Impersonate(message.user, tuple(message.groups), message.uid, extra)


def read_uid(message: pb.Uid) -> Uid:
    """A request's identity."""
    return Uid(message.origin, message.counter)


def read_head(message: pb.Head) -> Head:
    """An answer's head."""
    return Head(
        message.status,
        [(header.name, header.value) for header in message.headers],
        message.body,
        message.end,
        message.body_length - 1 if message.body_length else None,
    )


def read_reset(message: pb.Reset) -> Reset:
    """Why a request failed; numbers that a later version may have added become their zero."""
    after = message.after - 1 if message.after else None
    return Reset(known_code(message.code), message.reason, known_hop(message.hop), message.not_run, after)


def known_code(number: int) -> Code:
    """A code of this version, or CODE_UNSET."""
    return Code(number) if number in _CODES else Code.CODE_UNSET


def known_hop(number: int) -> Hop:
    """A hop of this version, or HOP_UNSET."""
    return Hop(number) if number in _HOPS else Hop.HOP_UNSET


_CODES: Sequence[int] = list(Code)
_HOPS: Sequence[int] = list(Hop)
