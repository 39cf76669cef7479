"""Both real ends through the real codec, under any schedule of cuts, stalls, takeovers, resets and restarts."""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kastunnel.link import resume
from kastunnel.link.incoming import Incoming
from kastunnel.link.link import Link, Stream
from kastunnel.link.request import Request
from tests.protocol.world import World

EXAMPLES = int(os.environ.get("LINK_SCHEDULES", "300"))  # tens of thousands for a long run


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32), steps=st.integers(20, 1500), cuts=st.integers(0, 12), requests=st.integers(1, 12))
@pytest.mark.covers("T-16", "T-19")
def test_every_byte_arrives_once_and_in_order_and_nothing_runs_twice(seed, steps, cuts, requests):
    World(random.Random(seed), requests=requests, cuts=cuts).run(steps)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_without_the_feature_release_nothing_changes(seed):
    World(random.Random(seed), features=frozenset()).run(400)


# Each rule switched off alone must be found out by the schedules: else the schedules prove nothing about it.


def no_waiting_for_lists(monkeypatch):
    begin = Link.begin_stream

    def eager(self, *args):
        begin(self, *args)
        self.stream = Stream.READY

    monkeypatch.setattr(Link, "begin_stream", eager)
    monkeypatch.setattr(resume.Listing, "hear", _hear_any_time)


def _hear_any_time(self, link, message):
    self._positions.extend(message.list)
    if message.last:
        resume._apply(link, self._positions, message.highest_opened)
    return message.last


def no_fence_at_agentk(monkeypatch):
    def arrive_down(self, wire):
        self.dispatch(self.agent, self.agent.receive(wire.down.pop(0), self.now))

    monkeypatch.setattr(World, "arrive_down", arrive_down)


def no_reset_in_positions(monkeypatch):
    original = resume._position

    def position(request):
        made = original(request)
        made.ClearField("reset")
        return made

    monkeypatch.setattr(resume, "_position", position)
    monkeypatch.setattr(Link, "say_again", lambda self, request: None)


def resets_are_told_once(monkeypatch):
    def abandon(self, request):
        if request.number:
            self.say_control(request)
            self.requests.pop(request.number, None)

    monkeypatch.setattr(Link, "abandon", abandon)


def overlap_is_not_cut(monkeypatch):
    def accept(self, offset, data):
        self.received = max(self.received, offset + len(data))
        return data

    monkeypatch.setattr(Incoming, "accept", accept)


def dropped_requests_keep_their_credit(monkeypatch):
    monkeypatch.setattr(Request, "consumed", lambda self, count: self.incoming.consume(count))


RULES = [
    no_waiting_for_lists,
    no_fence_at_agentk,
    no_reset_in_positions,
    resets_are_told_once,
    overlap_is_not_cut,
    dropped_requests_keep_their_credit,
]


@pytest.mark.slow
@pytest.mark.parametrize("switch_off", RULES)
def test_schedules_find_out_when_a_rule_is_off(switch_off, monkeypatch):
    switch_off(monkeypatch)
    monkeypatch.setattr(World, "CALM_STEPS", 6_000)
    for seed in range(4_000):
        try:
            World(random.Random(seed)).run(600)
        except Exception:
            return
    pytest.fail("no schedule noticed")
