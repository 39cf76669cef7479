from __future__ import annotations

import re

import pytest

from kas.store import tokens


@pytest.mark.parametrize(
    ("kind", "form"), [(tokens.AGENT, r"kasagent-[A-Za-z0-9_-]{43}"), (tokens.JOB, r"kasjob-[A-Za-z0-9_-]{43}")]
)
def test_a_token_says_its_kind_and_has_256_bits(kind: str, form: str):
    made = {tokens.new_token(kind) for _ in range(50)}
    assert len(made) == 50
    assert all(re.fullmatch(form, token) for token in made)


def test_a_fingerprint_matches_its_token_only():
    token = tokens.new_token(tokens.AGENT).encode()
    found = tokens.fingerprint(token, tokens.AGENT)
    other = tokens.fingerprint(token[:-1] + (b"A" if token[-1:] != b"A" else b"B"), tokens.AGENT)
    assert found is not None
    assert other is not None
    assert found.prefix == other.prefix
    assert found.matches(found.sha256)
    assert not found.matches(other.sha256)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"kasagent-",
        b"kasagent-" + b"a" * 42,
        b"kasagent-" + b"a" * 44,
        b"kasjob-" + b"a" * 43,
        b"KASAGENT-" + b"a" * 43,
    ]
    + [b"kasagent-" + b"a" * 42 + bad for bad in (b"\n", b"=", b" ", b"\x00", b"\xff", b"%")]
    + [b"kasagent-" + b"a" * 43 + b"\n", b" kasagent-" + b"a" * 43],
)
def test_what_cannot_be_an_agent_token_has_no_fingerprint(text: bytes):
    assert tokens.fingerprint(text, tokens.AGENT) is None
