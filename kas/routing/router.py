"""Routes a request to a link of its agent. With one kas every link is here; later another kas may hold it."""

from __future__ import annotations

from kas.errors import AgentNotConnected, TooManyRequests
from kas.links.registry import Links
from kas.presence.memory import MemoryPresence
from kastunnel.link.frames import Open
from kastunnel.link.handler import Exchange, Handler


class Router:
    """Implements the kubectl door's Upstream.

    An agent that was just cut dials back within a second or two: requests are held until ``hold_s`` after its last link was
    lost, counted for the agent and not for each request, since kubectl tries five times on its own.
    """

    def __init__(self, links: Links, presence: MemoryPresence, *, hold_s: float) -> None:
        self._links = links
        self._presence = presence
        self._hold_s = hold_s

    def open(self, agent_id: int, request: Open, handler: Handler) -> Exchange | None:
        """Put the request on the least busy link; None if there is none right now."""
        held = self._links.pick(agent_id)
        return None if held is None else held.open(request, handler)

    async def wait(self, agent_id: int) -> None:
        """Wait until there is a link. Raises AgentNotConnected: at once if the agent never had one, else when its time is over."""
        while (held := self._links.pick(agent_id)) is None:
            lost_for = self._presence.lost_for(agent_id)
            if lost_for is None:
                raise AgentNotConnected("the agent is not connected to kas: is agentk running in the cluster?")
            if lost_for >= self._hold_s:
                raise AgentNotConnected("the agent lost its connection to kas and has not come back")
            if lost_for == 0.0 and self._links.draining:
                raise AgentNotConnected("this kas is going down and the agent has not linked to another one yet")
            await self._links.news(self._hold_s - lost_for)
        if held.is_full:
            raise TooManyRequests("the agent has as many requests open as it takes at once")
