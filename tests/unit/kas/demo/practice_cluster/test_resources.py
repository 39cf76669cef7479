"""The verbs on objects."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kas.demo.practice_cluster.kinds import Kind, kind_of
from kas.demo.practice_cluster.objects import Store
from kas.demo.practice_cluster.resources import APPLY, Resources
from kas.demo.practice_cluster.status import ApiError

from .conftest import CONFIG_MAPS, DEPLOYMENTS, JSON, NAMESPACES, PODS, asked, deployment, named

MERGE = "application/merge-patch+json"


def create(resources: Resources, kind: Kind, item: Any, **query: str) -> dict[str, Any]:
    return resources.create(named(kind), asked("POST", **query), json.dumps(item).encode(), JSON).item


def test_a_created_object_has_defaults_and_no_status_of_the_clients(resources: Resources):
    item = create(resources, DEPLOYMENTS, {**deployment(), "status": {"replicas": 9}})
    assert item["status"] == {}
    assert item["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": "25%", "maxUnavailable": "25%"}
    assert item["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] == "Always"


def test_a_namespace_comes_with_its_service_account(resources: Resources, store: Store):
    create(resources, NAMESPACES, {"metadata": {"name": "new"}})
    assert store.find(kind_of("serviceaccounts"), "new", "default")


def test_services_get_addresses_that_they_keep(resources: Resources):
    services = kind_of("services")
    ports = [{"port": 80}]
    first = create(resources, services, {"metadata": {"name": "a"}, "spec": {"ports": ports}})
    second = create(resources, services, {"metadata": {"name": "b"}, "spec": {"ports": ports}})
    assert first["spec"]["clusterIP"] != second["spec"]["clusterIP"]
    target, body = named(services, "a"), json.dumps({"metadata": {"name": "a"}, "spec": {"ports": ports}}).encode()
    again = resources.update(target, asked("PUT"), body, JSON).item
    assert again["spec"] == first["spec"]


@pytest.mark.parametrize(
    ("kind", "item", "field"),
    [
        (CONFIG_MAPS, {"metadata": {"name": "Big"}}, "metadata.name"),
        (CONFIG_MAPS, {"metadata": {}}, "metadata.name"),
        (PODS, {"metadata": {"name": "a"}, "spec": {"containers": []}}, "spec.containers"),
        (PODS, {"metadata": {"name": "a"}, "spec": {"containers": [{"name": "x"}]}}, "spec.containers[0].image"),
        (DEPLOYMENTS, deployment(selector={"matchLabels": {"app": "other"}}), "spec.template.metadata.labels"),
        (DEPLOYMENTS, deployment(replicas=-1), "spec.replicas"),
        (kind_of("services"), {"metadata": {"name": "a"}, "spec": {}}, "spec.ports"),
    ],
)
def test_objects_that_break_the_rules_are_refused_with_the_field(
    resources: Resources, kind: Kind, item: Any, field: str
):
    with pytest.raises(ApiError) as error:
        create(resources, kind, item)
    assert error.value.code == 422
    assert error.value.details is not None
    assert field in [cause["field"] for cause in error.value.details["causes"]]


def test_a_namespace_that_is_not_there_or_going_takes_nothing(resources: Resources, store: Store):
    target = named(CONFIG_MAPS)
    elsewhere = type(target)(CONFIG_MAPS, "nowhere")
    with pytest.raises(ApiError, match='namespaces "nowhere" not found'):
        resources.create(elsewhere, asked("POST"), b'{"metadata":{"name":"a"}}', JSON)
    store.mark_deleted(NAMESPACES, store.get(NAMESPACES, "", "here"))
    with pytest.raises(ApiError, match="because it is being terminated"):
        create(resources, CONFIG_MAPS, {"metadata": {"name": "a"}})


def test_names_and_namespaces_must_fit_the_path(resources: Resources):
    with pytest.raises(ApiError, match="namespace"):
        create(resources, CONFIG_MAPS, {"metadata": {"name": "a", "namespace": "there"}})
    create(resources, CONFIG_MAPS, {"metadata": {"name": "a"}})
    with pytest.raises(ApiError, match="name on the URL"):
        resources.update(named(CONFIG_MAPS, "a"), asked("PUT"), b'{"metadata":{"name":"b"}}', JSON)


def test_a_dry_run_stores_nothing(resources: Resources, store: Store):
    create(resources, CONFIG_MAPS, {"metadata": {"name": "a"}}, dryRun="All")
    assert store.find(CONFIG_MAPS, "here", "a") is None
    create(resources, CONFIG_MAPS, {"metadata": {"name": "a"}})
    done = resources.patch(named(CONFIG_MAPS, "a"), asked("PATCH", dryRun="All"), b'{"data":{"x":"1"}}', MERGE)
    assert done.item["data"] == {"x": "1"}
    assert "data" not in store.get(CONFIG_MAPS, "here", "a")


def test_server_side_apply_creates_then_merges(resources: Resources):
    target, query = named(CONFIG_MAPS, "a"), asked("PATCH", fieldManager="kubectl")
    first = resources.patch(target, query, b'{"metadata":{"name":"a"},"data":{"x":"1"}}', APPLY)
    second = resources.patch(target, query, b'{"metadata":{"name":"a"},"data":{"y":"2"}}', APPLY)
    assert (first.status, second.status) == (201, 200)
    assert second.item["data"] == {"x": "1", "y": "2"}
    with pytest.raises(ApiError, match="fieldManager"):
        resources.patch(target, asked("PATCH"), b"{}", APPLY)


def test_other_patches_need_the_object(resources: Resources):
    with pytest.raises(ApiError, match="not found"):
        resources.patch(named(CONFIG_MAPS, "a"), asked("PATCH"), b"{}", MERGE)
    create(resources, CONFIG_MAPS, {"metadata": {"name": "a"}})
    with pytest.raises(ApiError) as error:
        resources.patch(named(CONFIG_MAPS, "a"), asked("PATCH"), b"{}", JSON)
    assert error.value.code == 415


def test_scale_and_status_change_only_what_they_name(resources: Resources):
    create(resources, DEPLOYMENTS, deployment())
    scaled = resources.patch(named(DEPLOYMENTS, "web", "scale"), asked("PATCH"), b'{"spec":{"replicas":7}}', MERGE)
    assert scaled.item["kind"] == "Scale"
    assert scaled.item["spec"] == {"replicas": 7}
    body = b'{"spec":{"replicas":1},"status":{"replicas":3}}'
    item = resources.patch(named(DEPLOYMENTS, "web", "status"), asked("PATCH"), body, MERGE).item
    assert (item["spec"]["replicas"], item["status"]) == (7, {"replicas": 3})
    item = resources.patch(named(DEPLOYMENTS, "web"), asked("PATCH"), b'{"status":{"replicas":0}}', MERGE).item
    assert item["status"] == {"replicas": 3}


@pytest.mark.parametrize("replicas", [b'"x"', b"-1", b"null"])
def test_a_scale_that_is_no_number_is_refused(resources: Resources, replicas: bytes):
    create(resources, DEPLOYMENTS, deployment())
    body = b'{"spec":{"replicas":' + replicas + b"}}"
    with pytest.raises(ApiError):
        resources.update(named(DEPLOYMENTS, "web", "scale"), asked("PUT"), body, JSON)


def test_what_cannot_change_does_not(resources: Resources):
    create(resources, DEPLOYMENTS, deployment())
    body = json.dumps({"spec": {"selector": {"matchLabels": {"app": "web", "more": "x"}}}}).encode()
    with pytest.raises(ApiError):
        resources.patch(named(DEPLOYMENTS, "web"), asked("PATCH"), body, MERGE)
    create(resources, CONFIG_MAPS, {"metadata": {"name": "a"}, "immutable": True, "data": {"x": "1"}})
    with pytest.raises(ApiError, match="immutable"):
        resources.patch(named(CONFIG_MAPS, "a"), asked("PATCH"), b'{"data":{"x":"2"}}', MERGE)


def test_secrets_take_text(resources: Resources):
    item = create(resources, kind_of("secrets"), {"metadata": {"name": "a"}, "stringData": {"p": "q"}})
    assert (item["data"], item["type"]) == ({"p": "cQ=="}, "Opaque")
    assert "stringData" not in item
