"""Presence within one process: enough while one kas serves everything, and the fake for tests of more."""

from __future__ import annotations

from collections.abc import Callable


class MemoryPresence:
    """Counts the attached links of each agent, and remembers when the last one was lost. ``clock`` is monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._links: dict[int, int] = {}
        self._lost_at: dict[int, float] = {}

    def __len__(self) -> int:
        return len(self._links)

    def attached(self, agent_id: int) -> None:
        """A link of this agent can take requests."""
        self._links[agent_id] = self._links.get(agent_id, 0) + 1
        self._lost_at.pop(agent_id, None)

    def detached(self, agent_id: int) -> None:
        """A link of this agent can take no requests any more."""
        left = self._links.get(agent_id, 0) - 1
        if left > 0:
            self._links[agent_id] = left
        else:
            self._links.pop(agent_id, None)
            self._lost_at[agent_id] = self._clock()

    def expect(self, agent_id: int) -> None:
        """The agent was linked before this process began, and is about to come back: it counts as lost now."""
        if agent_id not in self._links:
            self._lost_at.setdefault(agent_id, self._clock())

    def lost_for(self, agent_id: int) -> float | None:
        """Seconds since the agent's last link was lost; 0 if it has one, None if it never had one and is not expected."""
        if agent_id in self._links:
            return 0.0
        lost_at = self._lost_at.get(agent_id)
        return None if lost_at is None else self._clock() - lost_at

    def forget(self, agent_id: int) -> None:
        """The agent was deleted or revoked: nobody should wait for it."""
        self._lost_at.pop(agent_id, None)
