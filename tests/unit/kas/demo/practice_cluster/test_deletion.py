"""Deleting, and the collector that finishes it."""

from __future__ import annotations

from typing import Any

import pytest

from kas.demo.practice_cluster.deletion import Collector, DeleteOptions, Deletion
from kas.demo.practice_cluster.kinds import Kind
from kas.demo.practice_cluster.objects import Store
from kas.demo.practice_cluster.status import ApiError

from .conftest import CONFIG_MAPS, DEPLOYMENTS, JSON, NAMESPACES, PODS, REPLICA_SETS, asked, deployment, pod_template


@pytest.fixture
def deletion(store: Store) -> Deletion:
    return Deletion(store)


def owned_by(owner: dict[str, Any], name: str) -> dict[str, Any]:
    reference = {"uid": owner["metadata"]["uid"], "kind": owner["kind"], "name": owner["metadata"]["name"]}
    return {"metadata": {"name": name, "namespace": "here", "ownerReferences": [reference]}}


def running_pod(store: Store, name: str = "a") -> dict[str, Any]:
    spec = {**pod_template()["spec"], "nodeName": "node", "terminationGracePeriodSeconds": 7}
    return store.create(PODS, {"metadata": {"name": name, "namespace": "here"}, "spec": spec, "status": {}})


def collect(store: Store) -> None:
    collector = Collector(store)
    version = 0
    while version != store.version:
        version = store.version
        collector.reconcile()


def names(store: Store, kind: Kind) -> list[str]:
    return [item["metadata"]["name"] for item in store.select(kind)]


def test_options_come_from_the_body_or_the_query():
    body = b'{"propagationPolicy":"Orphan","gracePeriodSeconds":0,"preconditions":{"uid":"u"},"dryRun":["All"]}'
    assert DeleteOptions.of(asked("DELETE"), body, JSON) == DeleteOptions("Orphan", 0, "u", True)
    query = asked("DELETE", propagationPolicy="Foreground", gracePeriodSeconds="3")
    assert DeleteOptions.of(query, b"", "") == DeleteOptions("Foreground", 3)
    with pytest.raises(ApiError):
        DeleteOptions.of(query, b"[]", JSON)


def test_background_removes_the_owner_now_and_dependents_soon(store: Store, deletion: Deletion):
    owner = store.create(DEPLOYMENTS, deployment())
    replica_set = store.create(REPLICA_SETS, owned_by(owner, "rs"))
    store.create(CONFIG_MAPS, owned_by(replica_set, "below"))
    assert deletion.delete(DEPLOYMENTS, owner, DeleteOptions())["status"] == "Success"
    assert names(store, DEPLOYMENTS) == []
    collect(store)
    assert names(store, REPLICA_SETS) == names(store, CONFIG_MAPS) == []


def test_foreground_removes_the_owner_last(store: Store, deletion: Deletion):
    owner = store.create(DEPLOYMENTS, deployment())
    pod = running_pod(store)
    store.replace(PODS, {**pod, "metadata": {**pod["metadata"], **owned_by(owner, "a")["metadata"]}})
    deletion.delete(DEPLOYMENTS, owner, DeleteOptions("Foreground"))
    collect(store)
    assert names(store, DEPLOYMENTS) == ["web"]
    store.remove(PODS, "here", "a")
    collect(store)
    assert names(store, DEPLOYMENTS) == []


def test_orphans_stay(store: Store, deletion: Deletion):
    owner = store.create(DEPLOYMENTS, deployment())
    store.create(CONFIG_MAPS, owned_by(owner, "orphan"))
    deletion.delete(DEPLOYMENTS, owner, DeleteOptions("Orphan"))
    collect(store)
    assert names(store, CONFIG_MAPS) == ["orphan"]


@pytest.mark.parametrize(("grace_s", "kept_s"), [(None, 7), (3, 3), (0, None)])
def test_a_running_pod_gets_its_grace(store: Store, deletion: Deletion, grace_s: int | None, kept_s: int | None):
    pod = running_pod(store)
    deletion.delete(PODS, pod, DeleteOptions(grace_s=grace_s))
    left = store.find(PODS, "here", "a")
    assert (left and left["metadata"]["deletionGracePeriodSeconds"]) == kept_s


def test_a_namespace_goes_when_it_is_empty(store: Store, deletion: Deletion):
    store.create(CONFIG_MAPS, {"metadata": {"name": "a", "namespace": "here"}})
    running_pod(store)
    told = deletion.delete(NAMESPACES, store.get(NAMESPACES, "", "here"), DeleteOptions())
    assert told["status"]["phase"] == "Terminating"
    collect(store)
    assert names(store, CONFIG_MAPS) == []
    assert names(store, NAMESPACES) == ["here"]
    store.remove(PODS, "here", "a")
    collect(store)
    assert names(store, NAMESPACES) == []


def test_another_object_of_the_same_name_is_not_deleted(store: Store, deletion: Deletion):
    item = store.create(CONFIG_MAPS, {"metadata": {"name": "a", "namespace": "here"}})
    with pytest.raises(ApiError, match="Precondition failed"):
        deletion.delete(CONFIG_MAPS, item, DeleteOptions(uid="other"))


def test_a_dry_run_deletes_nothing(store: Store, deletion: Deletion):
    item = store.create(CONFIG_MAPS, {"metadata": {"name": "a", "namespace": "here"}})
    deletion.delete(CONFIG_MAPS, item, DeleteOptions(dry_run=True))
    assert names(store, CONFIG_MAPS) == ["a"]
