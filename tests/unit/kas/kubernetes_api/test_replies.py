"""What is answered instead of the API server."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kas import errors
from kas.errors import AuditUnavailable, KasError
from kas.kubernetes_api import replies
from kas.kubernetes_api.replies import Refusal, Reply
from kastunnel.http.errors import BadMessage, Kind
from kastunnel.link.frames import Code, Hop, Reset


def test_every_error_refusal_and_reset_has_a_reply() -> None:
    for name in vars(errors).values():
        if isinstance(name, type) and issubclass(name, KasError):
            assert 400 <= replies.for_error(name()).status <= 599
    assert set(replies.REFUSALS) == set(Refusal)
    assert set(replies.RESETS) == set(Code)
    for kind in Kind:
        assert replies.for_message(BadMessage(kind)).status == kind.status


def test_retry_after_is_said_only_where_nothing_was_dispatched() -> None:
    every = [*replies.ERRORS.values(), *replies.REFUSALS.values(), *replies.RESETS.values()]
    assert [reply.status for reply in every if b"Retry-After" in reply.lines] == [429, 503]
    assert b"Retry-After" in replies.ERRORS[AuditUnavailable].lines


def test_a_write_that_may_have_run_is_a_504_and_one_that_did_not_is_not() -> None:
    lost = Reset(Code.TOO_LATE)
    assert replies.for_reset(lost, b"GET").status == 502
    assert replies.for_reset(lost, b"POST").status == 504
    assert replies.for_reset(lost._replace(not_run=True), b"POST").status == 502


@pytest.mark.covers("S-19", "S-20")
@given(st.text(max_size=300), st.booleans())
def test_a_reply_is_one_well_formed_response_whatever_is_said_in_it(said: str, as_text: bool) -> None:
    answer = replies.render(
        Reply(502, "", said),
        hop=replies.hop_name(Hop.AGENTK, 1),
        request_id="0" * 16,
        as_text=as_text,
        is_head=False,
        close=True,
    )
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert len(lines) == 6
    assert answer.isascii()
    assert b"Content-Length: %d" % len(body) in lines
    message = body.decode() if as_text else json.loads(body)["message"]
    [warning] = [line for line in lines if line.startswith(b"Warning: ")]
    assert warning.decode() == 'Warning: 299 kas "' + message.replace("\\", "\\\\").replace('"', '\\"') + '"'
    assert message.startswith("kas: agent 1: ")
