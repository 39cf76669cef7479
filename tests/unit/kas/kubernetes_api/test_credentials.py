"""What is a credential, and what is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kas.errors import Unauthenticated
from kas.kubernetes_api.credentials import read_credential
from kas.kubernetes_api.paths import MAX_ID


@pytest.mark.covers("A-04", "A-06")
@given(
    st.integers(1, MAX_ID),
    st.lists(st.integers(0x21, 0x7E), min_size=1, max_size=20).map(bytes),
)
def test_a_credential_is_split_at_its_first_two_colons(agent_id: int, token: bytes) -> None:
    assert read_credential(b"Bearer ci:%d:%b" % (agent_id, token)) == (agent_id, token)


@pytest.mark.covers("A-04")
@given(st.binary(max_size=30))
def test_anything_else_is_unauthenticated_and_nothing_worse(rest: bytes) -> None:
    try:
        agent_id, token = read_credential(b"Bearer ci:" + rest)
    except Unauthenticated:
        return
    assert rest == b"%d:%b" % (agent_id, token)
