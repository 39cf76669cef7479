"""Browsers: which Origins may use this door. kubectl sends none; the Python client sends the door's own on WebSockets."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from kastunnel.http.request import RequestHead

_PREFLIGHT = (
    b"Access-Control-Allow-Methods: GET, HEAD, POST, PUT, PATCH, DELETE\r\n"
    b"Access-Control-Allow-Headers: Authorization, Accept, Content-Type\r\n"
    b"Access-Control-Max-Age: 600\r\n"
)
ALLOW = b"Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"


def is_allowed(head: RequestHead, allowed: AbstractSet[bytes]) -> bool:
    """The request comes from no browser, from a page of this very host, or from an origin that the operator named."""
    origin = head.origin
    return origin is None or _is_same(origin, head.host) or origin.lower() in allowed


def lines(head: RequestHead, *, preflight: bool = False) -> bytes:
    """The lines that let a browser on an allowed foreign origin read the answer; nothing for everybody else."""
    origin = head.origin
    if origin is None or _is_same(origin, head.host):
        return b""
    return b"Access-Control-Allow-Origin: %b\r\nVary: Origin\r\n%b" % (origin, _PREFLIGHT if preflight else b"")


def _is_same(origin: bytes, host: bytes) -> bool:
    return origin.lower().removesuffix(b":443") == b"https://" + host.lower().removesuffix(b":443")
