"""The job on a machine without kubectl: the Python client on rendered manifests, through the same kubeconfig and tunnel."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import yaml
from kubernetes_asyncio import client, config
from kubernetes_asyncio.client.exceptions import ApiException

from kas.demo.narrator import Narrator
from kas.demo.stage import CONTEXT

ROLLOUT_S = 80.0
_LABEL = {"app.kubernetes.io/name": "hello"}


def play(kubeconfig: Path, folder: Path, namespace: str, narrator: Narrator) -> None:
    """Apply, wait, look, read a log."""
    asyncio.run(_play(kubeconfig, folder, namespace, narrator))


def is_denied(kubeconfig: Path, namespace: str, narrator: Narrator) -> None:
    """A job of a project that ci_access does not name."""
    asyncio.run(_is_denied(kubeconfig, namespace, narrator))


async def _play(kubeconfig: Path, folder: Path, namespace: str, narrator: Narrator) -> None:
    narrator.say("There is no kubectl on this machine: the Python client plays the job with rendered manifests.")
    async with await _connect(kubeconfig) as api:
        core: Any = client.CoreV1Api(api)
        apps: Any = client.AppsV1Api(api)
        narrator.command("apply the manifests of examples/hello (Python client)")
        await core.create_namespaced_config_map(namespace, _greeting())
        await core.create_namespaced_service(namespace, _labelled(folder / "service.yaml", selector=True))
        await apps.create_namespaced_deployment(namespace, _deployment(folder / "deployment.yaml"))
        narrator.passed("created: a config map, a service, a deployment")
        narrator.command("wait for the rollout")
        deadline = time.monotonic() + ROLLOUT_S
        ready = 0
        while ready < 2 and time.monotonic() < deadline:
            status = (await apps.read_namespaced_deployment("hello", namespace)).status
            ready = status.ready_replicas or 0
            await asyncio.sleep(0.2)
        if ready < 2:
            narrator.failed("the deployment did not become ready")
            return
        narrator.passed("2 replicas are ready")
        pods = (await core.list_namespaced_pod(namespace, label_selector="app.kubernetes.io/name=hello")).items
        narrator.output("\n".join(f"{pod.metadata.name}  {pod.status.phase}" for pod in pods))
        said = await core.read_namespaced_pod_log(pods[0].metadata.name, namespace, tail_lines=3)
        narrator.command(f"read the log of {pods[0].metadata.name}")
        narrator.output(said)
        narrator.passed()
    narrator.skipped("config use-context, apply -k, logs -f, exec and port-forward: they need kubectl")


async def _is_denied(kubeconfig: Path, namespace: str, narrator: Narrator) -> None:
    async with await _connect(kubeconfig) as api:
        narrator.command("list pods (Python client)")
        try:
            await client.CoreV1Api(api).list_namespaced_pod(namespace)
        except ApiException as error:
            narrator.output(str(error.body))
            if error.status == 403:
                narrator.passed("denied, and told why")
                return
        narrator.failed("this job should have been denied")


async def _connect(kubeconfig: Path) -> Any:
    settings = client.Configuration()
    await config.load_kube_config(str(kubeconfig), context=CONTEXT, client_configuration=settings, persist_config=False)
    return client.ApiClient(settings)


def _greeting() -> dict[str, Any]:
    return {"metadata": {"name": "hello", "labels": _LABEL}, "data": {"greeting": "Hello"}}


def _labelled(file: Path, *, selector: bool = False) -> dict[str, Any]:
    """What kustomize would add."""
    document: dict[str, Any] = yaml.safe_load(file.read_text())
    document["metadata"]["labels"] = _LABEL
    if selector:
        document["spec"]["selector"] = _LABEL
    return document


def _deployment(file: Path) -> dict[str, Any]:
    document = _labelled(file)
    document["spec"]["selector"] = {"matchLabels": _LABEL}
    document["spec"]["template"]["metadata"] = {"labels": _LABEL}
    return document
