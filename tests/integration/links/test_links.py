"""A link's life: cut and resumed, restarted, revoked, drained, refused."""

from __future__ import annotations

import asyncio
import random

import pytest

from kas.errors import AgentNotConnected
from kastunnel.doctor import tunnel
from kastunnel.doctor.clocks import skew
from kastunnel.doctor.road import utc_now
from kastunnel.link import greeting
from kastunnel.link.frames import Code
from kastunnel.link.link import Link, Side
from kastunnel.link.uids import UidMemory
from kastunnel.transport.memory import MemoryDuplex, joined
from tests.integration.links.conftest import AGENT, Asked, Kas

pytestmark = pytest.mark.slow


@pytest.mark.covers("T-05", "T-13")
async def test_a_transfer_both_ways_survives_cuts_without_losing_or_repeating_a_byte(kas: Kas) -> None:
    content = random.Random(5).randbytes(6_000_000)
    async with kas.agent() as (agent, _):
        await kas.linked()
        asked = kas.ask(end=False)
        answering = await agent.request()
        answering.exchange.send_head(200, [])

        async def down() -> None:
            for start in range(0, len(content), 50_000):
                await answering.say(content[start : start + 50_000])
                await asyncio.sleep(0.002)
            answering.exchange.end()

        async def cuts() -> None:
            for cut in range(1, 6):
                await asyncio.sleep(0.03)
                kas.relay.cut()
                asked.exchange.send(b"up")
                async with asyncio.timeout(5):
                    while kas.metrics.links.resumed.value < cut:
                        await asyncio.sleep(0.01)

        await asyncio.gather(down(), cuts())
        asked.exchange.end()
        await asked.until(lambda asked: asked.over)
        assert asked.reset is None
        assert bytes(asked.body) == content
        assert len(asked.heads) == 1
        assert bytes(answering.body) == b"up" * 5
        assert len(agent.opened_requests) == 1
        assert kas.metrics.links.opened.value == 1


@pytest.mark.covers("X-02")
async def test_a_request_that_comes_while_the_agent_is_cut_waits_for_it(kas: Kas) -> None:
    async with kas.agent() as (agent, _):
        await kas.linked()
        kas.relay.refuses = True
        kas.relay.cut()
        async with asyncio.timeout(5):
            while kas.links.pick(AGENT) is not None:
                await asyncio.sleep(0.01)
        asyncio.get_running_loop().call_later(0.4, setattr, kas.relay, "refuses", False)
        async with asyncio.timeout(5):
            await kas.router.wait(AGENT)
        asked = kas.ask()
        (await agent.request()).exchange.send_head(200, [], b"hi", end=True)
        await asked.until(lambda asked: asked.over)
        assert bytes(asked.body) == b"hi"


async def test_an_agent_that_never_came_is_not_waited_for(kas: Kas) -> None:
    with pytest.raises(AgentNotConnected, match="is agentk running"):
        await kas.router.wait(AGENT)


@pytest.mark.covers("T-01")
async def test_when_the_agent_does_not_come_back_its_requests_end_as_failed(kas: Kas) -> None:
    async with kas.agent() as (agent, _):
        await kas.linked()
        asked = kas.ask()
        await agent.request()
        kas.relay.refuses = True
        kas.relay.cut()
        await asked.until(lambda asked: asked.over)
        assert asked.reset is not None
        assert (asked.reset.code, asked.reset.not_run) == (Code.UPSTREAM_BROKEN, False)
        assert len(kas.links) == 0
        with pytest.raises(AgentNotConnected, match="has not come back"):
            await kas.router.wait(AGENT)


@pytest.mark.covers("T-01")
async def test_a_restarted_agent_ends_the_requests_of_its_predecessor_at_once(kas: Kas) -> None:
    async with kas.agent() as (first, _):
        await kas.linked()
        asked = kas.ask()
        await first.request()
        await asyncio.sleep(0.01)  # so that the successor's start is later, in milliseconds
        async with kas.agent():
            await asked.until(lambda asked: asked.over)
            assert asked.reset is not None
            assert asked.reset.code is Code.SUPERSEDED


@pytest.mark.covers("T-09")
@pytest.mark.parametrize(
    ("first", "second", "is_told"), [("a", "b", True), ("a", "a", False), ("a", "", False), ("", "b", False)]
)
async def test_one_agent_in_two_clusters_is_told_and_in_one_is_not(
    kas: Kas, caplog: pytest.LogCaptureFixture, first: str, second: str, is_told: bool
) -> None:
    async with kas.agent(instance="pod-0", cluster=first):
        await kas.linked()
        async with kas.agent(b"second", instance="pod-1", cluster=second):
            await kas.linked(2)
    told = [record for record in caplog.records if "several clusters" in record.message]
    assert len(told) == is_told
    assert all(getattr(record, "fields", {}).get("names") == "a" for record in told)


@pytest.mark.covers("T-08")
async def test_requests_go_to_the_least_busy_replica_and_only_its_own_die_with_it(kas: Kas) -> None:
    async with kas.agent(instance="pod-0") as (one, _):
        async with kas.agent(instance="pod-1") as (two, _):
            await kas.linked(2)
            asked: list[Asked] = []
            for _ in range(4):
                asked.append(kas.ask())
                await asyncio.sleep(0.05)
            assert (len(one.opened_requests), len(two.opened_requests)) == (2, 2)
        async with asyncio.timeout(5):
            while sum(each.over for each in asked) < 2:
                await asyncio.sleep(0.01)
        for answering in one.opened_requests:
            answering.exchange.send_head(200, [], end=True)
        for each in asked:
            await each.until(lambda each: each.over)
        assert sorted(each.reset is None for each in asked) == [False, False, True, True]


@pytest.mark.covers("T-21")
async def test_a_revoked_token_ends_its_link_and_opens_none(kas: Kas) -> None:
    async with kas.agent() as (agent, uplink):
        await kas.linked()
        asked = kas.ask()
        answering = await agent.request()
        del kas.tokens.active[b"good"]
        kas.links.revoke_token(1)
        await asked.until(lambda asked: asked.over)
        assert asked.reset is not None
        assert asked.reset.code is Code.REVOKED
        assert len(kas.links) == 0
        async with asyncio.timeout(5):
            while answering.reset is None or uplink.connected:
                await asyncio.sleep(0.01)


async def test_a_rotated_token_is_what_revoking_goes_by(kas: Kas) -> None:
    async with kas.agent(b"second"):
        await kas.linked()
        kas.links.revoke_token(1)
        assert len(kas.links) == 1
        kas.links.revoke_token(2)
        assert len(kas.links) == 0


@pytest.mark.covers("T9")
async def test_an_unknown_token_gets_no_link(kas: Kas) -> None:
    async with kas.agent(b"wrong") as (_, uplink):
        async with asyncio.timeout(5):
            while not kas.relay.accepted:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        assert not uplink.connected
        assert len(kas.links) == 0
        assert kas.metrics.links.refused.value == 1
        assert kas.tokens.used == []


async def test_a_token_that_opened_a_link_is_noted_as_used(kas: Kas) -> None:
    async with kas.agent():
        await kas.linked()
        assert kas.tokens.used == [1]


@pytest.mark.covers("T-03")
async def test_a_draining_kas_takes_no_new_link_and_lets_what_is_open_end(kas: Kas) -> None:
    async with kas.agent() as (agent, _):
        await kas.linked()
        asked = kas.ask()
        answering = await agent.request()
        kas.links.drain(10)
        assert kas.links.pick(AGENT) is None
        answering.exchange.send_head(200, [], b"done", end=True)
        await asked.until(lambda asked: asked.over)
        assert bytes(asked.body) == b"done"
        with pytest.raises(AgentNotConnected, match="going down"):
            await kas.router.wait(AGENT)


async def test_an_agent_that_stops_says_bye_and_its_requests_end_at_once(kas: Kas) -> None:
    async with kas.agent() as (agent, _):
        await kas.linked()
        asked = kas.ask()
        await agent.request()
    await asked.until(lambda asked: asked.over)
    assert asked.reset is not None
    async with asyncio.timeout(5):
        while len(kas.links):
            await asyncio.sleep(0.01)


async def test_nothing_is_left_of_many_requests(kas: Kas) -> None:
    async with kas.agent() as (agent, _):
        await kas.linked()
        agent.answers_at_once = True
        for _ in range(20):
            batch = [kas.ask() for _ in range(100)]
            for asked in batch:
                await asked.until(lambda asked: asked.over)
        (held,) = kas.links.of(AGENT)
        async with asyncio.timeout(5):
            while held.link.requests:
                await asyncio.sleep(0.02)
        assert held.link.statistics()[:4] == (0, 0, 0, 0)


async def test_a_link_that_the_agent_gave_up_ends_at_its_next_hello_and_not_after_the_detach(kas: Kas) -> None:
    async with kas.agent() as (agent, uplink):
        await kas.linked()
        asked = kas.ask()
        await agent.request()
        (session,) = uplink._sessions
        session._give_up_link("kas broke the protocol")
        kas.relay.cut()
        await asked.until(lambda asked: asked.over)
        assert asked.reset is not None
        assert asked.reset.code is Code.CANCELLED
        await kas.linked()
        assert len(kas.links) == 1


async def test_a_kas_that_goes_down_says_bye(kas: Kas, caplog: pytest.LogCaptureFixture) -> None:
    async with kas.agent():
        await kas.linked()
        with caplog.at_level("INFO", "agentk.uplink"):
            await kas.links.close()
            await asyncio.sleep(0.05)
    assert "kas ended the link" in caplog.messages


async def test_a_doctor_that_shows_the_same_token_under_the_same_name_changes_nothing(kas: Kas) -> None:
    async with kas.agent() as (agent, uplink):
        await kas.linked()
        asked = kas.ask()
        answering = await agent.request()
        address = f"127.0.0.1:{kas.relay.port}"
        for token, code in (("good", Code.UNSUPPORTED), ("bad", Code.UNAUTHENTICATED), ("", Code.UNAUTHENTICATED)):
            told = await tunnel.ask(address, tls=False, ca=None, token=token, instance="pod-0")
            assert told.refused is not None
            assert told.refused.code is code
            assert skew("kas", told.date, utc_now()).state == "ok"
        answering.exchange.send_head(200, [], b"still here", end=True)
        await asked.until(lambda asked: asked.over)
        assert bytes(asked.body) == b"still here"
        assert uplink.connected
        assert len(kas.links.of(AGENT)) == 1
        assert kas.metrics.links.opened.value == 1


async def test_a_links_begin_and_end_are_told_once_and_why(kas: Kas) -> None:
    told: list[tuple[int, bool, str]] = []
    kas.links.on_change = lambda held: told.append((held.token_id, held.over, held.end_reason))
    async with kas.agent() as (_, uplink):
        async with asyncio.timeout(5):
            while (
                not uplink.connected
            ):  # kas is ready before its welcome arrives; who never had that begins another link
                await asyncio.sleep(0.001)
        for _ in range(3):  # a resumed link is the same one
            kas.relay.cut()
            async with asyncio.timeout(5):
                while kas.links.pick(AGENT) is not None:
                    await asyncio.sleep(0.001)
            await kas.linked()
        assert told == [(1, False, "")]
        await asyncio.sleep(0.01)  # so that the successor's start is later, in milliseconds
        async with kas.agent(b"second"):
            async with asyncio.timeout(5):
                while len(told) < 3:
                    await asyncio.sleep(0.001)
            kas.links.revoke_token(2)
            assert told == [
                (1, False, ""),
                (1, True, "the agent was restarted"),
                (2, False, ""),
                (2, True, "the agent's token was revoked"),
            ]


class HalfLinked:
    """An agentk whose process stays the same, at the level of envelopes."""

    def __init__(self, kas: Kas, boot: int = 11) -> None:
        self.kas = kas
        self.boot = boot

    def dials(self, attach: int, *, resume: bytes = b"") -> tuple[MemoryDuplex, Link, asyncio.Task[None]]:
        """Its end of a new stream, its link, and what kas does with it."""
        ours, theirs = joined()
        hello = greeting.Hello("pod-0", self.boot, 1, attach, resume)
        link = Link(Side.AGENTK, uids=UidMemory())
        link.begin_stream(attach, greeting.hello_frame(hello), 0.0)
        first = link.next_envelope(0.0)
        assert first is not None
        accepting = self.kas.links.accept(AGENT, 1, "here", theirs, first, hello)
        return ours, link, asyncio.get_running_loop().create_task(accepting)


@pytest.mark.parametrize(
    ("knows", "boot", "attach", "ends"),
    [
        (False, 11, 2, True),
        (True, 11, 2, False),  # it has read the welcome and may resume
        (False, 11, 1, False),  # another session of the process, as in a drain
        (False, 12, 1, True),  # a restart, whatever was read
    ],
)
async def test_a_link_whose_welcome_was_never_read_ends_when_its_agent_begins_another(
    kas: Kas, knows: bool, boot: int, attach: int, ends: bool
) -> None:
    ours, link, accepting = HalfLinked(kas).dials(1)
    await kas.linked()
    asked = kas.ask()
    if knows:
        link.receive(await ours.read(), 0.0)
        acknowledgement = link.next_envelope(1.0)
        assert acknowledgement is not None
        await ours.write(acknowledgement)
        async with asyncio.timeout(5):
            while not next(iter(kas.links)).link.is_acknowledged:
                await asyncio.sleep(0.01)
    await ours.cut()
    await accepting
    assert not asked.over
    again, _, accepting = HalfLinked(kas, boot).dials(attach)
    await kas.linked()
    assert asked.over == ends
    assert len(kas.links) == 2 - ends
    await again.cut()
    await accepting
