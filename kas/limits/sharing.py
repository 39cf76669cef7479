"""Turns at one agent: so many ordinary requests at once, and where more want to, projects in proportion to their weights.

Start-time fair queueing (Goyal, Vin and Cheng 1996): the first request that waits of each project has a start time one request's share
behind the project's last turn, and the earliest goes next. A project that was idle waits for the others' current requests only, and who
goes away before its turn has cost its project nothing.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Hashable
from typing import NamedTuple

from kas.errors import TooManyRequests

MAX_REMEMBERED = 4096


class _Next(NamedTuple):
    """The turn that a project gets next. Ordered by start, then by who came first."""

    start: float
    order: int
    finish: float
    project: Hashable


class Turns:
    """One agent's turns. Not thread-safe."""

    def __init__(self, max_in_flight: int, max_waiting: int, weight: Callable[[Hashable], float]) -> None:
        """``max_waiting`` requests of one project; ``weight`` of a project, more than 0."""
        self.max_in_flight = max_in_flight
        self.max_waiting = max_waiting
        self.in_flight = 0
        self._weight = weight
        self._time = 0.0  # virtual: the start of the turn that was given last
        self._order = 0
        self._queues: dict[Hashable, deque[asyncio.Future[None]]] = {}  # of projects that wait, never empty
        self._next: dict[Hashable, _Next] = {}  # of each of them
        self._heap: list[_Next] = []  # the same, and some that are out of date
        self._finish: dict[Hashable, float] = {}  # of projects whose last share is not used up yet

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return sum(map(len, self._queues.values()))

    @property
    def is_idle(self) -> bool:
        """Nothing is going on here, and nothing is kept."""
        return not (self.in_flight or self._queues or self._heap or self._finish)

    def take(self) -> bool:
        """A turn at once, if nobody waits."""
        if self.in_flight >= self.max_in_flight or self._queues:
            return False
        self.in_flight += 1
        return True

    async def wait(self, project: Hashable, limit_s: float) -> None:
        """Wait for a turn. Raises TooManyRequests after ``limit_s``, or at once if the project has too many waiting already.

        Cancelled, it leaves no turn taken.
        """
        if len(self._queues.get(project, ())) >= self.max_waiting:
            raise TooManyRequests(
                f"{self.max_waiting} requests of the project wait for this agent already", retry_after_s=1
            )
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._enqueue(project, turn)
        try:
            async with asyncio.timeout(limit_s):
                await turn
        except BaseException as error:
            if turn.cancelled():
                self._give_up(project, turn)
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
        while self._queues and self.in_flight < self.max_in_flight:
            following = heapq.heappop(self._heap)
            project = following.project
            if self._next.get(project) is not following:
                continue
            queue = self._queues[project]
            turn = queue.popleft()
            if queue:
                self._schedule(project, following.finish)
            else:
                self._forget(project)
            if turn.cancelled():  # it goes away in this very moment
                continue
            self._time = max(self._time, following.start)
            self._finish.pop(project, None)
            self._finish[project] = following.finish
            self.in_flight += 1
            turn.set_result(None)
        self._tidy()

    def _enqueue(self, project: Hashable, turn: asyncio.Future[None]) -> None:
        queue = self._queues.get(project)
        if queue is not None:
            queue.append(turn)
            return
        self._queues[project] = deque((turn,))
        self._schedule(project, max(self._time, self._finish.get(project, 0.0)))

    def _schedule(self, project: Hashable, start: float) -> None:
        self._order += 1
        following = self._next[project] = _Next(start, self._order, start + 1.0 / self._weight(project), project)
        heapq.heappush(self._heap, following)

    def _give_up(self, project: Hashable, turn: asyncio.Future[None]) -> None:
        """A waiter goes away: its project keeps its place for the next one."""
        queue = self._queues.get(project)
        if queue is not None and turn in queue:
            queue.remove(turn)
            if not queue:
                self._forget(project)
        self._tidy()

    def _forget(self, project: Hashable) -> None:
        """Nobody of the project waits any more."""
        del self._queues[project]
        del self._next[project]

    def _tidy(self) -> None:
        """Drop what says nothing any more."""
        if not self._queues:
            self._heap.clear()
            self._finish.clear()
            self._time = 0.0
            return
        if len(self._heap) > 2 * len(self._queues) + 64:
            self._heap = list(self._next.values())
            heapq.heapify(self._heap)
        if len(self._finish) > MAX_REMEMBERED:  # more projects than that at one busy agent: the older ones begin anew
            self._finish = dict(list(self._finish.items())[MAX_REMEMBERED // 2 :])
