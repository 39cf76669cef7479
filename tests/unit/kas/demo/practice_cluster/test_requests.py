"""Paths and parameters taken apart."""

from __future__ import annotations

import pytest

from kas.demo.practice_cluster import requests
from kas.demo.practice_cluster.requests import Asked
from kas.demo.practice_cluster.status import ApiError


@pytest.mark.parametrize(
    ("path", "resource", "namespace", "name", "subresource"),
    [
        ("/api/v1/pods", "pods", "", "", ""),
        ("/api/v1/namespaces", "namespaces", "", "", ""),
        ("/api/v1/namespaces/here", "namespaces", "", "here", ""),
        ("/api/v1/namespaces/here/status", "namespaces", "", "here", "status"),
        ("/api/v1/namespaces/here/pods", "pods", "here", "", ""),
        ("/api/v1/namespaces/here/pods/a/exec", "pods", "here", "a", "exec"),
        ("/apis/apps/v1/deployments", "deployments", "", "", ""),
        ("/apis/apps/v1/namespaces/here/deployments/a/scale", "deployments", "here", "a", "scale"),
    ],
)
def test_resource_paths(path: str, resource: str, namespace: str, name: str, subresource: str):
    target = requests.target_of(path)
    assert target is not None
    assert (target.kind.resource, target.namespace) == (resource, namespace)
    assert (target.name, target.subresource) == (name, subresource)


@pytest.mark.parametrize("path", ["/", "/api", "/api/v1", "/apis/apps/v1", "/version", "/openapi/v3/api/v1"])
def test_other_paths_name_no_resource(path: str):
    assert requests.target_of(path) is None


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/nodes",
        "/api/v9/pods",
        "/apis/none/v1/things",
        "/api/v1/namespaces/here/pods/a/nothing",
        "/api/v1/namespaces/here/pods/a/exec/more",
    ],
)
def test_resources_that_are_not_served_are_not_found(path: str):
    with pytest.raises(ApiError) as error:
        requests.target_of(path)
    assert error.value.code == 404


@pytest.mark.parametrize(
    ("method", "path", "query", "verb"),
    [
        ("GET", "/api/v1/pods", (), "list"),
        ("GET", "/api/v1/pods", (("watch", "1"),), "watch"),
        ("GET", "/api/v1/pods", (("watch", "false"),), "list"),
        ("GET", "/api/v1/namespaces/here/pods/a", (), "get"),
        ("DELETE", "/api/v1/namespaces/here/pods", (), "deletecollection"),
        ("DELETE", "/api/v1/namespaces/here/pods/a", (), "delete"),
        ("POST", "/api/v1/namespaces/here/pods", (), "create"),
        ("PUT", "/api/v1/namespaces/here/pods/a", (), "update"),
        ("PATCH", "/api/v1/namespaces/here/pods/a", (), "patch"),
        ("GET", "/version", (), "get"),
    ],
)
def test_verbs(method: str, path: str, query: tuple[tuple[str, str], ...], verb: str):
    assert Asked(method, path, query, requests.target_of(path)).attributes().verb == verb


def test_repeated_parameters_keep_their_order_and_the_first_one_counts():
    asked = Asked("GET", "/", (("command", "a"), ("command", "b"), ("stdin", "True")), None)
    assert asked.all("command") == ["a", "b"]
    assert asked.query["command"] == "a"
    assert asked.flag("stdin")
    assert not asked.flag("tty")
