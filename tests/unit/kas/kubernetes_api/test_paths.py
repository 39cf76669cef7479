"""Where targets lead, and which are answered in text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kas.kubernetes_api.paths import MAX_ID, Place, cut, locate, wants_text
from kas.kubernetes_api.replies import Refused


@pytest.mark.parametrize(
    ("target", "place"),
    [
        (b"/agents/7/api/v1?x=/", Place(7, b"/api/v1?x=/")),
        (b"/agents/7//api", Place(7, b"//api")),
        (b"/agents/7/", Place(7, b"/")),
        (b"/agents/%d/x" % MAX_ID, Place(MAX_ID, b"/x")),
        (b"/k8s-proxy/apis", Place(None, b"/apis")),
        (b"/api?a=b", Place(None, b"/api?a=b")),
        (b"/version", Place(None, b"/version")),
    ],
)
def test_a_target_leads_to_an_agent_byte_for_byte(target: bytes, place: Place) -> None:
    assert locate(target) == place
    assert cut(target) == place.target


@pytest.mark.covers("Z-01")
@given(st.sampled_from([b"/agents/", b"/k8s-proxy", b"/api", b"/", b"/versions"]), st.binary(max_size=12))
def test_whatever_follows_no_target_leads_to_an_agent_that_it_does_not_name(start: bytes, rest: bytes) -> None:
    try:
        place = locate(start + rest)
    except Refused:
        assert cut(start + rest) == start + rest
        return
    assert (start + rest).endswith(place.target)
    if place.agent_id is not None:
        assert start + rest == b"/agents/%d%b" % (place.agent_id, place.target)


@pytest.mark.parametrize(
    "path",
    [
        b"/api",
        b"/apis?timeout=32s",
        b"/api/v1",
        b"/apis/apps/v1",
        b"/version",
        b"/openapi/v3/apis/apps/v1",
        b"/swagger-2.0.0.pb-v1",
    ],
)
def test_discovery_is_answered_in_text(path: bytes) -> None:
    assert wants_text(path, b"")


@pytest.mark.parametrize(
    "path", [b"/api/v1/pods", b"/apis/apps/v1/deployments/x", b"/healthz", b"/x", b"/api/v1/watch"]
)
def test_everything_else_is_answered_as_a_status(path: bytes) -> None:
    assert not wants_text(path, b"application/json")
    assert wants_text(path, b"application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
