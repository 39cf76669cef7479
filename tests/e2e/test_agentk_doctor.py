"""`agentk doctor` beside a real kas: what only kas itself can say, proxies in front of it, and that it disturbs nobody."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.doctor import Examined, examined, run
from tests.support.haproxy import haproxy
from tests.support.nginx import nginx
from tests.support.product import Agent, Product


class Examine:
    """The command with the options of the agent's own agentk; ``changed`` replaces some."""

    def __init__(self, product: Product, agent: Agent, cluster: Path) -> None:
        self.options: dict[str, Any] = {
            "--kas-address": product.kas_address,
            "--token-file": agent.token_file,
            "--ca-cert-file": product.ca_file,
            "--kubeconfig": cluster,
        }

    def words(self, changed: Mapping[str, Any]) -> list[Any]:
        options = {**self.options, **changed}
        return [word for name, value in options.items() if value is not None for word in (name, value)]

    def __call__(self, changed: Mapping[str, Any] | None = None, **environment: str) -> Examined:
        return examined("agentk", *self.words(changed or {}), environment=environment)


@pytest.fixture
def examine(product: Product, agent: Agent, cluster: Path) -> Examine:
    return Examine(product, agent, cluster)


def test_all_is_well_and_the_agentk_with_the_same_token_notices_nothing(product: Product, examine: Examine) -> None:
    (agentk,) = product.agentks
    before = agentk.said()
    found = examine()
    assert (found.code, found.broken, found.warnings) == (0, [], [])
    assert found.rows["kas: token"].said == "kas knows it"
    assert found.rows["kas: clock"].state == "ok"
    assert agentk.said() == before
    agentk.wait_ready(1)


def test_text_is_for_people_and_shows_no_secret(agent: Agent, examine: Examine) -> None:
    done = run("agentk", *examine.words({}))
    assert (done.returncode, done.stderr) == (0, "")
    first, *_, last = done.stdout.splitlines()
    assert first.split()[:2] == ["configuration", "ok"]
    assert last == "All is well."
    assert agent.token_file.read_text().strip() not in done.stdout


def test_a_token_that_kas_does_not_know_and_one_that_was_revoked_are_told(
    product: Product, examine: Examine, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.touch(0o600)
    token.write_text("kasagent-" + "x" * 43)
    found = examine({"--token-file": token})
    assert (found.code, found.broken) == (1, ["kas: token"])
    assert "kas agent token create" in found.rows["kas: token"].remedy

    gone = product.register("gone", "platform/clusters")
    assert examine({"--token-file": gone.token_file}).code == 0
    product.command("agent", "delete", "gone")
    found = examine({"--token-file": gone.token_file})
    assert (found.code, found.broken) == (1, ["kas: token"])
    assert "revoked" in found.rows["kas: token"].said


def test_where_no_ca_is_given_what_the_machine_trusts_counts_for_grpc_too(product: Product, examine: Examine) -> None:
    found = examine({"--ca-cert-file": None}, SSL_CERT_FILE=str(product.ca_file))
    assert found.rows["kas: token"].state == "ok"
    found = examine({"--ca-cert-file": None}, SSL_CERT_FILE="/nowhere")
    assert found.broken == ["kas: TLS"]


@pytest.mark.parametrize(
    ("changes", "check", "remedy"),
    [
        ({"listen 8150 ssl http2;": "listen 8150 ssl;"}, "kas: HTTP/2", "HTTP/1.1"),
        ({"grpc_pass grpcs://127.0.0.1:18150": "proxy_pass https://127.0.0.1:18150"}, "kas: gRPC", "in front"),
        ({"grpc_pass grpcs://127.0.0.1:18150": "grpc_pass grpcs://127.0.0.1:1"}, "kas: gRPC", "in front"),
        ({"location / { grpc_pass": "location /elsewhere { grpc_pass"}, "kas: gRPC", "in front"),
    ],
    ids=["without HTTP/2", "passes HTTP/1.1", "no kas behind it", "another path"],
)
def test_an_nginx_that_does_not_pass_grpc_is_told(
    product: Product, examine: Examine, tmp_path: Path, changes: dict[str, str], check: str, remedy: str
) -> None:
    with nginx("nginx-reencrypted", product, tmp_path / "nginx", changes) as front:
        found = examine({"--kas-address": front.agents})
    assert (found.code, found.broken) == (1, [check])
    assert remedy in found.rows[check].remedy


def test_a_haproxy_that_speaks_http_1_alone_is_told(product: Product, examine: Examine, tmp_path: Path) -> None:
    changes = {
        "bind :8150 ssl crt /etc/haproxy/tls/kas.pem alpn h2": "bind :8150 ssl crt /etc/haproxy/tls/kas.pem alpn http/1.1"
    }
    with haproxy("haproxy-reencrypted", product, tmp_path / "haproxy", changes) as front:
        found = examine({"--kas-address": front.agents})
    assert (found.code, found.broken) == (1, ["kas: HTTP/2"])


def test_through_a_proxy_as_the_documents_have_it_all_is_well(
    product: Product, examine: Examine, tmp_path: Path
) -> None:
    with nginx("nginx-reencrypted", product, tmp_path / "nginx") as front:
        found = examine({"--kas-address": front.agents})
    assert (found.code, found.broken, found.warnings) == (0, [], [])


def test_another_door_of_kas_is_told(product: Product, examine: Examine) -> None:
    found = examine({"--kas-address": product.kubernetes_url.replace("https", "grpcs")})
    assert (found.code, found.broken) == (1, ["kas: HTTP/2"])
    assert "another door" in found.rows["kas: HTTP/2"].remedy
