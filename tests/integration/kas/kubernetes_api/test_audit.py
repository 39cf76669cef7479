"""What the door tells the audit log, and what it does while that cannot be written."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kas.audit.record import RequestRecord
from kastunnel.link.frames import Code, Hop, Reset
from tests.fakes.kubernetes_door import get
from tests.integration.kas.kubernetes_api.conftest import Stage

PODS = b"/agents/1/api/v1/pods"


class Audit:
    def __init__(self) -> None:
        self.refuses = False
        self.records: list[Any] = []
        self.bytes_to_cluster: list[int] = []

    def add(self, record: RequestRecord) -> None:
        self.records.append(record.outcome)
        self.bytes_to_cluster.append(record.bytes_to_cluster)

    def event(self, name: str, **_: object) -> None:
        self.records.append(name)


async def test_while_nothing_can_be_recorded_nothing_is_done_and_nothing_is_added(plain: Stage) -> None:
    audit = plain.door.audit = Audit()
    plain.upstream.script = None
    async with plain.client() as client, plain.client() as other, plain.client() as third:
        client.say(get(PODS))
        open_one = await plain.upstream.request(1)
        audit.refuses = True
        other.say(get(PODS))
        answer = await other.response()
        assert answer.status == 503
        assert "no request may go unrecorded" in answer[b"warning"].decode()
        third.say(b"rubbish\r\n\r\n")
        assert (await third.response()).status == 400
        assert audit.records == []
        open_one.answer(200, b"{}\n")
        assert (await client.response()).status == 200
    assert audit.records == ["answered"]  # what was begun before has its record
    assert len(plain.upstream.opened) == 1


@pytest.mark.parametrize("size", [10, 100_000])
@pytest.mark.parametrize("fails", [False, True])
async def test_what_left_for_the_cluster_is_counted_also_of_a_request_that_failed(
    plain: Stage, size: int, fails: bool
) -> None:
    audit = plain.door.audit = Audit()
    plain.upstream.script = None
    async with plain.client() as client:
        client.say(get(PODS, b"Content-Length: %d\r\n" % size, method=b"POST") + b"x" * size)
        asked = await plain.upstream.request(1)
        async with asyncio.timeout(5):
            while not asked.is_ended:
                await asyncio.sleep(0.01)
        if fails:
            asked.handler.on_reset(Reset(Code.UPSTREAM_BROKEN, "gone", Hop.API_SERVER))
        else:
            asked.answer(201, b"{}")
        assert (await client.response()).status == (504 if fails else 201)
    assert audit.bytes_to_cluster == [size]
