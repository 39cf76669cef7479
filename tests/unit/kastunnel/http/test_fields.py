"""The one table of field names, against every spelling."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kastunnel.http import fields
from kastunnel.http.errors import BadMessage
from kastunnel.http.fields import REQUEST_FATES, RESPONSE_FATES, Fate, clean_for_api_server, connection_options

GONE = (
    b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"http2-settings", b"content-length",
    b"host", b"expect",
    b"authorization", b"cookie", b"set-cookie", b"forwarded", b"x-real-ip", b"origin", b"x-http-method-override", b"impersonate-user",
    b"impersonate-uid", b"impersonate-group", b"impersonate-extra-scopes", b"x-remote-user", b"x-remote-extra-a", b"x-forwarded-for",
    b"x-client-cert", b"x-ssl-client", b"x-webauth-user", b"gitlab-agent-id", b"proxy-connection", b"proxy-authorization",
)  # fmt: skip


@st.composite
def spellings(draw: st.DrawFn) -> bytes:
    name = draw(st.sampled_from(GONE)).decode()
    flips = draw(st.lists(st.booleans(), min_size=len(name), max_size=len(name)))
    return "".join(
        ("_" if character == "-" else character.upper()) if flip else character
        for character, flip in zip(name, flips, strict=True)
    ).encode()


@pytest.mark.covers("I-02", "I-13", "I-14", "T1", "T5")
@given(st.lists(st.tuples(spellings(), st.just(b"close")), max_size=8), st.booleans())
def test_no_spelling_of_a_dropped_name_reaches_an_api_server(found: list[tuple[bytes, bytes]], upgrade: bool) -> None:
    good = [(b"Accept", b"*/*"), (b"x_custom", b"1")]
    more = [(b"Upgrade", b"WebSocket")] if upgrade else []
    try:
        kept, protocol = clean_for_api_server([*good, *found, *more], upgrade=upgrade)
    except BadMessage:
        assert upgrade
        return
    assert kept == good
    assert protocol == (b"websocket" if upgrade else b"")


@pytest.mark.parametrize(
    "name",
    [b"Set-Cookie", b"SERVER", b"alt-svc", b"Access-Control-Allow-Origin", b"access_control_allow_origin", b"Location",
     b"Proxy-Authenticate",
     b"Connection", b"Keep-Alive", b"Content-Length", b"X-Request-Id", b"Impersonate-User"],
)  # fmt: skip
def test_what_is_taken_out_of_responses(name: bytes) -> None:
    assert RESPONSE_FATES[name] is not Fate.KEEP


@pytest.mark.parametrize("name", [b"", b"a b", b"a:", b"\xe4", b"a\r\n", b"a\0"])
def test_what_is_no_token_is_no_name(name: bytes) -> None:
    assert REQUEST_FATES[name] is RESPONSE_FATES[name] is Fate.INVALID


def test_hostile_names_cost_no_memory() -> None:
    fates = fields._Fates(0)
    for number in range(10_000):
        assert fates[b"x-%d" % number] is Fate.KEEP
    assert len(fates) <= 2048
    assert fates[b"impersonate-" + b"x" * 1000] is Fate.IMPERSONATE


def test_connection_options_are_read_without_case_and_empty_items() -> None:
    assert connection_options([b"Keep-Alive, ,Upgrade\t", b"close"]) == {b"keep-alive", b"upgrade", b"close"}
