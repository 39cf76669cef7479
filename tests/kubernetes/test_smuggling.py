"""No mutation of a request's framing is read in two ways by kas and the real API server."""

from __future__ import annotations

import itertools
import json
import re
import socket
import ssl
from urllib.parse import urlsplit

import pytest

from tests.kubernetes.conftest import JOBS_PROJECT, NAMESPACE
from tests.support.kubectls import Kubectl
from tests.support.product import Agent, Product
from tests.unit.kastunnel.http.test_request_mutations import lines


def apply(agent: Agent, token: str, name: str, framing: bytes, body: bytes) -> bytes:
    """A server-side apply of a ConfigMap, framed as the test likes."""
    path = f"/agents/{agent.id}/api/v1/namespaces/{NAMESPACE}/configmaps/{name}?fieldManager=smuggler&force=true"
    head = (
        f"PATCH {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ci:{agent.id}:{token}\r\n"
        "Content-Type: application/apply-patch+yaml\r\n"
    )
    return head.encode() + framing + b"\r\n\r\n" + body


@pytest.mark.covers("S-03")
def test_no_mutation_of_the_framing_becomes_two_requests_at_the_api_server(
    product: Product, deployer: Agent, admin: Kubectl
) -> None:
    token = product.job_token(JOBS_PROJECT, "--job-id", "4711").read_text()
    trust = ssl.create_default_context(cafile=str(product.ca_file))
    port = urlsplit(product.kubernetes_url).port or 0
    for number, (line, is_first) in enumerate(itertools.product(lines(), (True, False))):
        name = f"inner-{number}"
        content = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}).encode()
        inner = apply(deployer, token, name, b"Content-Length: %d" % len(content), content)
        length = b"Content-Length: %d" % (5 + len(inner))
        framing = b"\r\n".join((line, length) if is_first else (length, line))
        message = apply(deployer, token, f"outer-{number}", framing, b"0\r\n\r\n" + inner)
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
            trust.wrap_socket(plain, server_hostname="localhost") as tls,
        ):
            tls.sendall(message)
            tls.settimeout(0.15)  # for what a second request would answer; an answer to the first comes much sooner
            try:
                while tls.recv(65536):
                    pass
            except (TimeoutError, OSError):
                pass
    recorded = json.loads(product.command("audit", "query", "--job", "4711", "--output", "json"))
    answered = {one["name"] for one in recorded if one["outcome"] == "answered" and one.get("name")}
    assert len(answered) > 10, "hardly anything got through: the test would prove nothing"
    made = set(admin.run("--namespace", NAMESPACE, "get", "configmaps", "--output=name").split())
    smuggled = {name for one in made if (name := one.partition("/")[2]) and re.fullmatch(r"inner-\d+", name)}
    assert smuggled <= answered  # what was made is what kas read as a request of its own
