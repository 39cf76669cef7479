"""What the recorded schemas say about objects."""

from __future__ import annotations

from kas.demo.practice_cluster import schema

from .conftest import DEPLOYMENTS, PODS, deployment

POD = schema.named(PODS.schema)
DEPLOYMENT = schema.named(DEPLOYMENTS.schema)


def test_a_good_object_has_nothing_to_complain_about():
    probe = {"httpGet": {"port": "http"}, "periodSeconds": 2}
    container = {"name": "a", "resources": {"limits": {"cpu": 1, "memory": "1Gi"}}, "readinessProbe": probe}
    good = {"metadata": {"labels": {"any": "label"}}, "spec": {"containers": [container]}}
    assert list(schema.unknown_fields(good, POD)) == []
    assert list(schema.wrong_types(good, POD)) == []
    assert list(schema.unknown_fields(deployment(), DEPLOYMENT)) == []


def test_unknown_fields_are_named_by_their_path_and_can_be_dropped():
    bad = {"spec": {"containers": [{"name": "a", "imag": "x"}], "contaners": None}, "extra": 1}
    assert set(schema.unknown_fields(bad, POD)) == {"spec.containers[0].imag", "spec.contaners", "extra"}
    assert schema.without_unknown_fields(bad, POD) == {"spec": {"containers": [{"name": "a"}]}}


def test_wrong_types_are_named():
    bad = {"spec": {"replicas": "2", "paused": 1, "template": {"metadata": {"labels": {"a": 1}}}}}
    assert list(schema.wrong_types(bad, DEPLOYMENT)) == [
        "cannot unmarshal string into field spec.replicas of type integer",
        "cannot unmarshal number into field spec.paused of type boolean",
        "cannot unmarshal number into field spec.template.metadata.labels.a of type string",
    ]
    assert list(schema.wrong_types({"spec": {"replicas": True}}, DEPLOYMENT))
