"""Jobs of forges as they are: a GitLab job with its own token, a GitHub job with its ID token; access ends with the job."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import chosen
from tests.fakes.forge import Forge, SigningKey
from tests.fakes.gitlab import JOB_TOKEN, Gitlab
from tests.support.kubectls import Kubectl, any_kubectl
from tests.support.product import Agent, Product

AUDIENCE = "https://kas.example.com"
PROJECT, CONFIG_PROJECT = "shop/web", "shop/clusters"


@contextmanager
def serving(folder: Path) -> Iterator[Forge]:
    """A forge in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    forge = Forge(folder)
    asyncio.run_coroutine_threadsafe(forge.__aenter__(), loop).result(10)
    try:
        yield forge
    finally:
        asyncio.run_coroutine_threadsafe(forge.__aexit__(None, None, None), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        loop.close()


@contextmanager
def kas_with(
    folder: Path, issuer: dict[str, Any], cluster: Path, config: dict[str, Any]
) -> Iterator[tuple[Product, Agent]]:
    name = issuer["name"]
    options = {
        "issuers": [issuer],
        "configuration_repositories": [{"root": str(folder / "repositories"), "issuer": name}],
        "access": {"positive_cache_s": 5, "negative_cache_s": 1},
    }
    with Product(folder, options) as product:
        agent = product.register("production", CONFIG_PROJECT, "--issuer", name)
        product.configure(agent, json.dumps({"ci_access": config}))
        product.start_agentk(agent, cluster)
        yield product, agent


def job(product: Product, agent: Agent, token: str) -> Kubectl:
    file = product.folder / f"{time.monotonic_ns()}.token"
    file.touch(mode=0o600)
    file.write_text(token)
    return Kubectl(any_kubectl(), chosen(product, product.kubeconfig(file), agent), product.folder)


@pytest.mark.covers("A-09", "T-21")
def test_a_gitlab_job_works_with_its_own_token_and_its_access_ends_with_it(tmp_path: Path, cluster: Path) -> None:
    with serving(tmp_path) as forge:
        gitlab = Gitlab(forge)
        issuer = {"name": "gitlab", "type": "gitlab", "url": forge.url, "ca_file": str(forge.authority.ca)}
        with kas_with(tmp_path / "kas", issuer, cluster, {"projects": [{"id": PROJECT}]}) as (product, agent):
            kubectl = job(product, agent, JOB_TOKEN)
            kubectl.run("create", "configmap", "of-gitlab")
            with kubectl.running("get", "configmaps", "--watch", "--no-headers") as watch:
                assert watch.stdout is not None
                assert any(b"of-gitlab" in line for line in watch.stdout)
                gitlab.is_running = False
                ended = time.monotonic()
                watch.wait(15)
                assert time.monotonic() - ended < 10
            said = kubectl.run("get", "configmaps", fails=True)
            assert "its job is over" in said or "logged in" in said


def claims(forge: Forge, **changed: Any) -> dict[str, Any]:
    now = int(time.time())
    said = {
        "iss": forge.url,
        "aud": AUDIENCE,
        "iat": now,
        "exp": now + 60,
        "repository": PROJECT,
        "repository_id": "17",
    }
    said |= {
        "repository_owner_id": "5",
        "ref": "refs/heads/main",
        "event_name": "push",
        "run_id": "900",
        "run_attempt": "1",
    }
    return {**said, "actor": "ana", **changed}


def test_a_github_job_exchanges_its_id_token_and_strangers_and_pull_requests_stay_out(
    tmp_path: Path, cluster: Path
) -> None:
    key = SigningKey()
    with serving(tmp_path) as forge:
        forge.publish(key)
        issuer = {"name": "github", "type": "github", "issuer": forge.url, "audience": AUDIENCE, "owners": ["shop"]}
        issuer |= {"ca_file": str(forge.authority.ca), "leeway_s": 0}
        config = {"projects": [{"id": PROJECT, "project_id": "17", "refs": ["main"]}]}
        with kas_with(tmp_path / "kas", issuer, cluster, config) as (product, agent):
            expires = int(time.time()) + 15
            kubectl = job(product, agent, key.sign(claims(forge, exp=expires)).decode())
            kubectl.run("get", "configmaps")
            time.sleep(max(0, expires + 1 - time.time()))
            kubectl.run("get", "configmaps")  # with kas's own token, long after the ID token

            def refused(token: bytes) -> str:
                file = product.folder / "stranger.token"
                file.write_bytes(token)
                file.chmod(0o600)
                return product.command("kubeconfig", "--token-file", str(file), code=1)

            assert "refuses the token" in refused(key.sign(claims(forge, repository="evil/web")))
            assert "refuses the token" in refused(key.sign(claims(forge, aud="https://other.example.com")))
            for changed in ({"event_name": "pull_request"}, {"repository_id": "18"}, {"ref": "refs/tags/main"}):
                file = product.folder / f"{time.monotonic_ns()}.token"
                file.write_bytes(key.sign(claims(forge, **changed)))
                file.chmod(0o600)
                assert agent.context not in product.kubeconfig(file).read_text()


@pytest.mark.covers("T-21")
def test_an_owner_who_is_taken_from_the_list_loses_access_at_a_reload_and_gets_it_back_at_another(
    tmp_path: Path, cluster: Path
) -> None:
    key = SigningKey()
    with serving(tmp_path) as forge:
        forge.publish(key)
        issuer = {"name": "github", "type": "github", "issuer": forge.url, "audience": AUDIENCE, "owners": ["shop"]}
        issuer |= {"ca_file": str(forge.authority.ca)}
        with kas_with(tmp_path / "kas", issuer, cluster, {"projects": [{"id": PROJECT}]}) as (product, agent):
            kubectl = job(product, agent, key.sign(claims(forge, exp=int(time.time()) + 600)).decode())
            kubectl.run("create", "configmap", "of-github")

            def reload(told: str, **changed: Any) -> None:
                assert product.kas is not None
                before = product.kas.said().count(told)
                product.write_config(issuers=[{**issuer, **changed}])
                os.kill(product.kas.pid, signal.SIGHUP)
                product.kas.wait_until(lambda: product.kas.said().count(told) > before, told)  # type: ignore[union-attr]

            with kubectl.running("get", "configmaps", "--watch", "--no-headers") as watch:
                assert watch.stdout is not None
                assert any(b"of-github" in line for line in watch.stdout)
                reload("not reloaded", ca_file=str(tmp_path / "absent"))
                kubectl.run("get", "configmaps")
                reload("configuration reloaded", owners=["acme"])
                watch.wait(10)
            kubectl.run("get", "configmaps", fails=True)
            reload("configuration reloaded")
            kubectl.run("get", "configmaps")
