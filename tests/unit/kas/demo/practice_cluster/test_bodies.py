"""Bodies in their formats, checked against the schema."""

from __future__ import annotations

from typing import Any

import pytest

from kas.demo.practice_cluster import bodies
from kas.demo.practice_cluster.status import ApiError

from .conftest import CONFIG_MAPS


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b'{"data":{"a":"1"}}', "application/json"),
        (b'{"data":{"a":"1"}}', ""),
        (b'{"data":{"a":"1"}}', "application/strategic-merge-patch+json; charset=utf-8"),
        (b"data:\n  a: '1'\n", "application/yaml"),
        (b'{"data":{"a":"1"}}', "application/apply-patch+yaml"),
    ],
)
def test_the_formats_that_are_read(body: bytes, content_type: str):
    assert bodies.decoded(body, content_type, CONFIG_MAPS.schema) == {"data": {"a": "1"}}


@pytest.mark.parametrize(
    ("body", "content_type", "code"),
    [
        (b"{", "application/json", 400),
        (b"a: [", "application/yaml", 400),
        (b"{}", "application/vnd.kubernetes.protobuf", 400),
        (b"{}", "text/html", 415),
    ],
)
def test_what_cannot_be_read_is_refused(body: bytes, content_type: str, code: int):
    with pytest.raises(ApiError) as error:
        bodies.decoded(body, content_type, CONFIG_MAPS.schema)
    assert error.value.code == code


def test_unknown_fields_are_refused_warned_of_or_dropped():
    item = {"metadata": {"name": "a"}, "dta": {}}
    with pytest.raises(ApiError, match='strict decoding error: unknown field "dta"'):
        bodies.checked(CONFIG_MAPS, dict(item), "Strict")
    known, warnings = bodies.checked(CONFIG_MAPS, dict(item), "Warn")
    assert "dta" not in known
    assert warnings == ['unknown field "dta"']
    assert bodies.checked(CONFIG_MAPS, dict(item), "Ignore")[1] == []


def test_nulls_and_empty_labels_are_as_good_as_nothing():
    item = {"metadata": {"name": "a", "labels": {}, "annotations": None}, "data": None}
    known, _ = bodies.checked(CONFIG_MAPS, item, "Strict")
    assert known == {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}}


@pytest.mark.parametrize(
    "bad", [[], "text", {"metadata": []}, {"kind": "Pod"}, {"apiVersion": "v2"}, {"data": {"a": 1}}]
)
def test_objects_of_another_shape_are_refused(bad: Any):
    with pytest.raises(ApiError) as error:
        bodies.checked(CONFIG_MAPS, bad, "Warn")
    assert error.value.code == 400
