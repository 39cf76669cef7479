"""What the door tells the audit log, and what it does while that cannot be written."""

from __future__ import annotations

from typing import Any

from kas.audit.record import RequestRecord
from tests.fakes.kubernetes_door import get
from tests.integration.kas.kubernetes_api.conftest import Stage

PODS = b"/agents/1/api/v1/pods"


class Audit:
    def __init__(self) -> None:
        self.refuses = False
        self.records: list[Any] = []

    def add(self, record: RequestRecord) -> None:
        self.records.append(record.outcome)

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
