"""The API over HTTP: documents, objects, watches, identity."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from kas.demo.practice_cluster import Attributes, PracticeCluster, User
from kas.demo.practice_cluster.kinds import kind_of
from kas.demo.practice_cluster.objects import MAX_CHANGES

from .conftest import LIMIT_S, Client

MAPS = "/api/v1/namespaces/default/configmaps"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


@asynccontextmanager
async def watching(client: Client, path: str, **headers: str) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    """The events of a watch."""
    headers = {"Authorization": f"Bearer {client.cluster.token}", **headers}

    async def events() -> AsyncIterator[dict[str, Any]]:
        async for line in answer.content:
            yield json.loads(line)

    async with asyncio.timeout(LIMIT_S), client.session.get(client.cluster.url + path, headers=headers) as answer:
        assert answer.status == 200
        yield events()


async def test_without_the_token_there_is_only_health(client: Client):
    nobody = {"Authorization": ""}
    assert (await client.send("GET", "/readyz", headers=nobody)).status == 200
    refused = await client.send("GET", "/version", headers=nobody)
    assert (refused.status, refused.json()["reason"]) == (401, "Unauthorized")


async def test_documents(client: Client):
    assert (await client.get("/version"))["gitVersion"].endswith("practice-cluster")
    assert (await client.get("/apis"))["kind"] == "APIGroupList"
    accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
    answer = await client.send("GET", "/apis", headers={"Accept": accept})
    assert answer.headers["Content-Type"] == accept.partition(",")[0]
    protobuf = {"Accept": "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"}
    answer = await client.send("GET", "/openapi/v2", headers=protobuf)
    assert "protobuf" in answer.headers["Content-Type"]
    assert answer.body.startswith(b"\x0a\x032.0")
    assert (await client.get("/openapi/v2"))["swagger"] == "2.0"
    assert (await client.send("GET", "/nothing")).status == 404
    assert (await client.send("POST", "/version")).status == 405


async def test_openapi_documents_are_kept_by_their_hash(client: Client):
    path = (await client.get("/openapi/v3"))["paths"]["apis/apps/v1"]["serverRelativeURL"]
    answer = await client.send("GET", path)
    assert "io.k8s.api.apps.v1.Deployment" in answer.json()["components"]["schemas"]
    again = await client.send("GET", path, headers={"If-None-Match": answer.headers["ETag"]})
    assert again.status == 304


async def test_large_answers_are_compressed_for_who_accepts_it(client: Client):
    await client.create(MAPS, {"metadata": {"name": "big"}, "data": {"x": "y" * 200_000}})
    plain = await client.send("GET", f"{MAPS}/big", headers={"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in plain.headers
    packed = await client.send("GET", f"{MAPS}/big", headers={"Accept-Encoding": "gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert packed.body in (plain.body, gzip.compress(plain.body, 1, mtime=0))


async def test_objects_are_created_listed_and_deleted(client: Client):
    await client.create(MAPS, {"metadata": {"name": "a", "labels": {"x": "1"}}})
    await client.create(MAPS, {"metadata": {"name": "b"}})
    assert [item["metadata"]["name"] for item in (await client.get(MAPS))["items"]] == ["a", "b"]
    assert len((await client.get(f"{MAPS}?labelSelector=x"))["items"]) == 1
    assert len((await client.get("/api/v1/configmaps?fieldSelector=metadata.name%3Db"))["items"]) == 1
    table = await client.get(MAPS, headers={"Accept": TABLE})
    assert [row["cells"][0] for row in table["rows"]] == ["a", "b"]
    assert (await client.send("DELETE", f"{MAPS}/a")).status == 200
    assert (await client.send("GET", f"{MAPS}/a")).status == 404
    assert (await client.send("DELETE", MAPS)).status == 200
    assert (await client.get(MAPS))["items"] == []


async def test_a_body_that_is_too_large_is_refused(client: Client):
    answer = await client.send(
        "POST", MAPS, data=io.BytesIO(b" " * 4_000_000), headers={"Content-Type": "application/json"}
    )
    assert (answer.status, answer.json()["reason"]) == (413, "RequestEntityTooLarge")


async def test_unknown_fields_become_warnings(client: Client):
    answer = await client.send("POST", MAPS, json={"metadata": {"name": "a"}, "dta": {}})
    assert answer.headers["Warning"] == '299 - "unknown field \\"dta\\""'


async def test_a_watch_tells_what_begins_and_ceases_to_match(client: Client):
    await client.create(MAPS, {"metadata": {"name": "a", "labels": {"x": "1"}}})
    patch = {"Content-Type": "application/merge-patch+json"}
    async with watching(client, f"{MAPS}?watch=1&labelSelector=x%3D1") as events:
        assert (await anext(events))["type"] == "ADDED"
        for labels in ({"y": "2"}, {"x": None}, {"x": "1"}):
            await client.send("PATCH", f"{MAPS}/a", json={"metadata": {"labels": labels}}, headers=patch)
        await client.send("DELETE", f"{MAPS}/a")
        assert [(await anext(events))["type"] for _ in range(4)] == ["MODIFIED", "DELETED", "ADDED", "DELETED"]


async def test_a_watch_goes_on_from_a_version_and_ends_in_time(client: Client):
    version = (await client.get(MAPS))["metadata"]["resourceVersion"]
    await client.create(MAPS, {"metadata": {"name": "a"}})
    async with watching(client, f"{MAPS}?watch=true&resourceVersion={version}&timeoutSeconds=1") as events:
        assert [event["object"]["metadata"]["name"] async for event in events] == ["a"]


async def test_a_watch_of_a_forgotten_version_is_told_to_list_again(client: Client):
    store = client.cluster.store
    item = await client.create(MAPS, {"metadata": {"name": "a"}})
    for number in range(MAX_CHANGES):
        item = store.replace(kind_of("configmaps"), {**item, "data": {"number": str(number)}})
    async with watching(client, f"{MAPS}?watch=true&resourceVersion=1") as events:
        event = await anext(events)
    assert (event["type"], event["object"]["code"]) == ("ERROR", 410)


async def test_a_streaming_list_ends_with_a_bookmark(client: Client):
    await client.create(MAPS, {"metadata": {"name": "a"}})
    query = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    async with watching(client, f"{MAPS}?{query}") as events:
        assert (await anext(events))["type"] == "ADDED"
        bookmark = await anext(events)
    assert bookmark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


async def test_a_watch_of_tables_has_its_columns_once(client: Client):
    async with watching(client, f"{MAPS}?watch=true", Accept=TABLE) as events:
        for name in ("a", "b"):
            await client.create(MAPS, {"metadata": {"name": name}})
        first, second = await anext(events), await anext(events)
    assert first["object"]["columnDefinitions"]
    assert second["object"]["columnDefinitions"] is None


async def test_impersonation_is_recorded_and_reviewed(client: Client, cluster: PracticeCluster):
    headers = {"Impersonate-User": "bob", "Impersonate-Group": "g", "Impersonate-Extra-k": "v"}
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    answer = await client.send("POST", path, json=review, headers=headers)
    info = answer.json()["status"]["userInfo"]
    assert info == {"username": "bob", "groups": ["g", "system:authenticated"], "extra": {"k": ["v"]}}
    record = cluster.requests[-1]
    assert record.user == User("bob", ("g", "system:authenticated"), "", {"k": ("v",)})
    assert record.header("impersonate-user") == ["bob"]
    assert cluster.token not in repr(record)
    shown = await client.get("/practice-cluster/requests")
    assert shown[-1]["user"] == info
    assert cluster.token not in json.dumps(shown)


async def test_what_is_forbidden_is_refused_and_reviewed(client: Client, cluster: PracticeCluster):
    def no_secrets(user: User, wanted: Attributes) -> bool:
        return user.name == "bob" and wanted.resource == "secrets"

    cluster.access.forbidden.append(no_secrets)
    refused = await client.send("GET", "/api/v1/secrets", headers={"Impersonate-User": "bob"})
    assert (refused.status, refused.json()["reason"]) == (403, "Forbidden")
    assert (await client.send("GET", "/api/v1/secrets")).status == 200
    spec = {"resourceAttributes": {"verb": "get", "resource": "secrets"}}
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    for headers, allowed in (({"Impersonate-User": "bob"}, False), ({}, True)):
        answer = await client.send("POST", path, json={"spec": spec}, headers=headers)
        assert answer.json()["status"]["allowed"] is allowed


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_a_collection_is_not_changed(client: Client, method: str):
    assert (await client.send(method, MAPS, json={})).status == 405


async def test_two_clusters_do_not_meet(client: Client, tmp_path_factory: pytest.TempPathFactory):
    async with PracticeCluster(tmp_path_factory.mktemp("other")) as other:
        assert other.url != client.cluster.url
        assert other.token != client.cluster.token
        await client.create(MAPS, {"metadata": {"name": "a"}})
        assert other.store.version < client.cluster.store.version
