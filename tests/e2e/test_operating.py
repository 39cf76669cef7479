"""What an operator does to a running kas: reload, rotate, revoke, stop, and what the logs and files hold."""

from __future__ import annotations

import json
import os
import re
import signal
import ssl
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509

from tests.e2e.conftest import CONFIG_PROJECT, JOBS_PROJECT, chosen
from tests.support.kubectls import Kubectl, any_kubectl, kubectl_program
from tests.support.ports import free_ports
from tests.support.product import Agent, Process, Product

GOOD = json.dumps({"ci_access": {"projects": [{"id": JOBS_PROJECT}]}})
CUT_LIMIT_S = 5  # what the documentation promises
SLEEPER = """
apiVersion: v1
kind: Pod
metadata: {name: sleeper}
spec: {containers: [{name: c, image: busybox, command: [sleep, "600"]}]}
"""


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Product]:
    """A kas for one test alone."""
    with Product(tmp_path / "own") as running:
        yield running


def served(product: Product, cluster: Path, name: str) -> tuple[Agent, Process, Kubectl]:
    """An agent that is linked, and a job of shop/web that uses it."""
    agent = product.register(name, CONFIG_PROJECT)
    product.configure(agent, GOOD)
    process = product.start_agentk(agent, cluster)
    kubeconfig = chosen(product, product.kubeconfig(product.job_token(JOBS_PROJECT)), agent)
    return agent, process, Kubectl(any_kubectl(), kubeconfig, product.folder)


def kas_of(product: Product) -> Process:
    assert product.kas is not None
    return product.kas


@pytest.mark.covers("C-06")
def test_a_reload_takes_effect_without_cutting_a_watch_and_a_broken_file_changes_nothing(
    own: Product, cluster: Path
) -> None:
    _, _, job = served(own, cluster, "reloaded")
    kas = kas_of(own)
    job.run("create", "configmap", "before-the-reload")
    with job.running("get", "configmaps", "--watch", "--no-headers") as watch:
        assert watch.stdout is not None
        assert any(b"before-the-reload" in line for line in watch.stdout)  # it watches now
        own.write_config(logging={"requests": "all", "level": "debug"})
        os.kill(kas.pid, signal.SIGHUP)
        kas.wait_until(lambda: "configuration reloaded" in kas.said(), "kas says that it has reloaded")
        own.config_file.write_text("no_such_option: 1\n")
        os.kill(kas.pid, signal.SIGHUP)
        kas.wait_until(lambda: "not reloaded" in kas.said(), "kas says that it keeps the old configuration")
        assert "no_such_option" in kas.said()
        job.run("create", "configmap", "after-the-reload")
        assert any(b"after-the-reload" in line for line in watch.stdout)
    job.run("delete", "configmap", "before-the-reload", "after-the-reload")


@pytest.mark.covers("T-24")
def test_a_certificate_is_replaced_on_sighup_without_cutting_anybody(own: Product, cluster: Path) -> None:
    _, agentk, job = served(own, cluster, "certified")
    kas = kas_of(own)
    doors = (own.kubernetes_url, own.management_url, own.kas_address)
    before = [served_certificate(door) for door in doors]
    leaf = own.state / "pki" / "leaf.pem"
    leaf.unlink()  # kas makes a new one from its CA
    os.kill(kas.pid, signal.SIGHUP)
    kas.wait_until(
        lambda: not set(before).intersection(served_certificate(door) for door in doors),
        "every door shows the new certificate",
    )
    job.run("get", "namespaces")
    assert agentk.said().count("linked to kas") == 1


def served_certificate(door: str) -> x509.Certificate:
    """What the door at this URL shows."""
    port = urlsplit(door).port or 0
    return x509.load_pem_x509_certificate(ssl.get_server_certificate(("127.0.0.1", port)).encode())


@pytest.mark.covers("T-21")
def test_a_token_is_rotated_without_a_gap_and_the_old_one_cut_off(own: Product, cluster: Path) -> None:
    agent, agentk, job = served(own, cluster, "rotated")
    (first,) = json.loads(own.command("agent", "token", "list", "rotated", "--output", "json"))
    second = json.loads(own.command("agent", "token", "create", "rotated", "--output", "json"))
    assert "2 active tokens" in own.command("agent", "token", "create", "rotated", code=1)
    agent.token_file.write_text(second["token"])
    own.command("agent", "token", "revoke", str(first["id"]))
    agentk.wait_until(lambda: agentk.said().count("linked to kas") == 2, "agentk links with the new token")
    job.run("get", "namespaces")
    shown = json.loads(own.command("agent", "token", "list", "rotated", "--output", "json"))
    assert [token["id"] for token in shown if not token.get("revoked_at")] == [second["id"]]


def test_an_agent_is_cut_off_when_its_token_expires(own: Product, cluster: Path) -> None:
    agent, agentk, job = served(own, cluster, "expiring")
    short = json.loads(own.command("agent", "token", "create", "expiring", "--expires", "12s", "--output", "json"))
    agent.token_file.write_text(short["token"])
    own.command("agent", "token", "revoke", str(short["id"] - 1))
    agentk.wait_until(lambda: agentk.said().count("linked to kas") == 2, "agentk links with the new token")
    with job.running("get", "namespaces", "--watch", "--no-headers") as watch:
        assert watch.stdout is not None
        assert watch.stdout.readline()
        end = datetime.fromisoformat(short["expires_at"]).timestamp()
        assert time.time() < end
        watch.stdout.read()
        assert end - 1 < time.time() < end + CUT_LIMIT_S
    line = next(line for line in reversed(kas_of(own).said().splitlines()) if "link ended" in line)
    assert "the agent's token has expired" in line
    rows = json.loads(own.command("agent", "token", "list", "expiring", "--output", "json"))
    assert [row["status"] for row in rows] == ["revoked", "expired"]


def test_a_deleted_agent_is_cut_off_and_denied(own: Product, cluster: Path) -> None:
    _, agentk, job = served(own, cluster, "deleted")
    with job.running("get", "namespaces", "--watch", "--no-headers") as watch:
        assert watch.stdout is not None
        assert watch.stdout.readline()
        own.command("agent", "delete", "deleted")
        agentk.wait_until(lambda: "kas ended the link" in agentk.said(), "the link ends", CUT_LIMIT_S)
        watch.wait(CUT_LIMIT_S)
    assert "may not use this agent" in job.run("get", "namespaces", fails=True)


@pytest.mark.covers("T-03")
@pytest.mark.parametrize("minor", ["1.27", "1.33"])
def test_kas_that_is_told_to_stop_lets_an_exec_finish(own: Product, cluster: Path, minor: str) -> None:
    own.write_config(link={"listen_grace_s": 0, "drain_timeout_s": 30})
    kas_of(own).stop()
    kas = own.start_kas()
    _, _, job = served(own, cluster, "draining")
    job = Kubectl(kubectl_program(minor), Path(job.kubeconfig), own.folder)
    job.run("apply", "--filename", "-", input=SLEEPER)
    job.run("wait", "--for=condition=Ready", "--timeout=20s", "pod/sleeper")
    with job.running("exec", "sleeper", "--", "sh", "-c", "echo begun; sleep 2; echo finished") as command:
        assert command.stdout is not None
        assert command.stdout.readline() == b"begun\n"
        os.kill(kas.pid, signal.SIGTERM)
        assert command.stdout.readline() == b"finished\n"
        assert command.wait(10) == 0
    assert kas.popen.wait(20) == 0


@pytest.mark.covers("T-02")
def test_after_a_kill_and_a_restart_agents_and_jobs_go_on_and_nobody_meets_a_503(own: Product, cluster: Path) -> None:
    _, agentk, job = served(own, cluster, "survivor")
    for restarts in range(1, 4):
        kas_of(own).stop(signal.SIGKILL)
        own.start_kas()
        job.run("get", "namespaces")  # at once: the agent was linked before, and is waited for
        assert agentk.said().count("linked to kas") == restarts + 1
    assert "the agent is not connected" not in kas_of(own).said()


def test_both_ends_log_the_request_id_that_the_client_sees(own: Product, cluster: Path, tmp_path: Path) -> None:
    agent = own.register("traced", CONFIG_PROJECT)
    own.configure(agent, GOOD)
    nowhere = tmp_path / "nowhere.kubeconfig"
    (port,) = free_ports(1)
    nowhere.write_text(re.sub(r"https://127\.0\.0\.1:\d+", f"https://127.0.0.1:{port}", cluster.read_text()))
    agentk = own.start_agentk(agent, nowhere, wait=False)
    agentk.wait_until(lambda: "linked to kas" in agentk.said(), "agentk is linked")
    kubeconfig = chosen(own, own.kubeconfig(own.job_token(JOBS_PROJECT)), agent)
    said = Kubectl(any_kubectl(), kubeconfig, tmp_path).run("get", "--raw", "/api/v1/pods", fails=True)
    request_id = said.split("(request ")[1].split(")")[0]
    for process in (kas_of(own), agentk):
        # The answer is on its way before the line is written.
        process.wait_until(lambda end=process: request_id in end.said(), f"it knows request {request_id}")
        lines = [json.loads(line) for line in process.said().splitlines() if request_id in line]
        assert lines[-1]["request_id"] == request_id


@pytest.mark.covers("A-14", "T26")
def test_no_secret_is_in_a_log_the_database_or_an_argument(own: Product, cluster: Path) -> None:
    agent, agentk, job = served(own, cluster, "secretive")
    job_token = json.loads(job.run("config", "view", "--raw", "--output=json"))["users"][0]["user"]["token"]
    secrets = [
        agent.token_file.read_text().strip(),
        job_token.rsplit(":", 1)[1],
        *((own.state / "pki" / file).read_text().splitlines()[1] for file in ("leaf.pem", "ca.pem")),  # of the keys
        json.loads(
            subprocess.check_output(
                [any_kubectl(), "--kubeconfig", cluster, "config", "view", "--raw", "--output=json"]
            )
        )["users"][0]["user"]["token"],
    ]
    job.run("get", "pods", "--all-namespaces")
    job.result("get", "--raw", f"/api?access_token={secrets[1]}")
    time.sleep(0.2)
    places = {
        "kas's log": kas_of(own).log.read_bytes(),
        "agentk's log": agentk.log.read_bytes(),
        "the database": b"".join(file.read_bytes() for file in own.state.glob("kas.db*")),
        "kas's arguments": Path(f"/proc/{kas_of(own).pid}/cmdline").read_bytes(),
        "agentk's arguments": Path(f"/proc/{agentk.pid}/cmdline").read_bytes(),
    }
    for place, content in places.items():
        assert content or place == "agentk's log"
        for secret in secrets:
            assert secret.encode() not in content, place
