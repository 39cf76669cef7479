"""Server-side tables."""

from __future__ import annotations

import pytest

from kas.demo.practice_cluster import tables
from kas.demo.practice_cluster.kinds import kinds
from kas.demo.practice_cluster.objects import Store

from .conftest import CONFIG_MAPS, DEPLOYMENTS, PODS, Clock, deployment


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (121, "2m1s"),
        (599, "9m59s"),
        (600, "10m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 60, "3h1m"),
        (9 * 3600 + 60, "9h"),
        (49 * 3600, "2d1h"),
        (20 * 86400, "20d"),
        (-1, "0s"),
        (-100, "<invalid>"),
    ],
)
def test_durations_are_shortened_as_kubectl_does(seconds: int, text: str):
    assert tables.duration(seconds) == text


@pytest.mark.parametrize(
    ("accept", "version"),
    [
        ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", "v1"),
        ("application/json;as=Table;v=v1beta1;g=meta.k8s.io", "v1beta1"),
        ("application/json", None),
        ("application/json,application/json;as=Table;v=v1;g=meta.k8s.io", None),
        ("", None),
    ],
)
def test_a_table_is_sent_to_who_asks_for_it_first(accept: str, version: str | None):
    assert tables.wanted_version(accept) == version


def test_a_table_has_cells_columns_and_metadata(store: Store, clock: Clock):
    item = store.create(CONFIG_MAPS, {"metadata": {"name": "a", "namespace": "here"}, "data": {"x": "1"}})
    clock.move(minutes=5)
    table = tables.table(CONFIG_MAPS, [item], version="v1", now=clock.now, query={}, head=True)
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Data", "Age"]
    assert table["rows"][0]["cells"] == ["a", 1, "5m"]
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"


def test_the_object_of_a_row_is_what_was_asked_for(store: Store, clock: Clock):
    item = store.create(CONFIG_MAPS, {"metadata": {"name": "a", "namespace": "here"}})

    def row_object(include: str) -> object:
        query = {"includeObject": include}
        table = tables.table(CONFIG_MAPS, [item], version="v1", now=clock.now, query=query, head=False)
        return table["rows"][0]["object"]

    assert row_object("Object") == item
    assert row_object("None") is None


def test_a_pod_shows_why_it_is_not_running(clock: Clock):
    states = [{"ready": False, "restartCount": 2, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]
    states[0]["lastState"] = {"terminated": {"finishedAt": "2029-12-31T23:59:50Z"}}
    pod = {"metadata": {"name": "a"}, "spec": {"containers": [{}]}, "status": {"containerStatuses": states}}
    cells = tables.table(PODS, [pod], version="v1", now=clock.now, query={}, head=False)["rows"][0]["cells"]
    assert cells[:4] == ["a", "0/1", "CrashLoopBackOff", "2 (10s ago)"]
    pod["metadata"]["deletionTimestamp"] = "2030-01-01T00:00:00Z"  # type: ignore[index]
    cells = tables.table(PODS, [pod], version="v1", now=clock.now, query={}, head=False)["rows"][0]["cells"]
    assert cells[2] == "Terminating"


def test_every_kind_that_is_listed_makes_a_table(clock: Clock):
    for kind in kinds().values():
        if "list" in kind.verbs:
            tables.table(kind, [], version="v1", now=clock.now, query={}, head=True)
    row = tables.table(DEPLOYMENTS, [deployment()], version="v1", now=clock.now, query={}, head=False)["rows"][0]
    assert row["cells"] == ["web", "0/2", 0, 0, "<unknown>", "web", "any", "app=web"]
