"""Which web pages may use the door: a table."""

from __future__ import annotations

import pytest

from kas.kubernetes_api.origins import is_allowed, lines
from kastunnel.http.request import RequestHead

ALLOWED = frozenset({b"https://console.example.com"})


def head(origin: bytes | None, host: bytes = b"kas.example.com:8154") -> RequestHead:
    made = RequestHead()
    made.host = host
    made.origin = origin
    return made


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        (None, b"kas.example.com", True),
        (b"https://kas.example.com:8154", b"kas.example.com:8154", True),
        (b"https://KAS.example.com:8154", b"kas.Example.com:8154", True),
        (b"https://kas.example.com", b"kas.example.com:443", True),
        (b"https://kas.example.com:443", b"kas.example.com", True),
        (b"https://console.example.com", b"kas.example.com", True),
        (b"https://CONSOLE.example.com", b"kas.example.com", True),
        (b"https://kas.example.com:8153", b"kas.example.com:8154", False),
        (b"http://kas.example.com:8154", b"kas.example.com:8154", False),
        (b"https://console.example.com.evil.example", b"kas.example.com", False),
        (b"https://console.example.com:444", b"kas.example.com", False),
        (b"http://console.example.com", b"kas.example.com", False),
        (b"null", b"kas.example.com", False),
        (b"", b"kas.example.com", False),
        (b"*", b"kas.example.com", False),
        (
            b"https://",
            b"",
            True,
        ),  # what no browser sends: an origin without a host is this host only where Host is empty
    ],
)
def test_who_may(origin: bytes | None, host: bytes, allowed: bool) -> None:
    assert is_allowed(head(origin, host), ALLOWED) is allowed


def test_only_an_allowed_foreign_origin_is_told_that_it_may_read() -> None:
    assert lines(head(None)) == b""
    assert lines(head(b"https://kas.example.com:8154")) == b""
    said = b"Access-Control-Allow-Origin: https://console.example.com\r\nVary: Origin\r\n"
    assert lines(head(b"https://console.example.com")) == said
    preflight = lines(head(b"https://console.example.com"), preflight=True)
    assert preflight.startswith(said)
    assert b"Allow-Credentials" not in preflight
