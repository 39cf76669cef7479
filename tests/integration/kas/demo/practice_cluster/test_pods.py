"""Pods as processes: their life, their logs, what they leave behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kas.demo.practice_cluster import PracticeCluster

from .conftest import Client, eventually

PODS = "/api/v1/namespaces/default/pods"


async def logs(client: Client, name: str, query: str = "") -> str:
    answer = await client.send("GET", f"{PODS}/{name}/log{query}")
    assert answer.status == 200, answer.text()
    return answer.text()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return b") Z" not in Path(f"/proc/{pid}/stat").read_bytes() if Path("/proc").exists() else True


async def test_a_pod_that_ends_is_shown_with_its_code_and_its_log(client: Client):
    await client.run_pod("a", "sh", "-c", "echo one; echo two >&2; exit 3", restartPolicy="Never")
    pod = await client.get(f"{PODS}/a")
    assert pod["status"]["phase"] == "Failed"
    assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 3
    assert sorted((await logs(client, "a", "?follow=true")).split()) == ["one", "two"]


async def test_parts_of_a_log(client: Client):
    await client.run_pod("a", "sh", "-c", "echo one; echo two; echo three", restartPolicy="Never")
    assert await logs(client, "a", "?tailLines=1") == "three\n"
    assert await logs(client, "a", "?tailLines=0") == ""
    assert await logs(client, "a", "?limitBytes=5") == "one\nt"
    assert await logs(client, "a", "?sinceSeconds=100") == "one\ntwo\nthree\n"
    assert (await logs(client, "a", "?timestamps=true&tailLines=1")).endswith("Z three\n")
    assert (await client.send("GET", f"{PODS}/a/log?previous=true")).status == 400
    assert (await client.send("GET", f"{PODS}/a/log?container=other")).status == 400


async def test_a_pod_that_fails_is_started_again(client: Client):
    script = "echo run; test -e again && exec sleep 1000; touch again; exit 1"
    await client.run_pod("a", "sh", "-c", script)
    pod = await client.until(f"{PODS}/a", lambda pod: pod["status"]["containerStatuses"][0]["restartCount"] == 1)
    assert pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 1
    assert (await logs(client, "a")) == "run\nrun\n"


async def test_a_program_that_is_not_there_is_a_start_error(client: Client):
    await client.run_pod("a", "no-such-program", restartPolicy="Never")
    state = (await client.get(f"{PODS}/a"))["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (state["exitCode"], state["reason"]) == (128, "StartError")
    assert "no-such-program" in state["message"]


async def test_a_pod_waits_for_what_it_refers_to(client: Client):
    env = [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "late", "key": "k"}}}]
    container = {"name": "main", "image": "any", "command": ["sh", "-c", "echo $A"], "env": env}
    spec = {"containers": [container], "restartPolicy": "Never"}
    await client.create(PODS, {"metadata": {"name": "a"}, "spec": spec})

    def is_waiting(pod: dict[str, dict[str, list[dict[str, dict[str, dict[str, str]]]]]]) -> bool:
        states = pod["status"].get("containerStatuses", [])
        return any(each["state"].get("waiting", {}).get("reason") == "CreateContainerConfigError" for each in states)

    await client.until(f"{PODS}/a", is_waiting)
    await client.create("/api/v1/namespaces/default/configmaps", {"metadata": {"name": "late"}, "data": {"k": "v"}})
    assert await logs(client, "a", "?follow=true") == "v\n"


async def test_init_containers_run_first_and_stop_the_pod_when_they_fail(client: Client):
    def first(script: str) -> dict[str, list[dict[str, object]]]:
        return {"initContainers": [{"name": "first", "image": "any", "command": ["sh", "-c", script]}]}

    await client.run_pod("good", "echo", "main", restartPolicy="Never", **first("echo first"))
    assert await logs(client, "good", "?follow=true") == "main\n"
    assert await logs(client, "good", "?container=first") == "first\n"
    await client.run_pod("bad", "echo", "main", restartPolicy="Never", **first("exit 1"))
    assert (await client.get(f"{PODS}/bad"))["status"]["phase"] == "Failed"


async def test_readiness_waits_for_the_port(client: Client):
    probe = {"httpGet": {"port": "http"}, "periodSeconds": 1}
    container = {"ports": [{"name": "http", "containerPort": 8080}], "readinessProbe": probe}
    await client.run_pod("a", "httpd", "-f", "-p", "8080", container=container)
    assert (await client.get(f"{PODS}/a"))["status"]["containerStatuses"][0]["ready"] is True


@pytest.mark.parametrize("grace", [0, 1])
async def test_a_deleted_pod_leaves_no_process_and_no_files(client: Client, cluster: PracticeCluster, grace: int):
    script = "trap '' TERM; echo $$$$; while :; do sleep 0.05; done"
    await client.run_pod("a", "sh", "-c", script)
    pid = int(await client.first_line(f"{PODS}/a"))
    assert is_alive(pid)
    assert list((cluster.directory / "pods").iterdir())
    await client.send("DELETE", f"{PODS}/a", json={"gracePeriodSeconds": grace})
    await eventually(lambda: not is_alive(pid) and not any((cluster.directory / "pods").iterdir()))
    assert (await client.send("GET", f"{PODS}/a")).status == 404


async def test_a_stopped_cluster_leaves_no_process_and_no_files(client: Client, cluster: PracticeCluster):
    await client.run_pod("a", "sh", "-c", "echo $$$$; exec sleep 1000")
    pid = int(await client.first_line(f"{PODS}/a"))
    await cluster.__aexit__(None, None, None)
    assert not is_alive(pid)
    assert not list((cluster.directory / "pods").iterdir())
