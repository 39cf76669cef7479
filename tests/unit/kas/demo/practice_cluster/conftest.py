"""A store with a namespace in it, and a clock that stands still until it is moved."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kas.demo.practice_cluster.identity import Access
from kas.demo.practice_cluster.kinds import Kind, kind_of
from kas.demo.practice_cluster.objects import Store
from kas.demo.practice_cluster.requests import Asked, Target
from kas.demo.practice_cluster.resources import Resources

PODS, NAMESPACES, CONFIG_MAPS = kind_of("pods"), kind_of("namespaces"), kind_of("configmaps")
DEPLOYMENTS, REPLICA_SETS = kind_of("deployments", "apps"), kind_of("replicasets", "apps")
JSON = "application/json"


class Clock:
    """``clock()`` is the time."""

    def __init__(self) -> None:
        self.now = datetime(2030, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def move(self, **amount: float) -> None:
        """On by so much."""
        self.now += timedelta(**amount)


def asked(method: str = "GET", **query: str) -> Asked:
    """A request with these parameters."""
    return Asked(method, "", tuple(query.items()), None)


def named(kind: Kind, name: str = "", subresource: str = "") -> Target:
    """A resource in the namespace of the tests."""
    return Target(kind, "here" if kind.namespaced else "", name, subresource)


def pod_template(name: str = "web", **spec: Any) -> dict[str, Any]:
    """A template with one container."""
    return {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": name, "image": "any"}], **spec}}


def deployment(name: str = "web", replicas: int = 2, **spec: Any) -> dict[str, Any]:
    """A deployment of ``pod_template``."""
    selector = {"matchLabels": {"app": name}}
    spec = {"replicas": replicas, "selector": selector, "template": pod_template(name), **spec}
    return {"metadata": {"name": name, "namespace": "here"}, "spec": spec}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> Store:
    store = Store(clock)
    store.create(NAMESPACES, {"metadata": {"name": "here"}, "status": {"phase": "Active"}})
    return store


@pytest.fixture
def resources(store: Store) -> Resources:
    return Resources(store)


@pytest.fixture
def access() -> Access:
    return Access()
