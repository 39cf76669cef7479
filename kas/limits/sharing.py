"""Turns at one agent: so many ordinary requests at once, and where more want to, projects in proportion to their weights.

Weighted fair queueing by virtual time (Demers, Keshav and Shenker 1989): a request that waits gets a finish time one request's share
behind its project's last one, and the earliest goes next. A project that was idle waits for the others' current requests only.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable

from kas.errors import TooManyRequests


class Turns:
    """One agent's turns. Not thread-safe."""

    def __init__(self, max_in_flight: int, max_waiting: int, weight: Callable[[str], float]) -> None:
        """``max_waiting`` requests of one project; ``weight`` of a project, more than 0."""
        self.max_in_flight = max_in_flight
        self.max_waiting = max_waiting
        self.in_flight = 0
        self._weight = weight
        self._time = 0.0  # virtual: the start of the request that went last
        self._order = 0
        self._waiting: list[tuple[float, int, float, str, asyncio.Future[None]]] = []  # by finish
        self._finish: dict[str, float] = {}  # of the last one of each project that waits
        self._count: dict[str, int] = {}

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return sum(self._count.values())

    @property
    def is_idle(self) -> bool:
        """Nothing is going on here."""
        return not self.in_flight and not self._count

    def take(self) -> bool:
        """A turn at once, if nobody waits."""
        if self.in_flight >= self.max_in_flight or self._count:
            return False
        self.in_flight += 1
        return True

    async def wait(self, project: str, limit_s: float) -> None:
        """Wait for a turn. Raises TooManyRequests after ``limit_s``, or at once if the project has too many waiting already.

        Cancelled, it leaves no turn taken.
        """
        if self._count.get(project, 0) >= self.max_waiting:
            raise TooManyRequests(
                f"{self.max_waiting} requests of the project wait for this agent already", retry_after_s=1
            )
        turn = self._enqueue(project)
        try:
            async with asyncio.timeout(limit_s):
                await turn
        except BaseException as error:
            if turn.cancelled():
                self._left(project)
            else:  # it was given in this very moment
                self.leave()
            if isinstance(error, TimeoutError):
                raise TooManyRequests(
                    f"the agent is busy: no turn for the project within {limit_s:g} s", retry_after_s=1
                ) from None
            raise

    def leave(self) -> None:
        """A turn is over: the next one's begins."""
        self.in_flight -= 1
        self.admit()

    def admit(self) -> None:
        """Give what turns there are."""
        while self._waiting and self.in_flight < self.max_in_flight:
            _, _, start, project, turn = heapq.heappop(self._waiting)
            if turn.done():  # it has gone away
                continue
            self._time = max(self._time, start)
            self.in_flight += 1
            self._left(project)
            turn.set_result(None)

    def _enqueue(self, project: str) -> asyncio.Future[None]:
        start = max(self._time, self._finish.get(project, 0.0))
        finish = start + 1.0 / self._weight(project)
        self._finish[project] = finish
        self._count[project] = self._count.get(project, 0) + 1
        self._order += 1
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (finish, self._order, start, project, turn))
        return turn

    def _left(self, project: str) -> None:
        """One fewer of the project waits; a project without any is forgotten once its share is used up."""
        self._count[project] -= 1
        if not self._count[project]:
            del self._count[project]
        if not self._count:
            self._waiting.clear()
            self._finish.clear()
            self._time = 0.0
