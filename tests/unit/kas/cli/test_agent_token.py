from __future__ import annotations

import re
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.support.kas_command import Kas


@pytest.fixture
def first(kas: Kas) -> str:
    token: str = kas("agent", "register", "prod", "--project", "shop/infra", "-o", "json").json["token"]
    return token


def test_create_prints_only_the_token(kas: Kas, first: str):
    outcome = kas("agent", "token", "create", "prod")
    assert re.fullmatch(r"kasagent-[A-Za-z0-9_-]{43}\n", outcome.out)
    assert outcome.out.strip() != first


def test_create_for_programs(kas: Kas, first: str):
    row = kas("agent", "token", "create", "prod", "-o", "json").json
    assert (row["id"], row["agent"], row["status"]) == (2, "shop/infra:prod", "active")
    assert row["token"].startswith(row["begins_with"])


def test_create_can_write_a_file_instead(kas: Kas, first: str, folder: Path):
    outcome = kas("agent", "token", "create", "prod", "--token-file", "token")
    assert outcome.out == "Token 2 of shop/infra:prod is in token.\n"
    assert (folder / "token").read_text().startswith("kasagent-")


def test_nothing_is_created_when_the_file_exists(kas: Kas, first: str, folder: Path):
    (folder / "token").write_text("precious")
    assert kas("agent", "token", "create", "prod", "--token-file", "token").code == 1
    assert len(kas("agent", "token", "list", "prod", "-o", "json").json) == 1


def test_a_third_token_is_refused_with_the_remedy(kas: Kas, first: str):
    kas("agent", "token", "create", "prod")
    outcome = kas("agent", "token", "create", "prod")
    assert outcome.code == 1
    assert outcome.err == "kas: the agent has 2 active tokens already: revoke one with `kas agent token revoke ID`\n"


def test_list_and_revoke(kas: Kas, first: str):
    kas("agent", "token", "create", "prod")
    assert kas("agent", "token", "revoke", "1").out == f"Revoked token 1 (it begins with {first[:17]}).\n"
    rows = kas("agent", "token", "list", "prod", "-o", "json").json
    assert [(row["id"], row["status"]) for row in rows] == [(1, "revoked"), (2, "active")]
    assert rows[0]["revoked_at"] is not None
    text = kas("agent", "token", "list", "prod").out
    assert "revoked" in text
    assert first not in text
    assert kas("agent", "token", "revoke", "7").code == 1
    assert kas("agent", "token", "revoke", "0").code == 2


def test_a_token_can_expire_and_the_list_says_when(kas: Kas, first: str, monkeypatch: pytest.MonkeyPatch):
    row = kas("agent", "token", "create", "prod", "--expires", "90d", "-o", "json").json
    made, ends = (datetime.fromisoformat(row[key]) for key in ("created_at", "expires_at"))
    assert ends - made == timedelta(days=90)
    assert row["expires_at"] in kas("agent", "token", "list", "prod").out
    monkeypatch.setattr("kas.cli.output.system_clock", lambda: ends.timestamp())
    rows = kas("agent", "token", "list", "prod", "-o", "json").json
    assert [(one["status"], one["expires_at"]) for one in rows] == [("active", None), ("expired", row["expires_at"])]


def test_a_life_that_cannot_be_meant_makes_no_token(kas: Kas, first: str):
    assert "'soon' is not a duration" in kas("agent", "token", "create", "prod", "--expires", "soon").err
    assert len(kas("agent", "token", "list", "prod", "-o", "json").json) == 1
