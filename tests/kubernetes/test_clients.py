"""Clients that are not kubectl, through kas: helm, the two Python clients, and one with many watches at once, as k9s has."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import kubernetes
import kubernetes.stream
import kubernetes_asyncio
import kubernetes_asyncio.stream
import kubernetes_asyncio.watch
import pytest

from tests.kubernetes.conftest import NAMESPACE
from tests.support.helm import helm
from tests.support.kubectls import Kubectl, any_kubectl

CHART = str(Path(__file__).parent / "chart")
WATCHES = 50
LIMIT_S = 60


@pytest.mark.usefixtures("node")
def test_helm_installs_upgrades_and_rolls_back_and_waits_each_time(job_kubeconfig: Path, tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "KUBECONFIG": str(job_kubeconfig), "HOME": str(tmp_path)}
    job = Kubectl(any_kubectl(), job_kubeconfig, tmp_path)
    waits = ("--wait", "--timeout", "60s", "--namespace", NAMESPACE)

    def word() -> str:
        return job.run("logs", "deployment/sleeper").strip()

    helm("install", "sleeper", CHART, *waits, environment=environment)
    try:
        assert word() == "one"
        helm("upgrade", "sleeper", CHART, "--set", "word=two", *waits, environment=environment)
        assert job.run("get", "deployment", "sleeper", "--output=jsonpath={.status.availableReplicas}") == "1"
        helm("rollback", "sleeper", "1", *waits, environment=environment)
        history = helm("history", "sleeper", "--namespace", NAMESPACE, environment=environment)
        assert "Rollback to 1" in history
    finally:
        helm("uninstall", "sleeper", *waits, environment=environment)


@pytest.fixture
def blocking(job_kubeconfig: Path) -> Iterator[kubernetes.client.CoreV1Api]:
    api_client = kubernetes.config.new_client_from_config(str(job_kubeconfig))
    yield kubernetes.client.CoreV1Api(api_client)
    api_client.close()


def test_the_blocking_python_client(blocking: kubernetes.client.CoreV1Api, shell_pod: str) -> None:
    names = [pod.metadata.name for pod in blocking.list_namespaced_pod(NAMESPACE).items]
    assert shell_pod in names
    body = {"metadata": {"name": "python"}, "data": {"key": "value"}}
    watch = kubernetes.watch.Watch()
    blocking.create_namespaced_config_map(NAMESPACE, body)
    try:
        options = {"field_selector": "metadata.name=python", "timeout_seconds": 20}
        first = next(watch.stream(blocking.list_namespaced_config_map, NAMESPACE, **options))
        assert (first["type"], first["object"].data) == ("ADDED", {"key": "value"})
    finally:
        watch.stop()
        blocking.delete_namespaced_config_map("python", NAMESPACE)
    session = kubernetes.stream.stream(
        blocking.connect_get_namespaced_pod_exec, shell_pod, NAMESPACE, command=["sh", "-c", "echo out; echo err >&2; exit 3"],
        stdout=True, stderr=True, stdin=False, tty=False, _preload_content=False,
    )  # fmt: skip
    try:
        session.run_forever(timeout=20)
        assert (session.read_stdout(), session.read_stderr(), session.returncode) == ("out\n", "err\n", 3)
    finally:
        session.close()
        if session.sock.sock is not None:  # close() leaves it to the garbage collector
            session.sock.sock.close()


async def test_the_asynchronous_python_client(job_kubeconfig: Path, shell_pod: str) -> None:
    configuration = kubernetes_asyncio.client.Configuration()
    await kubernetes_asyncio.config.load_kube_config(str(job_kubeconfig), client_configuration=configuration)
    async with (
        asyncio.timeout(LIMIT_S),
        kubernetes_asyncio.stream.WsApiClient(configuration=configuration) as socket,
        kubernetes_asyncio.client.ApiClient(configuration=configuration) as plain,
    ):
        pods = await kubernetes_asyncio.client.CoreV1Api(plain).list_namespaced_pod(NAMESPACE)
        assert shell_pod in [pod.metadata.name for pod in pods.items]
        said = await kubernetes_asyncio.client.CoreV1Api(socket).connect_get_namespaced_pod_exec(
            shell_pod, NAMESPACE, command=["sh", "-c", "echo out"], stdout=True, stderr=True, stdin=False, tty=False
        )
        assert said == "out\n"


async def test_many_watches_of_one_client_all_see_a_change(job_kubeconfig: Path) -> None:
    configuration = kubernetes_asyncio.client.Configuration()
    configuration.connection_pool_maxsize = 2 * WATCHES
    await kubernetes_asyncio.config.load_kube_config(str(job_kubeconfig), client_configuration=configuration)
    ready = asyncio.Semaphore(0)

    async def first_change(core: kubernetes_asyncio.client.CoreV1Api, version: str) -> str:
        async with kubernetes_asyncio.watch.Watch() as watch:
            options = {"resource_version": version, "label_selector": "many=watches", "timeout_seconds": LIMIT_S}
            stream = watch.stream(core.list_namespaced_config_map, NAMESPACE, **options)
            ready.release()
            async for event in stream:
                return str(event["object"].metadata.name)
        return "the watch ended"

    async with (
        asyncio.timeout(LIMIT_S),
        kubernetes_asyncio.client.ApiClient(configuration=configuration) as client,
        asyncio.TaskGroup() as group,
    ):
        core = kubernetes_asyncio.client.CoreV1Api(client)
        version = (await core.list_namespaced_config_map(NAMESPACE)).metadata.resource_version
        watches = [group.create_task(first_change(core, version)) for _ in range(WATCHES)]
        for _ in watches:
            await ready.acquire()
        await asyncio.sleep(1)  # they are on their way; nothing depends on all having arrived
        body = {"metadata": {"name": "seen", "labels": {"many": "watches"}}}
        await core.create_namespaced_config_map(NAMESPACE, body)
        try:
            assert set(await asyncio.gather(*watches)) == {"seen"}
        finally:
            await core.delete_namespaced_config_map("seen", NAMESPACE)
