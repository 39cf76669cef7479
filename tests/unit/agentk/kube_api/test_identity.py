from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentk.errors import OpenRefused
from agentk.kube_api.identity import MAX_GROUPS, identity_fields
from kastunnel.link.frames import AsAgent, Code, Impersonate


def test_the_agent_itself_needs_no_fields() -> None:
    assert identity_fields(AsAgent()) == ()


@pytest.mark.covers("T4")
def test_each_group_is_a_field_of_its_own() -> None:
    fields = identity_fields(Impersonate("u", ("a,b", "c d")))
    assert fields == ((b"Impersonate-User", b"u"), (b"Impersonate-Group", b"a,b"), (b"Impersonate-Group", b"c d"))


@pytest.mark.covers("I-10")
def test_an_extra_key_with_a_slash_is_percent_encoded() -> None:
    fields = identity_fields(Impersonate("u", extra=(("agent.gitlab.com/id", ("7",)),)))
    assert fields[1] == (b"Impersonate-Extra-agent.gitlab.com%2fid", b"7")


@pytest.mark.covers("I-10", "T4")
@given(st.text(min_size=1, max_size=40).filter(lambda key: key.isascii() or key == key.lower()))
def test_the_api_server_decodes_an_extra_key_to_the_very_key(key: str) -> None:
    (_, (name, _)) = identity_fields(Impersonate("u", extra=((key, ("v",)),)))
    assert name.isascii()
    assert all(byte > 0x20 and byte not in b'"(),/:;<=>?@[\\]{}\x7f' for byte in name)
    assert unquote(name.removeprefix(b"Impersonate-Extra-").decode().lower()) == "".join(
        character.lower() if character.isascii() else character for character in key
    )


@pytest.mark.covers("I-08")
@pytest.mark.parametrize(
    "identity",
    [
        Impersonate(""),
        Impersonate("", ("g",)),
        Impersonate("a\nb"),
        Impersonate("a\rb"),
        Impersonate("a\0b"),
        Impersonate("ä"),
        Impersonate(" a"),
        Impersonate("a "),
        Impersonate("u", ("",)),
        Impersonate("u", ("a\r\nImpersonate-User: admin",)),
        Impersonate("u", uid="\t"),
        Impersonate("u", extra=(("", ("v",)),)),
        Impersonate("u", extra=(("k", ("",)),)),
        Impersonate("u", ("g",) * (MAX_GROUPS + 1)),
        Impersonate("u", ("g" * 1000,) * 100),
    ],
)
def test_what_cannot_be_said_exactly_is_refused(identity: Impersonate) -> None:
    with pytest.raises(OpenRefused) as refused:
        identity_fields(identity)
    assert refused.value.code is Code.PROTOCOL


@pytest.mark.parametrize("identity", [None, object(), "admin", ("u", (), "", ())])
def test_an_unknown_kind_of_identity_is_never_the_agent_itself(identity: object) -> None:
    with pytest.raises(OpenRefused) as refused:
        identity_fields(identity)
    assert refused.value.code is Code.UNSUPPORTED
