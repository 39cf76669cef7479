"""The audit log of a real kas: what jobs and the operator did stands in it, whoever touches it is found out, no secret is in it."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import CONFIG_PROJECT, JOBS_PROJECT, chosen
from tests.support.kubectls import Kubectl, any_kubectl
from tests.support.product import Product

CONFIG = json.dumps(
    {
        "ci_access": {
            "projects": [
                {
                    "id": JOBS_PROJECT,
                    "access_as": {"impersonate": {"username": "ci:reader"}},
                    "allow": [{"verbs": ["get", "list", "watch"], "resources": ["*"]}],
                }
            ]
        }
    }
)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Product]:
    with Product(tmp_path / "own") as running:
        yield running


def records(product: Product, *words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(product.command("audit", "query", "--output", "json", *words))
    return found


def stopped(product: Product) -> None:
    assert product.kas is not None
    product.kas.stop()
    product.kas = None


def test_what_jobs_and_the_operator_did_is_recorded_and_any_change_is_found(own: Product, cluster: Path) -> None:
    agent = own.register("audited", CONFIG_PROJECT)
    own.configure(agent, CONFIG)
    own.start_agentk(agent, cluster)
    token_file = own.job_token(JOBS_PROJECT, "--job-id", "42", "--ref", "main", "--user", "ana")
    job = Kubectl(any_kubectl(), chosen(own, own.kubeconfig(token_file), agent), own.folder)
    job.run("get", "pods", "--all-namespaces")
    assert "`allow` does not cover" in job.run("delete", "configmap", "nobody", fails=True)
    job.run("exec", "nobody", "--", "secret-command", fails=True)
    stopped(own)

    (configured,) = [one for one in records(own) if one["event"] == "configuration_in_force"]
    assert (configured["agent_id"], configured["entries"], len(configured["commit"])) == (agent.id, 1, 40)
    linked, unlinked = [one for one in records(own) if one["event"] in ("agent_linked", "agent_unlinked")]
    assert (linked["event"], linked["agent_id"], linked["reason"]) == ("agent_linked", agent.id, None)
    assert linked["peer"].startswith(("ipv4:", "ipv6:")), linked
    assert linked["token_id"] > 0
    assert (unlinked["event"], unlinked["link"]) == ("agent_unlinked", linked["link"])
    assert unlinked["reason"] == "kas is going down"
    of_job = [one for one in records(own, "--project", JOBS_PROJECT, "--job", "42") if "resource" in one]
    did = {(one["verb"], one["resource"], one["outcome"]) for one in of_job}
    assert {("list", "pods", "answered"), ("delete", "configmaps", "refused")} <= did
    first = of_job[0]
    assert (first["user"], first["ref"], first["agent"]) == ("ana", "refs/heads/main", f"{CONFIG_PROJECT}:audited")
    assert first["acts_as"] == "ci:reader"
    assert first["client"].startswith("kubectl")
    assert all("`allow` does not cover" in one["reason"] for one in of_job if one["outcome"] == "refused")

    events = [one["event"] for one in records(own)]
    assert events[0] == "kas_started"
    assert events[-1] == "kas_stopped"
    table = own.command("audit", "query")
    assert all(word in table for word in ("kas_started", f"agent_registered {agent.id}", "list pods", "refused"))
    registered = next(one for one in records(own) if one["event"] == "agent_registered")
    assert registered["actor"].startswith("cli:")

    (log,) = (own.state / "audit").glob("*.jsonl")
    text = log.read_text()
    for secret in (
        token_file.read_text(),
        agent.token_file.read_text(),
        "secret-command",
        (own.state / "audit.key").read_text().strip(),
    ):
        assert secret not in text
    assert own.command("audit", "verify").startswith("All ")

    good = log.read_bytes()
    log.write_bytes(good.replace(b'"outcome":"refused"', b'"outcome":"answered"', 1))
    assert own.command("audit", "verify", code=1) == ""
    log.write_bytes(b"".join(good.splitlines(keepends=True)[:-3]))
    assert own.command("audit", "verify", code=1) == ""
    log.write_bytes(good)
    assert own.command("audit", "verify").startswith("All ")


def test_a_crash_leaves_a_log_that_goes_on(own: Product) -> None:
    assert own.kas is not None
    own.job_token(JOBS_PROJECT)
    kas = own.kas
    kas.wait_until(lambda: "job_token_issued" in kas.said(), "kas has seen the change")
    own.kas.stop(signal.SIGKILL)
    own.kas = None
    own.start_kas()
    stopped(own)
    assert [one["event"] for one in records(own)].count("kas_started") == 2
    assert own.command("audit", "verify").startswith("All ")


def test_what_was_done_while_kas_was_down_is_recorded_when_it_is_up(own: Product) -> None:
    stopped(own)
    own.register("meanwhile", CONFIG_PROJECT)
    own.start_kas()
    stopped(own)
    acts = [one["event"] for one in records(own) if one.get("change") is not None]
    assert acts == ["agent_registered", "agent_token_created"]
    own.start_kas()
    stopped(own)
    assert len([one for one in records(own) if one.get("change") is not None]) == len(acts)


@pytest.mark.covers("D-07")
def test_a_restored_database_is_told_with_what_it_undoes(own: Product, tmp_path: Path) -> None:
    """As docs/operating.md says: tokens that were revoked since the backup count again."""
    own.register("restored", CONFIG_PROJECT)
    database, backup = own.state / "kas.db", tmp_path / "backup.db"
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(backup)) as target:
        source.backup(target)
    (token,) = json.loads(own.command("agent", "token", "list", "restored", "--output", "json"))
    own.command("agent", "token", "revoke", str(token["id"]))
    assert own.kas is not None
    own.kas.wait_until(lambda: "agent_token_revoked" in {one["event"] for one in records(own)}, "it is recorded")
    stopped(own)
    for file in own.state.glob("kas.db*"):
        file.unlink()
    shutil.copy(backup, database)
    kas = own.start_kas()
    said = re.findall(r"kas audit query --changes-after (\d+)", kas.said())
    assert len(said) == 1
    (undone,) = records(own, "--changes-after", said[0])
    assert (undone["event"], undone["subject"]) == ("agent_token_revoked", token["id"])
    assert f"agent_token_revoked {token['id']}" in own.command("audit", "query", "--changes-after", said[0])
    stopped(own)
    assert "database_went_back" in {one["event"] for one in records(own)}
    assert own.start_kas().said().count("older than the audit log") == 1  # of both starts
