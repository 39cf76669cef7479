"""Discovery in its three forms says the same."""

from __future__ import annotations

import pytest

from kas.demo.practice_cluster import discovery, documents

V2, V2BETA1 = (
    f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList" for version in ("v2", "v2beta1")
)


@pytest.mark.parametrize(
    ("accept", "version"),
    [
        (f"{V2},{V2BETA1},application/json", "v2"),
        (f"{V2BETA1},application/json", "v2beta1"),
        (f"{V2};profile=nopeer,application/json", "v2"),
    ],
)
def test_the_aggregated_form_is_the_first_that_the_client_names(accept: str, version: str):
    found = discovery.aggregated("/apis", accept)
    assert found is not None
    content_type, document = found
    assert f"v={version};" in content_type
    assert document["apiVersion"] == f"apidiscovery.k8s.io/{version}"
    assert "apps" in [item["metadata"]["name"] for item in document["items"]]


@pytest.mark.parametrize("accept", ["", "application/json", "*/*", "application/json;as=Table;v=v1;g=meta.k8s.io"])
def test_who_does_not_ask_for_it_gets_the_plain_form(accept: str):
    assert discovery.aggregated("/apis", accept) is None


def test_the_core_group_is_at_api_alone():
    core = discovery.aggregated("/api", V2)
    assert core is not None
    assert [version["version"] for item in core[1]["items"] for version in item["versions"]] == ["v1"]


def test_the_plain_lists_name_subresources_with_their_kinds():
    found = discovery.plain("/apis/apps/v1")
    assert found is not None
    entries = {entry["name"]: entry for entry in found["resources"]}
    assert entries["deployments"]["shortNames"] == ["deploy"]
    assert (entries["deployments/scale"]["group"], entries["deployments/scale"]["kind"]) == ("autoscaling", "Scale")
    core = discovery.plain("/api/v1")
    assert core is not None
    assert {"pods", "pods/exec", "pods/log", "pods/portforward"} <= {entry["name"] for entry in core["resources"]}


def test_groups_and_versions():
    apis, group, api = (discovery.plain(path) for path in ("/apis", "/apis/apps", "/api"))
    assert apis is not None
    assert group is not None
    assert api is not None
    assert "apps" in [each["name"] for each in apis["groups"]]
    assert group["preferredVersion"] == {"groupVersion": "apps/v1", "version": "v1"}
    assert api["versions"] == ["v1"]


@pytest.mark.parametrize("path", ["/apis/none", "/apis/apps/v9", "/api/v9", "/nothing"])
def test_what_is_not_served_has_no_document(path: str):
    assert discovery.plain(path) is None


def test_the_index_of_openapi_names_every_document():
    assert list(discovery.openapi_v3_index()["paths"]) == list(documents.OPENAPI_V3_PATHS)


def test_the_version_says_what_this_is():
    assert "practice-cluster" in discovery.VERSION["gitVersion"]
    assert "not Kubernetes" in discovery.VERSION["gitCommit"]
