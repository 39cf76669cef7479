from __future__ import annotations

import asyncio
import base64
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from agentk.errors import AgentkError, ConfigurationError, CredentialUnavailable
from agentk.kube_api.credentials import Credentials
from tests.fakes.certificates import Authority

CLUSTER = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}


@pytest.fixture
def service_account(tmp_path: Path) -> Path:
    directory = tmp_path / "serviceaccount"
    directory.mkdir()
    (directory / "token").write_text("first\n")
    (directory / "ca.crt").write_bytes(Authority(tmp_path).pem)
    return directory


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute takes 20 ms."""
    monkeypatch.setattr("agentk.kube_api.credentials.REFRESH_S", 0.02)
    monkeypatch.setattr("agentk.kube_api.credentials.MIN_REFRESH_S", 0.02)


def bearer(credentials: Credentials) -> bytes:
    ((name, value),) = credentials.access.credential
    assert name == b"Authorization"
    return value


async def until_bearer(credentials: Credentials, value: bytes) -> None:
    async with asyncio.timeout(10):
        while bearer(credentials) != value:
            await asyncio.sleep(0.005)


async def kept_fresh(credentials: Credentials, value: bytes) -> None:
    async with asyncio.TaskGroup() as group:
        keeping = group.create_task(credentials.keep_fresh())
        await until_bearer(credentials, value)
        keeping.cancel()


def write_kubeconfig(path: Path, user: dict[str, object], **cluster: object) -> Path:
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "one",
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:6443", **cluster}}],
        "users": [{"name": "u", "user": user}, {"name": "v", "user": {"token": "other"}}],
        "contexts": [
            {"name": "one", "context": {"cluster": "c", "user": "u"}},
            {"name": "two", "context": {"cluster": "c", "user": "v"}},
        ],
    }
    path.write_text(yaml.safe_dump(content))
    return path


def plugin(tmp_path: Path, body: str) -> dict[str, object]:
    """An exec plugin: ``body`` is Python that sets ``status``; it counts its runs in a file."""
    script = tmp_path / "plugin.py"
    script.write_text(
        "import json, pathlib, sys\n"
        f"runs = pathlib.Path({str(tmp_path / 'runs')!r})\n"
        "count = int(runs.read_text()) + 1 if runs.exists() else 1\n"
        "runs.write_text(str(count))\n"
        f"{body}\n"
        "print(json.dumps({'apiVersion': 'client.authentication.k8s.io/v1', 'kind': 'ExecCredential', 'status': status}))\n"
    )
    return {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": sys.executable,
            "args": [str(script)],
            "interactiveMode": "Never",
        }
    }


async def test_in_a_pod_the_service_account_is_used(service_account: Path) -> None:
    credentials = Credentials(environ=CLUSTER, service_account=service_account)
    await credentials.load()
    made = credentials.access
    assert (made.endpoint.host, made.endpoint.port, made.prefix) == ("10.0.0.1", 443, b"")
    assert bearer(credentials) == b"Bearer first"
    assert made.endpoint.tls is not None
    assert credentials.source == "service account"


@pytest.mark.covers("P-09")
async def test_a_rotated_token_is_read_again_and_keeps_the_connections(service_account: Path, quick: None) -> None:
    credentials = Credentials(environ=CLUSTER, service_account=service_account)
    await credentials.load()
    endpoint = credentials.access.endpoint
    (service_account / "token").write_text("second")
    await kept_fresh(credentials, b"Bearer second")
    assert credentials.access.endpoint is endpoint


async def test_nothing_changed_is_the_very_same_access(service_account: Path) -> None:
    credentials = Credentials(environ=CLUSTER, service_account=service_account)
    await credentials.load()
    before = credentials.access
    await credentials.load()
    assert credentials.access is before


@pytest.mark.covers("T-24")
async def test_a_changed_certificate_authority_makes_another_endpoint(service_account: Path, tmp_path: Path) -> None:
    credentials = Credentials(environ=CLUSTER, service_account=service_account)
    await credentials.load()
    endpoint = credentials.access.endpoint
    (service_account / "ca.crt").write_bytes(Authority(tmp_path, "next CA").pem)
    await credentials.load()
    assert credentials.access.endpoint is not endpoint
    assert credentials.access.endpoint.tls is not endpoint.tls


@pytest.mark.covers("P-09")
async def test_a_refusal_by_the_api_server_refreshes_soon(
    service_account: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentk.kube_api.credentials.MIN_REFRESH_S", 0.0)
    credentials = Credentials(environ=CLUSTER, service_account=service_account)
    await credentials.load()
    (service_account / "token").write_text("second")
    credentials.refused()
    await kept_fresh(credentials, b"Bearer second")


async def test_a_token_that_cannot_be_read_leaves_the_last_good_one(
    service_account: Path, quick: None, caplog: pytest.LogCaptureFixture
) -> None:
    credentials = Credentials(environ=CLUSTER, service_account=service_account)
    await credentials.load()
    (service_account / "token").write_text("")
    async with asyncio.TaskGroup() as group:
        keeping = group.create_task(credentials.keep_fresh())
        async with asyncio.timeout(5):
            while "could not be refreshed" not in caplog.text:
                await asyncio.sleep(0.005)
        assert bearer(credentials) == b"Bearer first"
        (service_account / "token").write_text("second")
        await until_bearer(credentials, b"Bearer second")
        keeping.cancel()


async def test_a_kubeconfig_with_a_token_and_another_context(tmp_path: Path) -> None:
    path = write_kubeconfig(tmp_path / "config", {"token": "mine"}, **{"tls-server-name": "kubernetes"})
    credentials = Credentials(path, environ={})
    await credentials.load()
    assert bearer(credentials) == b"Bearer mine"
    assert credentials.access.endpoint.server_name == "kubernetes"
    other = Credentials(path, "two", environ={})
    await other.load()
    assert bearer(other) == b"Bearer other"


async def test_the_environment_names_a_kubeconfig_outside_a_pod(tmp_path: Path) -> None:
    path = write_kubeconfig(tmp_path / "config", {"token": "mine"})
    credentials = Credentials(environ={"KUBECONFIG": str(path)}, service_account=tmp_path / "none")
    await credentials.load()
    assert bearer(credentials) == b"Bearer mine"


async def test_client_certificates_and_authority_data(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("agent")
    data = {
        "client-certificate-data": base64.b64encode(certificate.read_bytes()).decode(),
        "client-key-data": base64.b64encode(key.read_bytes()).decode(),
    }
    ca = base64.b64encode(authority.pem).decode()
    credentials = Credentials(
        write_kubeconfig(tmp_path / "config", data, **{"certificate-authority-data": ca}), environ={}
    )
    await credentials.load()
    made = credentials.access
    assert made.credential == ()
    assert made.endpoint.tls is not None
    certificate, key = authority.issue("agent")
    data["client-certificate-data"] = base64.b64encode(certificate.read_bytes()).decode()
    data["client-key-data"] = base64.b64encode(key.read_bytes()).decode()
    write_kubeconfig(tmp_path / "config", data, **{"certificate-authority-data": ca})
    await credentials.load()
    assert credentials.access.endpoint is not made.endpoint, "connections of the old certificate are not used any more"


async def test_an_exec_plugin_is_asked_again_before_its_token_expires(tmp_path: Path, quick: None) -> None:
    expiry = (datetime.now(UTC) + timedelta(seconds=0.5)).isoformat()
    user = plugin(tmp_path, f"status = {{'token': f'token-{{count}}', 'expirationTimestamp': {expiry!r}}}")
    credentials = Credentials(write_kubeconfig(tmp_path / "config", user), environ={})
    await credentials.load()
    assert bearer(credentials) == b"Bearer token-1"
    await kept_fresh(credentials, b"Bearer token-2")


async def test_an_exec_plugin_without_expiry_is_asked_again_only_after_a_refusal(tmp_path: Path, quick: None) -> None:
    user = plugin(tmp_path, "status = {'token': f'token-{count}'}")
    credentials = Credentials(write_kubeconfig(tmp_path / "config", user), environ={})
    await credentials.load()
    async with asyncio.TaskGroup() as group:
        keeping = group.create_task(credentials.keep_fresh())
        await asyncio.sleep(0.2)
        assert bearer(credentials) == b"Bearer token-1"
        credentials.refused()
        await until_bearer(credentials, b"Bearer token-2")
        keeping.cancel()


async def test_an_exec_plugin_that_fails_or_hangs_is_said_with_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_kubeconfig(tmp_path / "config", plugin(tmp_path, "sys.exit('no session')"))
    with pytest.raises(ConfigurationError, match=r"kubeconfig .*: exec: process returned 1. no session"):
        await Credentials(path, environ={}).load()
    monkeypatch.setattr("agentk.kube_api.credentials.PLUGIN_TIMEOUT_S", 0.3)
    path = write_kubeconfig(tmp_path / "config", plugin(tmp_path, "import time; time.sleep(60)"))
    with pytest.raises(CredentialUnavailable, match=r"took more than 0\.3 s"):
        await Credentials(path, environ={}).load()


@pytest.mark.covers("C-05")
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no such file, and this is no pod"),
        ("", "Invalid kube-config|NoneType|empty"),
        ("a: [", "while parsing"),
        ("- 1\n", "."),
        ("contexts: []\ncurrent-context: x\nclusters: []\n", "x|contexts"),
    ],
    ids=["missing", "empty", "no YAML", "a list", "no context"],
)
async def test_an_unusable_kubeconfig_is_one_line_that_names_it(tmp_path: Path, content: str | None, says: str) -> None:
    path = tmp_path / "config"
    if content is not None:
        path.write_text(content)
    with pytest.raises(AgentkError, match=says) as error:
        await Credentials(path, environ={}).load()
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


async def test_a_proxy_in_the_kubeconfig_is_refused_rather_than_ignored(tmp_path: Path) -> None:
    path = write_kubeconfig(tmp_path / "config", {"token": "t"}, **{"proxy-url": "http://proxy:3128"})
    with pytest.raises(ConfigurationError, match="proxy-url is not supported"):
        await Credentials(path, environ={}).load()


async def test_skipping_verification_is_obeyed_and_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_kubeconfig(tmp_path / "config", {"token": "t"}, **{"insecure-skip-tls-verify": True})
    credentials = Credentials(path, environ={})
    await credentials.load()
    assert credentials.access.endpoint.tls is not None
    assert not credentials.access.endpoint.tls.check_hostname
    assert "not authenticated" in caplog.text
