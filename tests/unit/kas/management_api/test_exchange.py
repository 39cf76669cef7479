"""The form of an exchange, as RFC 8693 has it, and the errors, as RFC 6749 has them."""

from __future__ import annotations

import json
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kas.management_api.exchange import FORM, Exchange, ExchangeError, read_exchange, render_answer

GOOD = {
    "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
    "subject_token": "eyJ.a.b",
    "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
}


def read(changed: dict[str, str | None] | None = None, more: str = "") -> Exchange:
    form = {name: value for name, value in {**GOOD, **(changed or {})}.items() if value is not None}
    return read_exchange(FORM, (urlencode(form) + more).encode())


def test_the_least_that_is_an_exchange() -> None:
    assert read() == Exchange("eyJ.a.b", None)


@pytest.mark.parametrize(
    "more",
    [
        {"subject_token_type": "urn:ietf:params:oauth:token-type:jwt"},
        {"requested_token_type": "urn:ietf:params:oauth:token-type:access_token"},
        {"audience": "https://anything"},
        {"resource": "https://anything"},
        {"scope": ""},
        {"client_id": "a-stranger-to-us"},
    ],
)
def test_what_changes_nothing_may_be_said(more: dict[str, str | None]) -> None:
    assert read(more) == read()


def test_a_life_may_be_asked_for_by_either_name() -> None:
    assert read({"expires_in": "600"}).ttl_s == 600
    assert read({"ttl": "60"}).ttl_s == 60


def test_audience_and_resource_may_stand_there_several_times() -> None:
    assert read(more="&audience=a&audience=b&resource=c&resource=c") == read()


@pytest.mark.parametrize(
    ("changed", "code", "said"),
    [
        ({"grant_type": None}, "unsupported_grant_type", "grant_type: "),
        ({"grant_type": "client_credentials"}, "unsupported_grant_type", "grant_type: "),
        ({"subject_token_type": None}, "invalid_request", "subject_token_type: "),
        ({"subject_token_type": "urn:ietf:params:oauth:token-type:saml2"}, "invalid_request", "subject_token_type: "),
        ({"requested_token_type": "urn:ietf:params:oauth:token-type:jwt"}, "invalid_request", "requested_token_type: "),
        ({"actor_token": "x"}, "invalid_request", "actor_token: "),
        ({"scope": "admin"}, "invalid_scope", "scope: "),
        ({"subject_token": None}, "invalid_request", "subject_token: "),
        ({"subject_token": ""}, "invalid_request", "subject_token: "),
        ({"subject_token": "a b"}, "invalid_request", "subject_token: "),
        ({"subject_token": "é"}, "invalid_request", "subject_token: "),
        ({"subject_token": "x" * 16385}, "invalid_request", "subject_token: "),
        ({"expires_in": "0"}, "invalid_request", "expires_in: "),
        ({"expires_in": "-1"}, "invalid_request", "expires_in: "),
        ({"expires_in": "1.5"}, "invalid_request", "expires_in: "),
        ({"expires_in": "٣"}, "invalid_request", "expires_in: "),
        ({"ttl": "soon"}, "invalid_request", "ttl: "),
    ],
)
def test_each_error_has_its_code_and_names_the_parameter(changed: dict[str, str | None], code: str, said: str) -> None:
    with pytest.raises(ExchangeError) as caught:
        read(changed)
    assert (caught.value.code, caught.value.status) == (code, 400)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize("more", ["&subject_token=other", "&grant_type=x", "&scope=&scope="])
def test_a_parameter_that_stands_there_twice_is_refused(more: str) -> None:
    with pytest.raises(ExchangeError, match="twice"):
        read(more=more)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", json.dumps(GOOD).encode()),
        ("multipart/form-data", urlencode(GOOD).encode()),
        ("", urlencode(GOOD).encode()),
        (FORM, b"\xff"),
        (FORM, b"&".join(b"a%d=b" % number for number in range(21))),
        (FORM, urlencode(GOOD).encode() + b"&audience=%ff"),
    ],
)
def test_what_is_no_form_is_refused(kind: str, body: bytes) -> None:
    with pytest.raises(ExchangeError) as caught:
        read_exchange(kind, body)
    assert caught.value.code == "invalid_request"


@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: urlencode({**GOOD, "x": text}).encode()))
def test_any_bytes_are_an_exchange_or_an_error(body: bytes) -> None:
    try:
        assert read_exchange(FORM, body).subject_token
    except ExchangeError as error:
        failed = error
    else:
        return
    assert json.loads(failed.render())["error"] == failed.code


@given(st.text())
def test_a_description_is_of_the_characters_that_rfc_6749_allows(text: str) -> None:
    said = json.loads(ExchangeError("invalid_request", text).render())["error_description"]
    assert all(" " <= one <= "~" and one not in '"\\' for one in said)


def test_the_answer_is_that_of_rfc_8693() -> None:
    assert json.loads(render_answer("kasjob-x", 3600)) == {
        "access_token": "kasjob-x",
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "token_type": "Bearer",
        "expires_in": 3600,
    }
