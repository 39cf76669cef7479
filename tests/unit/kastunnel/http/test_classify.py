"""Requests are classified as k8s.io/apiserver classifies them: against its own recorded answers (see request_info/)."""

from __future__ import annotations

import json
import lzma
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kastunnel.http.classify import request_info

FOLDER = Path(__file__).parent / "request_info"
RECORDED = (FOLDER / "recorded.jsonl").read_text().splitlines()


@pytest.mark.covers("Z-05", "Z-12")
def test_every_recorded_request_is_classified_as_kubernetes_does() -> None:
    for line in RECORDED:
        method, target, expected = json.loads(line)
        info = request_info(method.encode(), target.encode())
        # Then: the same attributes, parts and verdict on how long it may run.
        assert expected == (info and [*info[:10], list(info.parts), info.is_long_running]), (method, target)


@pytest.mark.covers("Z-12", "T17")
def test_a_hundred_thousand_generated_requests_are_classified_as_kubernetes_does() -> None:
    # Made by: python generate.py 105000 | recorder (stray bytes are shown as U+FFFD by its JSON).
    count = 0
    with lzma.open(FOLDER / "generated.jsonl.xz", "rt", encoding="utf-8") as lines:
        for line in lines:
            method, target, expected = json.loads(line)
            info = request_info(method.encode(), target.encode())
            found = info and [*map(_shown, info[:10]), list(map(_shown, info.parts)), info.is_long_running]
            assert expected == found, (method, target)
            count += 1
    assert count > 100_000


def _shown(value: str | bool) -> str | bool:
    return value if isinstance(value, bool) else value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


@pytest.mark.parametrize(
    ("method", "target", "verb", "subresource", "long_running", "proxy"),
    [
        (b"GET", b"/api/v1/namespaces/d/pods/p/exec?command=sh", "get", "exec", True, False),
        (b"POST", b"/api/v1/namespaces/d/pods/p/exec", "create", "exec", True, False),
        (b"HEAD", b"/api/v1/pods", "list", "", False, False),
        (b"GET", b"/api/v1/watch/pods", "watch", "", True, False),
        (b"GET", b"/api/v1/pods?watch=t", "watch", "", True, False),
        (b"PUT", b"/api/v1/namespaces/d/services/s:80/proxy/a", "update", "proxy", True, True),
        (b"GET", b"/api/v1/proxy/nodes/n", "proxy", "", True, True),
        (b"DELETE", b"/apis/apps/v1/namespaces/d/deployments", "deletecollection", "", False, False),
    ],
)
def test_what_the_door_needs_to_know(
    method: bytes, target: bytes, verb: str, subresource: str, long_running: bool, proxy: bool
) -> None:
    info = request_info(method, target)
    assert info is not None
    assert (info.verb, info.subresource, info.is_long_running, info.is_proxy) == (
        verb,
        subresource,
        long_running,
        proxy,
    )


def test_a_verb_in_the_path_without_a_resource_cannot_be_classified() -> None:
    assert request_info(b"GET", b"/api/v1/watch") is None


@given(st.sampled_from([b"GET", b"DELETE", b"OPTIONS"]), st.binary(max_size=40))
def test_any_bytes_are_classified_without_a_crash(method: bytes, rest: bytes) -> None:
    request_info(method, b"/api/v1/" + rest)
