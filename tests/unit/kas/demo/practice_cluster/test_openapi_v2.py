"""OpenAPI v2, derived from v3, in both forms."""

from __future__ import annotations

import json

from kas.demo.practice_cluster import openapi_v2


def test_references_point_to_definitions_that_exist():
    document = openapi_v2.as_json()
    text = json.dumps(document)
    assert "#/components" not in text
    assert "allOf" not in text
    wanted = {part.split('"')[0] for part in text.split("#/definitions/")[1:]}
    assert wanted <= document["definitions"].keys()


def test_lists_keep_how_they_are_merged():
    containers = openapi_v2.as_json()["definitions"]["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"]
    assert containers["x-kubernetes-patch-merge-key"] == "name"
    assert containers["items"] == {"$ref": "#/definitions/io.k8s.api.core.v1.Container"}


def test_the_protobuf_form_holds_every_definition_and_path():
    document, message = openapi_v2.as_json(), openapi_v2.as_protobuf()
    assert message.startswith(b"\x0a\x032.0")
    assert all(name.encode() in message for name in document["definitions"])
    assert all(path.encode() in message for path in document["paths"])
    assert b"fieldValidation" in message
