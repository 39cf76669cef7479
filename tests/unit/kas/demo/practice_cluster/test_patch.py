"""The four kinds of patch."""

from __future__ import annotations

from typing import Any

import pytest

from kas.demo.practice_cluster import patch, schema
from kas.demo.practice_cluster.status import ApiError

from .conftest import DEPLOYMENTS, PODS

POD = schema.named(PODS.schema)
DEPLOYMENT = schema.named(DEPLOYMENTS.schema)


def containers(*items: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"spec": {"containers": list(items), **more}}


def test_a_merge_patch_replaces_and_removes():
    item = {"a": 1, "b": {"c": 2, "d": [1]}}
    assert patch.merge_patch(item, {"a": None, "b": {"d": [2], "e": 3}}) == {"b": {"c": 2, "d": [2], "e": 3}}
    assert item == {"a": 1, "b": {"c": 2, "d": [1]}}


@pytest.mark.parametrize(
    ("operation", "result"),
    [
        ({"op": "add", "path": "/b/-", "value": 3}, {"a": 1, "b": [1, 2, 3]}),
        ({"op": "add", "path": "/b/0", "value": 0}, {"a": 1, "b": [0, 1, 2]}),
        ({"op": "add", "path": "/x~1y", "value": 0}, {"a": 1, "b": [1, 2], "x/y": 0}),
        ({"op": "replace", "path": "/a", "value": 9}, {"a": 9, "b": [1, 2]}),
        ({"op": "replace", "path": "/b/0", "value": 9}, {"a": 1, "b": [9, 2]}),
        ({"op": "remove", "path": "/b/1"}, {"a": 1, "b": [1]}),
        ({"op": "move", "from": "/a", "path": "/c"}, {"b": [1, 2], "c": 1}),
        ({"op": "copy", "from": "/b", "path": "/c"}, {"a": 1, "b": [1, 2], "c": [1, 2]}),
        ({"op": "test", "path": "/a", "value": 1}, {"a": 1, "b": [1, 2]}),
    ],
)
def test_json_patch_operations(operation: dict[str, Any], result: dict[str, Any]):
    assert patch.json_patch({"a": 1, "b": [1, 2]}, [operation]) == result


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "remove", "path": "/nothing"},
        {"op": "replace", "path": "/nothing", "value": 1},
        {"op": "test", "path": "/a", "value": 2},
        {"op": "add", "path": "a", "value": 2},
        {"op": "add", "path": "/b/9", "value": 2},
        {"op": "burn", "path": "/a"},
        {},
    ],
)
def test_a_json_patch_that_does_not_apply_is_refused(operation: dict[str, Any]):
    with pytest.raises(ApiError) as error:
        patch.json_patch({"a": 1, "b": []}, [operation])
    assert error.value.code == 422


def test_a_json_patch_is_a_list():
    with pytest.raises(ApiError):
        patch.json_patch({}, {"op": "add"})


def test_a_strategic_merge_finds_containers_by_name():
    item = containers({"name": "a", "image": "1"}, {"name": "b", "image": "1"})
    merged = patch.strategic_merge(item, containers({"name": "b", "image": "2"}, {"name": "c", "image": "1"}), POD)
    assert merged == containers({"name": "a", "image": "1"}, {"name": "b", "image": "2"}, {"name": "c", "image": "1"})


def test_a_strategic_merge_deletes_by_directive_and_keeps_the_order_asked_for():
    item = containers({"name": "a"}, {"name": "b"}, {"name": "server"})
    order = {"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}]}
    change = {"spec": {"containers": [{"name": "b", "$patch": "delete"}, {"name": "c"}], **order}}
    assert patch.strategic_merge(item, change, POD) == containers({"name": "c"}, {"name": "a"}, {"name": "server"})


def test_a_strategic_merge_of_primitives_and_maps():
    item = {"metadata": {"finalizers": ["a", "b"], "labels": {"x": "1", "y": "2"}}}
    change = {
        "metadata": {
            "$deleteFromPrimitiveList/finalizers": ["a"],
            "$setElementOrder/finalizers": ["c", "b"],
            "finalizers": ["c"],
            "labels": {"x": None, "z": "3"},
        }
    }
    merged = patch.strategic_merge(item, change, POD)
    assert merged == {"metadata": {"finalizers": ["c", "b"], "labels": {"y": "2", "z": "3"}}}


def test_a_strategic_merge_replaces_when_told_to():
    item = containers({"name": "a"}, {"name": "b"})
    assert patch.strategic_merge(item, containers({"$patch": "replace"}, {"name": "c"}), POD) == containers(
        {"name": "c"}
    )
    item = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}
    change = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    assert patch.strategic_merge(item, change, DEPLOYMENT) == {"spec": {"strategy": {"type": "Recreate"}}}


def test_a_strategic_merge_needs_the_merge_key():
    with pytest.raises(ApiError, match="merge key: name"):
        patch.strategic_merge(containers({"name": "a"}), containers({"image": "2"}), POD)


def test_apply_merges_lists_by_all_their_keys_and_knows_defaults():
    item = containers({"name": "a", "ports": [{"containerPort": 80, "protocol": "TCP"}]})
    applied = containers({"name": "a", "ports": [{"containerPort": 80, "name": "http"}, {"containerPort": 81}]})
    ports = [{"containerPort": 80, "protocol": "TCP", "name": "http"}, {"containerPort": 81}]
    assert patch.apply(item, applied, POD) == containers({"name": "a", "ports": ports})


def test_apply_replaces_atomic_lists_and_unites_sets():
    item = {"spec": {"containers": [{"name": "a", "args": ["1"]}]}, "metadata": {"finalizers": ["x"]}}
    applied = {"spec": {"containers": [{"name": "a", "args": ["2"]}]}, "metadata": {"finalizers": ["x", "y"]}}
    assert patch.apply(item, applied, POD) == applied
