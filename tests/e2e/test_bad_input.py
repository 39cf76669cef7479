"""What people see who got something wrong: a clear line with the remedy, and nothing lost."""

from __future__ import annotations

import json
import re
import socket
import sqlite3
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import CONFIG_PROJECT, JOBS_PROJECT, chosen
from tests.support.kubectls import Kubectl, any_kubectl, kubectl_program
from tests.support.practice import practice_cluster
from tests.support.product import Agent, Product

GOOD = json.dumps({"ci_access": {"projects": [{"id": JOBS_PROJECT}]}})


def answer(product: Product, path: str, token: str | None) -> tuple[int, dict[str, Any], str]:
    """Status, Status object and Warning header of a request at the kubectl door."""
    request = urllib.request.Request(f"{product.kubernetes_url}{path}")
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    trust = ssl.create_default_context(cafile=str(product.ca_file))
    try:
        with urllib.request.urlopen(request, context=trust, timeout=30) as answered:
            return answered.status, json.loads(answered.read()), answered.headers.get("Warning", "")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read()), error.headers.get("Warning", "")


PODS = "/api/v1/namespaces/default/pods"


@pytest.mark.covers("A-01", "A-04", "A-05")
@pytest.mark.parametrize("token", [None, "", "ci:1:wrong", "ci:x:y", "pat:1:t", "kasjob-alone"])
def test_a_wrong_or_missing_token_is_401_with_one_text(product: Product, agent: Agent, token: str | None) -> None:
    status, body, warning = answer(product, f"/agents/{agent.id}{PODS}", token)
    assert status == 401
    assert "token" in body["message"]
    assert warning.startswith("299 kas ")


def test_kubectl_and_kas_kubeconfig_say_that_a_token_is_not_accepted(
    product: Product, job_kubeconfig: Path, tmp_path: Path
) -> None:
    token_file = tmp_path / "token"
    token_file.touch(mode=0o600)
    token_file.write_text("kasjob-" + "x" * 43)
    text = product.command("kubeconfig", "--token-file", str(token_file), code=1)
    assert "refuses the token: The token is missing, malformed, unknown, expired or revoked." in text
    stale = tmp_path / "stale.kubeconfig"
    stale.write_text(re.sub(r"kasjob-[\w-]+", token_file.read_text(), job_kubeconfig.read_text()))
    said = Kubectl(any_kubectl(), stale, tmp_path).result("get", "pods")
    assert said.returncode == 1
    assert b"Warning: kas: the token is missing, malformed, unknown, expired or revoked" in said.stderr


@pytest.mark.covers("A-08", "T28")
def test_an_unknown_agent_and_a_forbidden_one_are_told_the_same(product: Product, agent: Agent) -> None:
    token = product.job_token("else/where").read_text()
    forbidden = answer(product, f"/agents/{agent.id}{PODS}", f"ci:{agent.id}:{token}")
    unknown = answer(product, f"/agents/9999{PODS}", f"ci:9999:{token}")
    for said in (forbidden, unknown):
        said[1]["message"] = said[1]["message"].split(" (request")[0]
    assert forbidden[:2] == unknown[:2]
    assert forbidden[0] == 403


def test_an_agent_that_never_came_is_said_to_be_missing(product: Product, tmp_path: Path) -> None:
    absent = product.register("absent", CONFIG_PROJECT)
    product.configure(absent, GOOD)
    job = Kubectl(any_kubectl(), product.kubeconfig(product.job_token(JOBS_PROJECT)), tmp_path)
    said = job.run("--context", absent.context, "get", "pods", fails=True)
    assert "Warning: kas" in said
    assert "is not connected" in said


@pytest.mark.covers("P-01")
def test_an_api_server_that_is_down_is_named_as_the_hop(product: Product, tmp_path: Path) -> None:
    agent = product.register("down", CONFIG_PROJECT)
    product.configure(agent, GOOD)
    with practice_cluster(tmp_path / "cluster") as kubeconfig:
        product.start_agentk(agent, kubeconfig)
    token = product.job_token(JOBS_PROJECT).read_text()
    status, body, _ = answer(product, f"/agents/{agent.id}{PODS}", f"ci:{agent.id}:{token}")
    assert status == 502
    assert "API server" in body["message"]


def test_a_bad_kas_yaml_is_one_line_per_mistake_and_exit_code_2(product: Product, tmp_path: Path) -> None:
    config = tmp_path / "kas.yaml"
    config.write_text("state_dri: /tmp\nagent_api:\n  listen: nowhere\n")
    said = product.__class__(tmp_path / "other")
    said.config_file = config
    text = said.command("serve", code=2)
    assert f"{config}:1:1: state_dri" in text
    assert "did you mean 'state_dir'?" in text
    assert f"{config}:3:" in text
    assert "Traceback" not in text


@pytest.mark.covers("G-04", "C-02")
def test_a_bad_agent_configuration_keeps_the_last_good_one_and_show_names_the_place(
    product: Product, cluster: Path, tmp_path: Path
) -> None:
    agent = product.register("edited", CONFIG_PROJECT)
    product.configure(agent, GOOD)
    product.start_agentk(agent, cluster)
    kubeconfig = chosen(product, product.kubeconfig(product.job_token(JOBS_PROJECT)), agent)
    job = Kubectl(any_kubectl(), kubeconfig, tmp_path)
    job.run("get", "namespaces")
    product.configure(agent, "ci_access:\n  projects:\n    - id: shop/web\n      acces_as: {}\n")
    shown = product.command("agent", "show", "edited")
    assert "config.yaml:4:7" in shown
    assert "access_as" in shown
    assert product.kas is not None
    product.kas.wait_until(lambda: "acces_as" in product.kas.said(), "kas complains")  # type: ignore[union-attr]
    job.run("get", "namespaces")


def test_a_port_in_use_is_named_with_its_option(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        other = Product(tmp_path / "kas", {"management_api": {"listen": f"127.0.0.1:{port}"}})
        other.write_config()
        text = other.command("serve", code=2)
    assert "management_api.listen" in text
    assert "in use" in text
    assert "Traceback" not in text


def test_a_state_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    other = Product(tmp_path / "kas", {"state_dir": str(tmp_path / "file" / "below")})
    other.write_config()
    text = other.command("serve", code=2)
    assert text.startswith("kas: state_dir: ")
    assert "Traceback" not in text


@pytest.mark.covers("D-08")
def test_a_database_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    other = Product(tmp_path / "kas")
    other.write_config()
    other.command("agent", "list")
    database = other.state / "kas.db"
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999_from_the_future'")
    connection.close()
    before = database.read_bytes()
    text = other.command("serve", code=1)
    assert "was written by a newer kas" in text
    assert "install that version again, or restore a backup" in text
    assert "Traceback" not in text
    assert database.read_bytes() == before


def test_agentk_with_a_revoked_token_says_what_to_do_and_links_once_it_has_a_good_one(
    product: Product, cluster: Path
) -> None:
    agent = product.register("revoked", CONFIG_PROJECT)
    tokens = json.loads(product.command("agent", "token", "list", "revoked", "--output", "json"))
    product.command("agent", "token", "revoke", str(tokens[0]["id"]))
    process = product.start_agentk(agent, cluster, wait=False)
    process.wait_until(lambda: "kas agent token create" in process.said(), "the remedy is said")
    made = json.loads(product.command("agent", "token", "create", "revoked", "--output", "json"))
    agent.token_file.write_text(made["token"])
    process.wait_ready()


def test_agentk_with_the_wrong_ca_says_that_the_certificate_is_not_trusted(
    product: Product, agent: Agent, cluster: Path, tmp_path: Path
) -> None:
    other = Product(tmp_path / "other")
    with other:
        wrong = tmp_path / "wrong.crt"
        wrong.write_bytes(other.ca_file.read_bytes())
    process = product.start_agentk(agent, cluster, ca_file=wrong, wait=False)
    process.wait_until(lambda: "kas cannot be dialled" in process.said(), "agentk says that it cannot dial")
    assert "--ca-cert-file" in process.said()


@pytest.mark.covers("X-03")
@pytest.mark.parametrize("minor", ["1.27", "1.33"])
def test_apply_with_a_token_that_is_over_says_so_beside_the_text_about_openapi(
    product: Product, job_kubeconfig: Path, minor: str, tmp_path: Path
) -> None:
    over = tmp_path / "kubeconfig"
    over.write_text(re.sub(r"(ci:\d+:)[^\s\"']+", r"\g<1>over", job_kubeconfig.read_text()))
    kubectl = Kubectl(kubectl_program(minor), over, tmp_path)
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n"
    said = kubectl.run("apply", "--filename", "-", input=text, fails=True)
    assert "Warning: kas: the token is missing, malformed, unknown, expired or revoked (request " in said
