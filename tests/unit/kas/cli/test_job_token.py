from __future__ import annotations

import io
import re
from pathlib import Path

import pytest

from tests.support.kas_command import Kas

ALL_CLAIMS = (
    *("--project-id", "17", "--group-id", "5", "--group-id", "4", "--ref", "main", "--protected"),
    *("--environment", "production/eu", "--environment-slug", "production-eu", "--environment-tier", "production"),
    *("--pipeline-id", "3", "--job-id", "9", "--user", "käthe", "--user-id", "2"),
)


def test_issue_prints_only_the_token(kas: Kas):
    outcome = kas("job-token", "issue", "--project", "shop/web")
    assert outcome.code == 0
    assert re.fullmatch(r"kasjob-[A-Za-z0-9_-]{43}\n", outcome.out)
    assert outcome.err == ""


def test_every_claim_can_be_made(kas: Kas):
    outcome = kas("job-token", "issue", "--project", "shop/web", *ALL_CLAIMS, "-o", "json")
    assert outcome.json["claims"] == {
        "project": "shop/web",
        "project_id": "17",
        "group_ids": ["5", "4"],
        "ref": "main",
        "ref_type": "branch",
        "ref_protected": True,
        "environment": {"name": "production/eu", "slug": "production-eu", "tier": "production"},
        "pipeline_id": "3",
        "job_id": "9",
        "username": "käthe",
        "user_id": "2",
    }
    assert outcome.json["token"].startswith("kasjob-")


def test_what_is_not_said_is_not_claimed(kas: Kas):
    assert kas("job-token", "issue", "--project", "shop/web", "-o", "json").json["claims"] == {"project": "shop/web"}
    claims = kas("job-token", "issue", "--project", "shop/web", "--not-protected", "-o", "json").json["claims"]
    assert claims["ref_protected"] is False


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--project", "shop"), 2, "is not a project"),
        (("--project", "shop/web", "--ttl", "soon"), 2, "'soon' is not a duration"),
        (("--project", "shop/web", "--ttl", "2d"), 2, "--ttl 2d is longer than access.max_job_token_ttl_s (86400 s)"),
        (("--project", "shop/web", "--environment-tier", "production"), 2, "need --environment"),
        (("--project", "shop/web", "--ref", ""), 2, "the claim ref is empty"),
        (("--project", "shop/web", "--job-id", "0"), 2, "--job-id"),
        (("--project", "shop/web", "--group-id", "x"), 2, "--group-id"),
        ((), 2, "Missing option '--project'"),
    ],
)
def test_claims_that_cannot_be_meant_are_one_line(kas: Kas, words: tuple[str, ...], code: int, said: str):
    outcome = kas("job-token", "issue", *words)
    assert outcome.code == code
    assert outcome.out == ""
    (line,) = outcome.err.splitlines()
    assert said in line


def test_the_longest_life_is_an_option(kas: Kas, folder: Path):
    (folder / "kas.yaml").write_text("state_dir: state\naccess: {max_job_token_ttl_s: 600}")
    assert kas("job-token", "issue", "--project", "shop/web", "--ttl", "11m").code == 2
    assert kas("job-token", "issue", "--project", "shop/web", "--ttl", "10m").code == 0


def test_list_and_revoke_by_id(kas: Kas):
    assert kas("job-token", "list").out == "No job token is in force.\n"
    token = kas("job-token", "issue", "--project", "shop/web", "--job-id", "9").out.strip()
    rows = kas("job-token", "list", "-o", "json").json
    assert [(row["id"], row["claims"]["job_id"]) for row in rows] == [(1, "9")]
    assert token not in kas("job-token", "list").out
    assert kas("job-token", "revoke", "1").out == "Revoked job token 1.\n"
    assert kas("job-token", "list", "-o", "json").json == []


def test_revoke_by_the_token_itself(kas: Kas, folder: Path, monkeypatch: pytest.MonkeyPatch):
    token = kas("job-token", "issue", "--project", "shop/web").out
    (folder / "token").touch(0o600)
    (folder / "token").write_text(token)
    assert kas("job-token", "revoke", "--token-file", "token").out == "Revoked job token 1.\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(token))
    outcome = kas("job-token", "revoke", "--token-file", "-")
    assert (outcome.code, outcome.err) == (1, "kas: this token is not in force: nothing to revoke\n")


@pytest.mark.parametrize("words", [(), ("1", "--token-file", "token")])
def test_revoke_wants_one_of_the_two(kas: Kas, words: tuple[str, ...]):
    outcome = kas("job-token", "revoke", *words)
    assert outcome.code == 2
    assert "either ID or --token-file was expected" in outcome.err
