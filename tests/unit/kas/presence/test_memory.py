"""How long an agent has been away."""

from __future__ import annotations

from kas.presence.memory import MemoryPresence


def test_never_here_away_and_back():
    now = [100.0]
    presence = MemoryPresence(lambda: now[0])
    assert presence.lost_for(1) is None
    presence.attached(1)
    presence.attached(1)
    presence.detached(1)
    assert presence.lost_for(1) == 0
    presence.detached(1)
    now[0] += 3
    assert presence.lost_for(1) == 3
    presence.attached(1)
    assert presence.lost_for(1) == 0
    assert len(presence) == 1


def test_a_revoked_agent_is_not_waited_for():
    presence = MemoryPresence(lambda: 0.0)
    presence.attached(1)
    presence.detached(1)
    presence.forget(1)
    assert presence.lost_for(1) is None


def test_an_agent_that_is_expected_counts_as_lost_since_then_unless_it_is_there() -> None:
    now = [100.0]
    presence = MemoryPresence(lambda: now[0])
    presence.attached(1)
    for agent in (1, 2):
        presence.expect(agent)
    now[0] += 3
    presence.expect(2)
    assert [presence.lost_for(agent) for agent in (1, 2, 3)] == [0.0, 3.0, None]
    presence.attached(2)
    assert presence.lost_for(2) == 0.0
    presence.expect(3)
    presence.forget(3)
    assert presence.lost_for(3) is None
