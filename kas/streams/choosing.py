"""Which tap an upgraded stream gets."""

from __future__ import annotations

import re

from kas.streams.forwarding import ForwardTap, TunnelTap
from kas.streams.spdy import SpdyTap
from kas.streams.tap import Tap
from kas.streams.websocket import WebSocketTap
from kastunnel.http.classify import RequestInfo
from kastunnel.link.frames import Headers

_SESSIONS = frozenset({"exec", "attach"})
_switches = re.compile(rb"[?&](stdin|stdout|stderr|tty)=(?:1|t|T|true|TRUE|True)(?=&|$)").findall  # as Go's ParseBool
_FORWARD = b"portforward.k8s.io"
_CHANNELS = re.compile(rb"(?:v[2-5]\.)?(?:base64\.)?channel\.k8s\.io").fullmatch


def tap_of(info: RequestInfo | None, upgrade: bytes, target: bytes, headers: Headers) -> Tap | None:
    """The tap for a request that was answered with 101 and ``headers``. None: it is no session, or not spoken as Kubernetes does."""
    if info is None or info.resource != "pods":
        return None
    answered = {name.lower(): value for name, value in headers}
    if info.subresource == "portforward":
        return _forwarding(upgrade, answered)
    if info.subresource not in _SESSIONS:
        return None
    if upgrade == b"websocket":
        protocol = answered.get(b"sec-websocket-protocol", b"")
        if not _CHANNELS(protocol) or b"sec-websocket-extensions" in answered:
            return None
        return WebSocketTap(protocol)
    protocol = answered.get(b"x-stream-protocol-version", b"channel.k8s.io")  # the first one had no name yet
    if not _CHANNELS(protocol):
        return None
    wanted = {name.decode() for name in _switches(target)}
    if "tty" in wanted:
        wanted.discard("stderr")  # a terminal has one output
    return SpdyTap(protocol, wanted - {"tty"})


def _forwarding(upgrade: bytes, answered: dict[bytes, bytes]) -> Tap | None:
    if upgrade != b"websocket":
        return ForwardTap() if answered.get(b"x-stream-protocol-version") == _FORWARD else None
    is_tunnel = answered.get(b"sec-websocket-protocol") == b"SPDY/3.1+" + _FORWARD
    return TunnelTap() if is_tunnel and b"sec-websocket-extensions" not in answered else None
