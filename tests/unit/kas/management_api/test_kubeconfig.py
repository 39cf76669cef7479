"""The kubeconfig that a job gets."""

from __future__ import annotations

import base64

import pytest
import yaml

from kas.access.caller import Caller
from kas.access.grants import AgentRef, Grant
from kas.management_api.kubeconfig import render_kubeconfig
from kastunnel.link.frames import AsAgent, Impersonate

SERVER = "https://kas.example.com:8154"
CALLER = Caller(issuer="kas", project="group/app")


def grant(agent_id: int, project: str, name: str, namespace: str = "") -> Grant:
    return Grant(CALLER, AgentRef(agent_id, project, name), AsAgent(), namespace, "a rule")


def test_a_context_for_each_agent():
    grants = [grant(7, "group/app", "prod", "web"), grant(12, "infra/agents", "shared")]
    text = render_kubeconfig(grants, "kasjob-abc", SERVER, b"-----BEGIN CERTIFICATE-----\n")
    ca = base64.b64encode(b"-----BEGIN CERTIFICATE-----\n").decode()

    assert yaml.safe_load(text) == {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "agent:7", "cluster": {"server": f"{SERVER}/agents/7", "certificate-authority-data": ca}},
            {"name": "agent:12", "cluster": {"server": f"{SERVER}/agents/12", "certificate-authority-data": ca}},
        ],
        "contexts": [
            {"name": "group/app:prod", "context": {"cluster": "agent:7", "user": "agent:7", "namespace": "web"}},
            {"name": "infra/agents:shared", "context": {"cluster": "agent:12", "user": "agent:12"}},
        ],
        "users": [
            {"name": "agent:7", "user": {"token": "ci:7:kasjob-abc"}},
            {"name": "agent:12", "user": {"token": "ci:12:kasjob-abc"}},
        ],
    }


def test_no_context_is_chosen_for_the_job():
    assert "current-context" not in render_kubeconfig([grant(7, "g/p", "a")], "t", SERVER, None)


def test_without_a_ca_clients_trust_what_they_trust():
    assert "certificate-authority-data" not in render_kubeconfig([grant(7, "g/p", "a")], "t", SERVER, None)


def test_a_job_without_agents_reads_so():
    text = render_kubeconfig([], "kasjob-abc", SERVER, None)
    assert text.startswith("# This job may use no agent")
    assert yaml.safe_load(text)["contexts"] == []
    assert "kasjob-abc" not in text


def test_it_says_nothing_about_identities_and_rules():
    secret = Grant(CALLER, AgentRef(7, "g/p", "a"), Impersonate("cluster-boss"), "", "ci_access.projects[0], line 3")
    text = render_kubeconfig([secret], "t", SERVER, None)
    assert "cluster-boss" not in text
    assert "ci_access" not in text


@pytest.mark.parametrize("token", ["a:b", "x" * 8192, "'", '"', "#", "a-_~.+/=", "1e3", "null"])
def test_any_token_comes_out_as_it_went_in(token):
    text = render_kubeconfig([grant(7, "g/p", "a")], token, SERVER, None)
    assert yaml.safe_load(text)["users"][0]["user"]["token"] == f"ci:7:{token}"
