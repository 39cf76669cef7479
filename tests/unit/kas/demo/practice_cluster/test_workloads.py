"""Deployments and replica sets, with a node that is played here."""

from __future__ import annotations

from typing import Any

import pytest

from kas.demo.practice_cluster import conditions
from kas.demo.practice_cluster.defaults import with_defaults
from kas.demo.practice_cluster.deletion import Collector
from kas.demo.practice_cluster.events import Events
from kas.demo.practice_cluster.kinds import kind_of
from kas.demo.practice_cluster.objects import Store
from kas.demo.practice_cluster.workloads import REVISION, Workloads

from .conftest import DEPLOYMENTS, PODS, REPLICA_SETS, deployment


class World:
    """The controllers, and a node whose pods are ready as soon as ``run`` is called."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.fewest = 1_000_000
        self.most = 0
        self._controllers = (Workloads(store, Events(store)), Collector(store))

    def settle(self, *, make_ready: bool = True) -> None:
        """Until nothing changes any more."""
        version = -1
        while version != self.store.version:
            version = self.store.version
            for controller in self._controllers:
                controller.reconcile()
            if make_ready:
                self._make_one_ready()
            pods = self.store.select(PODS)
            self.most = max(self.most, len(pods))
            self.fewest = min(self.fewest, sum(map(conditions.is_ready, pods)))

    def _make_one_ready(self) -> None:
        for pod in self.store.select(PODS):
            if not conditions.is_ready(pod):
                ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
                self.store.replace(PODS, {**pod, "status": ready})
                return

    def deployment(self) -> dict[str, Any]:
        return self.store.get(DEPLOYMENTS, "here", "web")

    def change(self, **spec: Any) -> None:
        item = self.deployment()
        self.store.replace(DEPLOYMENTS, {**item, "spec": {**item["spec"], **spec}})

    def roll(self, image: str) -> None:
        template = self.deployment()["spec"]["template"]
        container = {**template["spec"]["containers"][0], "image": image}
        self.change(template={**template, "spec": {**template["spec"], "containers": [container]}})

    def images(self) -> list[str]:
        return [pod["spec"]["containers"][0]["image"] for pod in self.store.select(PODS)]


@pytest.fixture
def world(store: Store) -> World:
    store.create(DEPLOYMENTS, with_defaults(DEPLOYMENTS, deployment(replicas=4)))
    return World(store)


def test_a_deployment_makes_its_pods_and_is_available(world: World):
    world.settle()
    status = world.deployment()["status"]
    assert (status["replicas"], status["readyReplicas"], status["observedGeneration"]) == (4, 4, 1)
    assert conditions.is_true(world.deployment(), "Available")
    assert world.deployment()["metadata"]["annotations"][REVISION] == "1"


def test_pods_that_do_not_get_ready_leave_it_unavailable(world: World):
    world.settle(make_ready=False)
    assert not conditions.is_true(world.deployment(), "Available")
    assert world.deployment()["status"]["unavailableReplicas"] == 4


@pytest.mark.parametrize("replicas", [0, 1, 9])
def test_scaling(world: World, replicas: int):
    world.settle()
    world.change(replicas=replicas)
    world.settle()
    assert len(world.images()) == replicas


def test_a_rolling_update_stays_within_its_bounds(world: World):
    world.settle()
    world.fewest, world.most = 4, 4
    world.roll("new")
    world.settle()
    assert world.images() == ["new"] * 4
    assert world.most <= 5  # 25 % of 4 more
    assert world.fewest >= 3  # and 25 % fewer


def test_a_rolling_update_to_pods_that_never_get_ready_keeps_the_old_ones(world: World):
    world.settle()
    world.roll("broken")
    world.settle(make_ready=False)
    assert world.images().count("any") == 3


def test_recreate_ends_the_old_ones_first(world: World):
    world.change(strategy={"type": "Recreate"})
    world.settle()
    world.most = 4
    world.roll("new")
    world.settle()
    assert (world.images(), world.most) == (["new"] * 4, 4)


def test_rolling_back_takes_the_old_replica_set_and_a_new_revision(world: World):
    world.settle()
    world.roll("new")
    world.settle()
    world.roll("any")
    world.settle()
    assert world.images() == ["any"] * 4
    assert len(world.store.select(REPLICA_SETS)) == 2
    assert world.deployment()["metadata"]["annotations"][REVISION] == "3"


def test_history_is_forgotten_beyond_its_limit(world: World):
    world.change(revisionHistoryLimit=1)
    for image in ("a", "b", "c"):
        world.roll(image)
        world.settle()
    assert len(world.store.select(REPLICA_SETS)) == 2


def test_a_paused_deployment_waits(world: World):
    world.settle()
    world.change(paused=True)
    world.roll("new")
    world.settle()
    assert set(world.images()) == {"any"}
    world.change(paused=False)
    world.settle()
    assert set(world.images()) == {"new"}


def test_a_lost_pod_is_replaced_and_events_say_so(world: World):
    world.settle()
    lost = world.store.select(PODS)[0]["metadata"]["name"]
    world.store.remove(PODS, "here", lost)
    world.settle()
    assert len(world.images()) == 4
    reasons = {event["reason"] for event in world.store.select(kind_of("events"))}
    assert {"ScalingReplicaSet", "SuccessfulCreate"} <= reasons


def test_an_event_that_happens_again_is_counted(store: Store):
    item = store.create(DEPLOYMENTS, deployment())
    events = Events(store)
    for _ in range(3):
        events.record(DEPLOYMENTS, item, "tests", "Normal", "Same", "the same")
    (event,) = store.select(kind_of("events"))
    assert event["count"] == 3


def test_old_events_are_forgotten(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("kas.demo.practice_cluster.events.MAX_EVENTS", 3)
    item = store.create(DEPLOYMENTS, deployment())
    events = Events(store)
    for number in range(5):
        events.record(DEPLOYMENTS, item, "tests", "Normal", "Other", str(number))
    assert sorted(event["message"] for event in store.select(kind_of("events"))) == ["2", "3", "4"]
