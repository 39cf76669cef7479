"""The store: versions, history, and what no client may change."""

from __future__ import annotations

import asyncio

import pytest

from kas.demo.practice_cluster.objects import MAX_CHANGES, Store
from kas.demo.practice_cluster.status import ApiError

from .conftest import CONFIG_MAPS, DEPLOYMENTS, PODS, deployment


def config_map(name: str = "settings", **data: str) -> dict[str, object]:
    return {"metadata": {"name": name, "namespace": "here"}, "data": data}


def test_every_change_has_a_version_and_is_remembered(store: Store):
    start = store.version
    created = store.create(CONFIG_MAPS, config_map(a="1"))
    store.replace(CONFIG_MAPS, {**created, "data": {"a": "2"}})
    store.remove(CONFIG_MAPS, "here", "settings")
    changes = store.changes_after(start)
    assert [change.type for change in changes] == ["ADDED", "MODIFIED", "DELETED"]
    assert [change.version for change in changes] == [start + 1, start + 2, start + 3]
    assert [int(change.after["metadata"]["resourceVersion"]) for change in changes] == [start + 1, start + 2, start + 3]


def test_nothing_happens_when_nothing_changed(store: Store):
    created = store.create(CONFIG_MAPS, config_map(a="1"))
    version = store.version
    assert store.replace(CONFIG_MAPS, {**created}) is created
    assert store.version == version


def test_the_same_name_twice_is_a_conflict(store: Store):
    store.create(CONFIG_MAPS, config_map())
    with pytest.raises(ApiError, match='configmaps "settings" already exists'):
        store.create(CONFIG_MAPS, config_map())


def test_a_stale_version_is_a_conflict(store: Store):
    created = store.create(CONFIG_MAPS, config_map(a="1"))
    store.replace(CONFIG_MAPS, {**created, "data": {"a": "2"}})
    with pytest.raises(ApiError, match="the object has been modified") as error:
        store.replace(CONFIG_MAPS, {**created, "data": {"a": "3"}})
    assert error.value.code == 409


def test_a_client_cannot_change_what_is_the_servers(store: Store):
    created = store.create(CONFIG_MAPS, config_map())
    metadata = {
        "name": "settings",
        "namespace": "here",
        "uid": "mine",
        "creationTimestamp": "never",
        "labels": {"a": "b"},
    }
    replaced = store.replace(CONFIG_MAPS, {**created, "metadata": metadata})
    assert replaced["metadata"]["uid"] == created["metadata"]["uid"]
    assert replaced["metadata"]["creationTimestamp"] == "2030-01-01T00:00:00Z"
    assert replaced["metadata"]["labels"] == {"a": "b"}


def test_the_generation_counts_changes_of_the_spec_alone(store: Store):
    created = store.create(DEPLOYMENTS, deployment())
    again = store.replace(DEPLOYMENTS, {**created, "status": {"replicas": 1}})
    assert again["metadata"]["generation"] == 1
    scaled = store.replace(DEPLOYMENTS, {**again, "spec": {**again["spec"], "replicas": 9}})
    assert scaled["metadata"]["generation"] == 2


def test_an_object_marked_for_deletion_goes_with_its_last_finalizer(store: Store):
    created = store.create(CONFIG_MAPS, config_map())
    marked = store.mark_deleted(CONFIG_MAPS, created, finalizers=["x"])
    metadata = {**marked["metadata"], "finalizers": []}
    store.replace(CONFIG_MAPS, {**marked, "metadata": metadata})
    assert store.find(CONFIG_MAPS, "here", "settings") is None


def test_generated_names_differ(store: Store):
    template = {"metadata": {"generateName": "web-", "namespace": "here"}}
    names = {store.create(PODS, template)["metadata"]["name"] for _ in range(20)}
    assert len(names) == 20
    assert all(name.startswith("web-") for name in names)


def test_a_version_too_far_back_has_expired(store: Store):
    created = store.create(CONFIG_MAPS, config_map())
    for number in range(MAX_CHANGES + 1):
        created = store.replace(CONFIG_MAPS, {**created, "data": {"n": str(number)}})
    with pytest.raises(ApiError) as error:
        store.changes_after(1)
    assert error.value.code == 410
    assert len(store.changes_after(store.version - 3)) == 3


async def test_who_waits_hears_of_a_change(store: Store):
    waiting = asyncio.get_running_loop().create_task(store.changed(store.version))
    await asyncio.sleep(0)
    assert not waiting.done()
    store.create(CONFIG_MAPS, config_map())
    await waiting


def test_the_representation_says_how_much_there_is(store: Store):
    assert repr(store) == "<Store version=2 objects=1 changes=1>"
