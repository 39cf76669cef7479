"""The limits together: which one refuses, that refusing counts nothing, and that what was taken is given back."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import replace

import pytest

from kas.access.caller import Caller
from kas.access.grants import AgentRef, Grant
from kas.errors import IssuerUnavailable, JobIsOver, TooManyRequests, Unauthenticated
from kas.limits.limits import Limits, LimitSettings, NoTurn, Scope, StreamTicket
from kas.limits.sharing import Turns
from kas.metrics import LimitMetrics
from kastunnel.link.frames import AsAgent


def grant(project: str = "a/b", agent: int = 1, issuer: str = "kas") -> Grant:
    return Grant(Caller(issuer=issuer, project=project), AgentRef(agent, "x/y", "n"), AsAgent(), "", "r")


class World:
    def __init__(self, **settings) -> None:
        self.now = 1000.0
        self.metrics = LimitMetrics()
        self.limits = Limits(LimitSettings(**settings), self.metrics, lambda: self.now)

    def enter(self, of: Grant | None = None, token: bytes = b"t", *, is_stream: bool = False):
        return self.limits.enter(of or grant(), token, is_stream=is_stream)

    def refusal(self, of: Grant | None = None, token: bytes = b"t", *, is_stream: bool = False) -> TooManyRequests:
        with pytest.raises(TooManyRequests) as caught:
            self.enter(of, token, is_stream=is_stream)
        return caught.value


def test_without_limits_nothing_is_counted():
    world = World()
    assert world.enter() is None
    assert not world.limits._turns


@pytest.mark.parametrize(
    ("scope", "same", "other"),
    [
        ("token", (grant("c/d", 2), b"t"), (grant(), b"u")),
        ("project", (grant(agent=2), b"u"), (grant("c/d"), b"t")),
        ("project", (grant(agent=2), b"u"), (grant(issuer="forge"), b"t")),
        ("agent", (grant("c/d"), b"u"), (grant(agent=2), b"t")),
    ],
)
def test_each_scope_limits_requests_and_streams_of_its_own(scope, same, other):
    world = World(**{scope: Scope(1, 1, 1)})
    ticket = world.enter(is_stream=True)
    assert isinstance(ticket, StreamTicket)
    error = world.refusal(*same)
    assert str(error) == f"more than 1 requests per second of one {scope}"
    assert error.retry_after_s == 1
    assert world.metrics.refused[scope, "requests"].value == 1
    world.enter(*other, is_stream=True)

    world.now += 10
    assert str(world.refusal(*same, is_stream=True)) == f"1 streams of one {scope} are open already"
    assert world.metrics.refused[scope, "streams"].value == 1
    world.enter(*same)  # ordinary requests go on
    ticket.leave()
    world.now += 10
    world.enter(*same, is_stream=True)


def test_a_refusal_counts_nothing():
    world = World(token=Scope(100, 100), project=Scope(1, 1))
    world.enter()
    for _ in range(500):
        world.refusal()
    world.now += 1
    world.enter()


def test_a_busy_agent_makes_ordinary_requests_wait_and_streams_not():
    world = World(max_in_flight=1)
    first = world.enter()
    assert isinstance(first, Turns)
    assert isinstance(world.enter(), NoTurn)
    assert isinstance(world.enter(is_stream=True), StreamTicket)
    assert isinstance(world.enter(grant(agent=2)), Turns)
    first.leave()
    assert isinstance(world.enter(), Turns)


def ask(world: World, peer: str, error: BaseException | None = None, token: bytes = b"t") -> None:
    """Show one token: a wrong one, a right one, or what else may come of it."""
    with suppress(Unauthenticated, IssuerUnavailable, asyncio.CancelledError), world.limits.asking(peer, token):
        if error is not None:
            raise error


@pytest.mark.covers("A-12")
def test_a_flood_of_wrong_tokens_is_stopped_by_address():
    world = World(wrong_tokens_per_s=10, wrong_tokens_burst=5)
    for _ in range(5):
        ask(world, "10.0.0.1:1234", Unauthenticated())
    with pytest.raises(TooManyRequests, match="too many wrong tokens from this address"):
        ask(world, "10.0.0.1:5678")
    ask(world, "10.0.0.2:1234")
    world.now += 0.1
    ask(world, "10.0.0.1:1234")


@pytest.mark.covers("A-12")
def test_many_at_once_are_stopped_before_any_is_answered():
    world = World(wrong_tokens_per_s=10, wrong_tokens_burst=5)
    with ExitStack() as asked:
        for number in range(5):
            asked.enter_context(world.limits.asking("10.0.0.1:1", b"%d" % number))
        with pytest.raises(TooManyRequests):
            ask(world, "10.0.0.1:2")
    ask(world, "10.0.0.1:3")  # all of them were right


def test_a_job_that_begins_with_many_requests_counts_once():
    world = World(wrong_tokens_per_s=10, wrong_tokens_burst=2)
    with ExitStack() as asked:
        for number in range(50):
            asked.enter_context(world.limits.asking(f"10.0.0.1:{number}", b"one"))
        ask(world, "10.0.0.1:99", Unauthenticated(), token=b"other")
        with pytest.raises(TooManyRequests):
            ask(world, "10.0.0.1:99", token=b"third")
    ask(world, "10.0.0.1:99", token=b"third")


@pytest.mark.parametrize(
    ("error", "counts"),
    [
        (None, False),
        (Unauthenticated(), True),
        (JobIsOver(), False),
        (IssuerUnavailable(), False),
        (asyncio.CancelledError(), True),  # or who leaves early would never be counted
    ],
    ids=str,
)
def test_what_counts_as_a_wrong_token(error: BaseException | None, counts: bool):
    world = World(wrong_tokens_per_s=1, wrong_tokens_burst=1)
    ask(world, "10.0.0.1:1", error)
    with pytest.raises(TooManyRequests) if counts else nullcontext():
        ask(world, "10.0.0.1:1")


def test_one_machine_of_ipv6_is_one_address():
    world = World(wrong_tokens_per_s=1, wrong_tokens_burst=1)
    ask(world, "2001:db8::1:1234", Unauthenticated())
    with pytest.raises(TooManyRequests):
        ask(world, "2001:db8::2:1234")
    ask(world, "2001:db8:0:1::1:1234")


def test_other_limits_hold_from_then_on_and_give_turns_to_who_waits():
    world = World(max_in_flight=1)
    world.enter()
    entry = world.enter()
    assert isinstance(entry, NoTurn)
    world.limits.reconfigure(replace(world.limits.settings, max_in_flight=2))
    assert entry.turns.take()
