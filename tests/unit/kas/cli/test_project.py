from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.kas_command import Kas

BOUNDS = (
    *("--project-id", "17", "--group-id", "5", "--group-id", "4", "--ref", "main", "--ref", "refs/tags/v*"),
    *("--protected", "--environment", "production=production", "--environment", "review/*", "--max-ttl", "2h"),
    *("--expires", "90d"),
)


def test_register_prints_only_the_secret(kas: Kas):
    outcome = kas("project", "register", "shop/web")
    assert outcome.code == 0
    assert re.fullmatch(r"kasproject-[A-Za-z0-9_-]{43}\n", outcome.out)
    assert outcome.err == ""


def test_what_its_jobs_may_claim_is_said_and_listed_without_the_secret(kas: Kas):
    made = kas("project", "register", "shop/web", *BOUNDS, "-o", "json").json
    secret = made.pop("secret")
    assert secret.startswith(made["begins_with"])
    (row,) = kas("project", "list", "-o", "json").json
    assert row == made
    assert row["claims"] == {"project": "shop/web", "project_id": "17", "group_ids": ["5", "4"]}
    assert row["may_claim"] == {
        "environments": [{"pattern": "production", "tier": "production"}, {"pattern": "review/*", "tier": ""}],
        "refs": ["main", "refs/tags/v*"],
        "protected": True,
    }
    assert (row["max_ttl_s"], row["status"]) == (7200, "active")
    text = kas("project", "list").out
    assert "refs main refs/tags/v*, protected, environments production=production review/*" in text
    assert secret not in text


def test_what_is_not_named_may_not_be_claimed(kas: Kas):
    kas("project", "register", "shop/web")
    (row,) = kas("project", "list", "-o", "json").json
    assert row["may_claim"] == {"environments": [], "refs": [], "protected": False}
    assert (row["max_ttl_s"], row["expires_at"]) == (3600, None)


def test_the_secret_can_go_into_a_new_private_file(kas: Kas, folder: Path):
    outcome = kas("project", "register", "shop/web", "--token-file", "secret")
    assert outcome.out == "The secret of registration 1 of shop/web is in secret.\n"
    assert (folder / "secret").read_text().startswith("kasproject-")
    assert (folder / "secret").stat().st_mode & 0o777 == 0o600
    assert kas("project", "register", "shop/web", "--token-file", "secret").code == 1
    assert len(kas("project", "list", "-o", "json").json) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("shop",), "is not a project"),
        (("shop/web", "--max-ttl", "2d"), "--max-ttl 2d is longer than access.max_job_token_ttl_s (86400 s)"),
        (("shop/web", "--environment", "=x"), "PATTERN or PATTERN=TIER was expected"),
        (("shop/web", "--environment", "x="), "PATTERN or PATTERN=TIER was expected"),
        (("shop/web", "--ref", ""), "--ref is empty"),
        (("shop/web", "--expires", "never"), "'never' is not a duration"),
        ((), "Missing argument 'GROUP/PROJECT'"),
    ],
)
def test_bounds_that_cannot_be_meant_are_one_line(kas: Kas, words: tuple[str, ...], said: str):
    outcome = kas("project", "register", *words)
    assert (outcome.code, outcome.out) == (2, "")
    (line,) = outcome.err.splitlines()
    assert said in line


def test_revoke(kas: Kas):
    assert kas("project", "list").out == "No project is registered: kas project register GROUP/PROJECT\n"
    kas("project", "register", "shop/web")
    assert kas("project", "revoke", "1").out == "Revoked registration 1, and 0 job tokens with it.\n"
    assert [row["status"] for row in kas("project", "list", "-o", "json").json] == ["revoked"]
    outcome = kas("project", "revoke", "7")
    assert (outcome.code, outcome.err) == (
        1,
        "kas: there is no registration with the id 7: see `kas project list`\n",
    )
