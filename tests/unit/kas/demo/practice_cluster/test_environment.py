"""Commands, variables and ports of containers."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from kas.demo.practice_cluster import environment
from kas.demo.practice_cluster.environment import MissingReference
from kas.demo.practice_cluster.kinds import kind_of
from kas.demo.practice_cluster.objects import Store

from .conftest import CONFIG_MAPS

POD = {"metadata": {"name": "web-1", "namespace": "here", "uid": "u", "labels": {"app": "web"}}, "spec": {}}


def variables(store: Store, container: dict[str, Any]) -> dict[str, str]:
    return environment.environment_of(store, POD, container, Path("/f"), Path("/p"), {8080: 4001})


def test_variables_from_everywhere(store: Store):
    store.create(CONFIG_MAPS, {"metadata": {"name": "c", "namespace": "here"}, "data": {"key": "value", "other": "o"}})
    secret = {"metadata": {"name": "s", "namespace": "here"}, "data": {"key": "c2VjcmV0"}}
    store.create(kind_of("secrets"), secret)
    container = {
        "envFrom": [{"prefix": "C_", "configMapRef": {"name": "c"}}, {"secretRef": {"name": "no", "optional": True}}],
        "env": [
            {"name": "PLAIN", "value": "x"},
            {"name": "TWICE", "value": "$(PLAIN)$(PLAIN) $$(PLAIN) $(UNKNOWN)"},
            {"name": "FROM_MAP", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "key"}}},
            {"name": "FROM_SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "key"}}},
            {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "GONE", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "no", "optional": True}}},
        ],
    }
    found = variables(store, container)
    wanted = {
        "C_key": "value",
        "C_other": "o",
        "PLAIN": "x",
        "TWICE": "xx $(PLAIN) $(UNKNOWN)",
        "FROM_MAP": "value",
        "FROM_SECRET": "secret",
        "POD": "web-1",
        "APP": "web",
        "IP": "127.0.0.1",
        "GONE": "",
        "HOSTNAME": "web-1",
        "PRACTICE_CLUSTER_PORTS": "8080=4001",
    }
    assert {name: found.get(name) for name in wanted} == wanted
    assert found["PATH"].startswith("/p:")


@pytest.mark.parametrize(
    "container",
    [
        {"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "no", "key": "k"}}}]},
        {"envFrom": [{"secretRef": {"name": "no"}}]},
    ],
)
def test_what_is_missing_is_said(store: Store, container: dict[str, Any]):
    with pytest.raises(MissingReference, match='"no" not found'):
        variables(store, container)


def test_the_environment_of_the_cluster_is_not_passed_on(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SOME_SECRET", "x")
    assert "SOME_SECRET" not in variables(store, {})


def test_commands():
    container = {"command": ["sh", "-c"], "args": ["echo $(A)"]}
    assert environment.command_of(container, {"A": "1"}) == ["sh", "-c", "echo 1"]
    assert environment.command_of({"image": "any"}, {})[-1] == "--hello"


def test_each_declared_port_gets_a_free_one():
    ports = environment.free_ports(
        {"spec": {"containers": [{"ports": [{"containerPort": 80}, {"containerPort": 81}]}]}}
    )
    assert set(ports) == {80, 81}
    assert ports[80] != ports[81]


def test_the_programs_can_be_run(tmp_path: Path):
    environment.install_programs(tmp_path)
    done = subprocess.run([tmp_path / "httpd", "-p", "not-a-port"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "not-a-port" in done.stderr
