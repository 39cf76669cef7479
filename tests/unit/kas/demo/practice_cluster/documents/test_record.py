"""Trimming what was recorded."""

from __future__ import annotations

from kas.demo.practice_cluster.documents import record


def test_prose_is_dropped_but_not_a_property_of_that_name():
    schema = {"description": "prose", "properties": {"description": {"type": "string", "description": "prose"}}}
    assert record.without_prose(schema) == {"properties": {"description": {"type": "string"}}}


def test_what_is_referred_to_is_kept_and_nothing_else():
    reference = {"$ref": "#/components/schemas/b"}
    schemas = {"a": {"properties": {"x": reference}}, "b": {"items": {"$ref": "#/components/schemas/a"}}, "c": {}}
    assert record.reachable(schemas, ["a"]).keys() == {"a", "b"}


def test_paths_of_kept_resources_are_kept():
    assert record.is_kept_path("/api/v1/namespaces/{namespace}/pods/{name}/exec", "", "v1")
    assert record.is_kept_path("/apis/apps/v1/deployments", "apps", "v1")
    assert not record.is_kept_path("/api/v1/namespaces/{namespace}/pods/{name}/binding", "", "v1")
    assert not record.is_kept_path("/api/v1/nodes", "", "v1")


def test_a_protobuf_message_is_parsed():
    body = """
  optional string name = 1;
  repeated Container items = 2;
  map<string, .k8s.io.apimachinery.pkg.api.resource.Quantity> limits = 3;
"""
    assert record.parsed_message(body, "k8s.io.api.core.v1") == {
        "1": ["name", "string", "one"],
        "2": ["items", "io.k8s.api.core.v1.Container", "many"],
        "3": ["limits", "io.k8s.apimachinery.pkg.api.resource.Quantity", "map"],
    }
