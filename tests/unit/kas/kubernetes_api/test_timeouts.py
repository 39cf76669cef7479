"""The time limit that a client asks for."""

from __future__ import annotations

import pytest

from kas.kubernetes_api.timeouts import query_timeout_s


@pytest.mark.parametrize(
    ("query", "seconds"),
    [(b"?timeout=32s", 32), (b"?a&timeout=1h2m3.5s", 3600), (b"?timeout=2m", 120), (b"?timeout=", None), (b"?timeout=5", None),
     (b"?timeout=-5s", None), (b"?timeout=0s&timeout=5s", None), (b"?notimeout=5s", None), (b"?timeout=1e9s", None), (b"", None)],
)  # fmt: skip
def test_durations(query: bytes, seconds: float | None) -> None:
    assert query_timeout_s(b"/x" + query) == seconds
