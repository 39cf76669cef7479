"""Label and field selectors."""

from __future__ import annotations

import pytest

from kas.demo.practice_cluster import selectors
from kas.demo.practice_cluster.status import ApiError

LABELS = {"app": "web", "tier": "front"}
ITEM = {"metadata": {"name": "a", "labels": LABELS}, "spec": {"paused": True}, "status": {"phase": "Running"}}


@pytest.mark.parametrize(
    ("text", "selected"),
    [
        ("", True),
        ("app=web", True),
        ("app==web,tier=front", True),
        ("app!=web", False),
        ("other!=x", True),
        ("app in (web, api)", True),
        ("app in (api),tier", False),
        ("app notin (api)", True),
        ("tier", True),
        ("!tier", False),
        ("!other,app=web", True),
        ("app=", False),
        ("kubernetes.io/name notin (x)", True),
    ],
)
def test_label_selectors(text: str, selected: bool):
    assert selectors.label_selector(text)(ITEM) is selected


@pytest.mark.parametrize("text", ["=", "app in web", "a=(", "app=web tier"])
def test_a_malformed_label_selector_is_refused(text: str):
    with pytest.raises(ApiError) as error:
        selectors.label_selector(text)
    assert error.value.code == 400


@pytest.mark.parametrize(
    ("text", "selected"),
    [
        ("", True),
        ("metadata.name=a", True),
        ("metadata.name!=a", False),
        ("status.phase=Running,metadata.name=a", True),
        ("spec.paused=true", True),
        ("spec.nothing=", True),
    ],
)
def test_field_selectors(text: str, selected: bool):
    assert selectors.field_selector(text)(ITEM) is selected


def test_a_malformed_field_selector_is_refused():
    with pytest.raises(ApiError):
        selectors.field_selector("metadata.name")


def test_selectors_of_workloads():
    expressions = [
        {"key": "tier", "operator": "In", "values": ["front"]},
        {"key": "app", "operator": "NotIn", "values": ["api"]},
        {"key": "app", "operator": "Exists"},
        {"key": "gone", "operator": "DoesNotExist"},
    ]
    selector = {"matchLabels": {"app": "web"}, "matchExpressions": expressions}
    assert selectors.matches(selector, LABELS)
    assert not selectors.matches(selector, {"app": "web"})
    assert not selectors.matches(None, LABELS)
    assert selectors.as_text(selector) == "app=web,tier in (front),app notin (api),app,!gone"
    assert selectors.as_text(None) == "<none>"
