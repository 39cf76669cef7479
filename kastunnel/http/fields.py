"""The one table of field names: what happens to each on its way to the API server, and on the way back.

Names are compared without case and with ``_`` for ``-``, because servers behind an API server fold both. A spelling with
``_`` of a name that means something is never understood, only dropped (or, for impersonation, refused).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum, unique

from kastunnel.http import limits
from kastunnel.http.errors import BadMessage, Kind

Headers = Sequence[tuple[bytes, bytes]]


@unique
class Fate(Enum):
    """What happens to a field. All but KEEP take it out of the list that is passed on."""

    KEEP = "passed on unchanged"
    DROP = "taken out"
    INVALID = "the name is not a token: the message is refused"
    # Read by the parsers, then taken out; a door or agentk writes its own.
    HOST = "checked, never used for routing"
    AUTHORIZATION = "secret: only the door's credentials check sees it"
    CONNECTION = "its options are obeyed"
    UPGRADE = "checked; an accepted one is put back alone"
    CONTENT_LENGTH = "framing: stated anew at each hop"
    TRANSFER_ENCODING = "framing: chunked or nothing"
    EXPECT = "answered by the door"
    IMPERSONATE = "identity: refused, or read as typed values where that is allowed"
    VIA = "kept, and read to find loops"
    ORIGIN = "checked by the door"
    WEBSOCKET_KEY = "kept, and counted and measured on upgrades"
    WEBSOCKET_VERSION = "kept, and must be 13 on upgrades"
    WEBSOCKET_PROTOCOL = "kept, unless it holds a bearer token: refused"
    LOCATION = "taken out; with a 3xx status the response is refused"


# name: (in requests, in responses)
_FIELDS: dict[bytes, tuple[Fate, Fate]] = {
    # Hop by hop: RFC 9110 section 7.6.1 and what older software treats the same way.
    b"connection": (Fate.CONNECTION, Fate.CONNECTION),
    b"keep-alive": (Fate.DROP, Fate.DROP),
    b"te": (Fate.DROP, Fate.DROP),
    b"trailer": (Fate.DROP, Fate.DROP),
    b"transfer-encoding": (Fate.TRANSFER_ENCODING, Fate.TRANSFER_ENCODING),
    b"upgrade": (Fate.UPGRADE, Fate.UPGRADE),
    b"http2-settings": (Fate.DROP, Fate.DROP),
    # Framing and routing are decided anew at each hop.
    b"content-length": (Fate.CONTENT_LENGTH, Fate.CONTENT_LENGTH),
    b"host": (Fate.HOST, Fate.DROP),
    b"expect": (Fate.EXPECT, Fate.DROP),
    b"via": (Fate.VIA, Fate.KEEP),
    # Secrets.
    b"authorization": (Fate.AUTHORIZATION, Fate.DROP),
    b"cookie": (Fate.DROP, Fate.DROP),
    b"cookie2": (Fate.DROP, Fate.DROP),
    b"set-cookie": (Fate.DROP, Fate.DROP),
    b"set-cookie2": (Fate.DROP, Fate.DROP),
    # Who is asking, as proxies tell it: only the link's typed identity counts.
    b"forwarded": (Fate.DROP, Fate.KEEP),
    b"x-real-ip": (Fate.DROP, Fate.KEEP),
    b"client-ip": (Fate.DROP, Fate.KEEP),
    b"true-client-ip": (Fate.DROP, Fate.KEEP),
    b"from": (Fate.DROP, Fate.KEEP),
    # Another method or target than the one that was judged.
    b"x-http-method-override": (Fate.DROP, Fate.KEEP),
    b"x-http-method": (Fate.DROP, Fate.KEEP),
    b"x-method-override": (Fate.DROP, Fate.KEEP),
    b"x-original-url": (Fate.DROP, Fate.KEEP),
    b"x-rewrite-url": (Fate.DROP, Fate.KEEP),
    # Browsers: the door decides about origins; the API server is not asked.
    b"origin": (Fate.ORIGIN, Fate.DROP),
    b"x-request-id": (Fate.DROP, Fate.DROP),  # the door sets its own
    # WebSocket: the bearer token may hide in the protocol list.
    b"sec-websocket-key": (Fate.WEBSOCKET_KEY, Fate.KEEP),
    b"sec-websocket-version": (Fate.WEBSOCKET_VERSION, Fate.KEEP),
    b"sec-websocket-protocol": (Fate.WEBSOCKET_PROTOCOL, Fate.KEEP),
    # What an API server says about itself or to a browser.
    b"server": (Fate.KEEP, Fate.DROP),
    b"alt-svc": (Fate.DROP, Fate.DROP),
    b"location": (Fate.KEEP, Fate.LOCATION),
    b"refresh": (Fate.KEEP, Fate.DROP),
}

_PREFIXES: tuple[tuple[bytes, Fate, Fate], ...] = (
    (b"impersonate-", Fate.IMPERSONATE, Fate.DROP),
    (b"proxy-", Fate.DROP, Fate.DROP),
    (b"x-remote-", Fate.DROP, Fate.DROP),
    (b"x-forwarded-", Fate.DROP, Fate.DROP),
    (b"x-client-cert", Fate.DROP, Fate.DROP),
    (b"x-ssl-", Fate.DROP, Fate.DROP),
    (b"x-webauth-", Fate.DROP, Fate.DROP),
    (b"x-csrf-", Fate.DROP, Fate.DROP),
    (b"gitlab-", Fate.DROP, Fate.DROP),
    (b"access-control-", Fate.KEEP, Fate.DROP),
)

# Fates that leave a field in the list.
_STAYS = frozenset({Fate.KEEP, Fate.VIA, Fate.WEBSOCKET_KEY, Fate.WEBSOCKET_VERSION, Fate.WEBSOCKET_PROTOCOL})

# A Connection option with one of these names would take away what a proxy behind us relies on: an attack, not a wish.
_NEVER_NAMED = frozenset({b"authorization", b"host", b"cookie", b"set-cookie", b"transfer-encoding", b"via", b"origin"})
_NEVER_NAMED_PREFIXES = (b"content-", b"impersonate-", b"x-remote-", b"x-forwarded-", b"sec-websocket-")

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
is_token = re.compile(TOKEN).fullmatch

_MAX_REMEMBERED = 2048  # spellings; more are judged anew each time, so hostile names cost time but no memory


class _Fates(dict[bytes, Fate]):
    """Spelling → fate; a spelling not seen before is judged and, while there is room, remembered."""

    def __init__(self, column: int) -> None:
        super().__init__()
        self._column = column

    def __missing__(self, name: bytes) -> Fate:
        fate = _judge(name, self._column)
        if len(self) < _MAX_REMEMBERED and len(name) <= 64:
            self[name] = fate
        return fate


def _judge(name: bytes, column: int) -> Fate:
    if is_token(name) is None:
        return Fate.INVALID
    lower = name.lower()
    folded = lower.replace(b"_", b"-")
    fate = Fate.KEEP
    if (known := _FIELDS.get(folded)) is not None:
        fate = known[column]
    else:
        for prefix, *columns in _PREFIXES:
            if folded.startswith(prefix):
                fate = columns[column]
                break
    if folded != lower and fate is not Fate.KEEP and fate is not Fate.IMPERSONATE:
        return Fate.DROP
    return fate


REQUEST_FATES = _Fates(0)
"""What happens to a field of a request; subscript with the name as it was spelt."""

RESPONSE_FATES = _Fates(1)
"""What happens to a field of a response; subscript with the name as it was spelt."""


def clean_for_api_server(headers: Headers, *, upgrade: bool = False) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """The fields that may go to an API server, and the protocol to upgrade to (``b""`` without ``upgrade``).

    For agentk, which does not trust what kas has cleaned: identity, credentials, framing and hop-by-hop fields are silently
    dropped. BadMessage where a name is not a token, a value has CR, LF or NUL, or ``upgrade`` comes without a known protocol.
    """
    kept = []
    protocol = b""
    fates = REQUEST_FATES
    for field in headers:
        name, value = field
        if b"\n" in value or b"\r" in value or b"\0" in value:
            raise BadMessage(Kind.MALFORMED, "control character in a field value")
        fate = fates[name]
        if fate is Fate.KEEP or fate in _STAYS:
            kept.append(field)
        elif fate is Fate.INVALID:
            raise BadMessage(Kind.MALFORMED, "field name")
        elif fate is Fate.UPGRADE:
            protocol = known_protocol(value)
    if not upgrade:
        return kept, b""
    if not protocol:
        raise BadMessage(Kind.UPGRADE, "protocol")
    return kept, protocol


def known_protocol(value: bytes) -> bytes:
    """``websocket`` or ``SPDY/3.1`` when ``value`` names exactly that in any case, else ``b""``."""
    return _PROTOCOLS.get(value.strip(b" \t").lower(), b"")


_PROTOCOLS = {b"websocket": b"websocket", b"spdy/3.1": b"SPDY/3.1"}


def connection_options(values: Sequence[bytes]) -> set[bytes]:
    """The lower-case options of all Connection lines. BadMessage for an option that names what must not be removed."""
    options: set[bytes] = set()
    for value in values:
        for item in value.split(b","):
            option = item.strip(b" \t").lower()
            if not option:
                continue
            options.add(option)
            if len(options) > limits.MAX_CONNECTION_OPTIONS_COUNT:
                raise BadMessage(Kind.CONNECTION_OPTIONS, "too many options")
            folded = option.replace(b"_", b"-")
            if is_token(option) is None or folded in _NEVER_NAMED or folded.startswith(_NEVER_NAMED_PREFIXES):
                raise BadMessage(Kind.CONNECTION_OPTIONS, "option")
    return options


def without(headers: list[tuple[bytes, bytes]], names: set[bytes]) -> list[tuple[bytes, bytes]]:
    """``headers`` without those that Connection options name (also when spelt with ``_``)."""
    return [field for field in headers if field[0].lower().replace(b"_", b"-") not in names]
