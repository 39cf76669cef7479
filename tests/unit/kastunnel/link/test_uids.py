"""What has run here is remembered for a while, in little memory."""

from __future__ import annotations

from kastunnel.link.frames import Uid
from kastunnel.link.uids import UidMemory


def test_a_live_one_and_an_ended_one_are_known():
    memory = UidMemory(keep_s=60)
    assert memory.begin(Uid(1, 7))
    assert not memory.begin(Uid(1, 7))
    memory.end(Uid(1, 7), now=10)
    assert memory.has_ended(Uid(1, 7))
    assert not memory.begin(Uid(1, 7))
    assert memory.begin(Uid(1, 8))
    assert memory.begin(Uid(2, 7))


def test_it_is_kept_for_its_time_and_not_for_ever():
    memory = UidMemory(keep_s=60)
    memory.end(Uid(1, 7), now=10)
    memory.end(Uid(9, 1), now=69)
    assert memory.has_ended(Uid(1, 7))
    memory.end(Uid(9, 2), now=71)
    assert not memory.has_ended(Uid(1, 7))
    assert memory.has_ended(Uid(9, 1))


def test_a_block_that_is_still_in_use_keeps_its_newest():
    memory = UidMemory(keep_s=60)
    memory.end(Uid(1, 1), now=0)
    memory.end(Uid(1, 2), now=50)
    memory.end(Uid(9, 1), now=61)
    assert memory.has_ended(Uid(1, 2))
    memory.end(Uid(9, 2), now=171)  # at most twice its time
    assert not memory.has_ended(Uid(1, 2))


def test_a_hundred_thousand_requests_are_a_few_blocks():
    memory = UidMemory()
    for counter in range(100_000):
        memory.end(Uid(1, counter), now=counter / 5000)
    assert repr(memory) == "<UidMemory live=0 blocks=25>"
