"""When repositories on other machines are looked at: each by itself, so that a slow or dead one delays nobody else's.

After a failure the next look waits twice as long, up to five minutes; a push that a forge tells of is looked at within a second, and
a storm of them costs one look a second.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Protocol

from kas.agent_config.reading import Agent, Reading, Repositories
from kastunnel.toolkit.logs import fields
from kastunnel.toolkit.tasks import TaskOwner

if TYPE_CHECKING:
    from kas.agent_config.watcher import Wanted

log = logging.getLogger(__name__)

POLL_S = 60.0  # where the settings have changed meanwhile
MAX_BACK_OFF_S = 300.0
COALESCED_S = 1.0
MAX_LOOKS = 8  # at once, each in a thread
Key = tuple[str, str]  # issuer and project


class Looker(Protocol):
    """Reads and keeps configurations: kas.agent_config.watcher.AgentConfigs."""

    @property
    def repositories(self) -> Repositories:
        """What is in force now."""

    def agents(self) -> Iterable[Agent]:
        """All of them."""

    def wanted(self) -> Sequence[Wanted]:
        """Every agent, with the commit that was looked at last."""

    def look(self, repositories: Repositories, wanted: Iterable[Wanted], *, is_remote: bool) -> dict[int, Reading]:
        """What is new. Blocks."""

    def take(self, repositories: Repositories, agents: Mapping[int, Agent], readings: Mapping[int, Reading]) -> None:
        """Put it in force."""


class _Turn:
    """One repository: when it is looked at next, and whether it is being looked at."""

    __slots__ = ("failures", "has_ended", "is_running", "is_wanted_again", "last", "next")

    def __init__(self) -> None:
        self.next = 0.0
        self.last = -COALESCED_S
        self.failures = 0
        self.is_running = False
        self.is_wanted_again = False
        self.has_ended = False  # once at least


class RemoteLooks:
    """Keep ``run`` running. Not thread-safe but for the looks themselves."""

    def __init__(self, looker: Looker, rng: random.Random) -> None:
        self._looker = looker
        self._rng = rng
        self._turns: dict[Key, _Turn] = {}
        self._woken = asyncio.Event()
        self._ended = asyncio.Event()
        self._places = asyncio.Semaphore(MAX_LOOKS)
        # Not the loop's own threads, which everybody shares: machines that do not answer would hold them all.
        self._threads = ThreadPoolExecutor(MAX_LOOKS, thread_name_prefix="repository")

    def wake(self, issuer: str | None = None, project: str | None = None) -> None:
        """Look at one repository soon, or at all."""
        for key, turn in self._turns.items():
            if issuer is None or key == (issuer, project):
                turn.is_wanted_again = True
                turn.next = min(turn.next, turn.last + COALESCED_S)
        self._woken.set()

    async def refresh(self) -> None:
        """Look at every one once, several at a time."""
        async with asyncio.TaskGroup() as group:
            for key in self._keys():
                group.create_task(self._look(key))

    async def first(self) -> None:
        """Wait until ``run`` has looked at every one once, with whatever outcome."""
        while not all(self._turns[key].has_ended for key in self._keys()):
            self._ended.clear()
            await self._ended.wait()

    async def run(self) -> None:
        """For ever. Cancelled, looks that are running end by themselves, and nothing comes of them."""
        loop = asyncio.get_running_loop()
        tasks = TaskOwner("remote repositories")
        try:
            while True:
                self._woken.clear()
                keys = self._keys()
                now = loop.time()
                for key in keys:
                    turn = self._turns[key]
                    if not turn.is_running and turn.next <= now:
                        turn.is_running = True
                        tasks.spawn(self._look(key), name="look at a repository")
                soonest = min((turn.next for turn in self._turns.values() if not turn.is_running), default=now + POLL_S)
                try:
                    async with asyncio.timeout(max(0.05, soonest - now)):
                        await self._woken.wait()
                except TimeoutError:
                    pass
        finally:
            await tasks.close()
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _keys(self) -> list[Key]:
        """Those that agents need now; others are forgotten."""
        poll_s = self._looker.repositories.poll_s
        every = dict.fromkeys((agent.issuer, agent.project) for agent in self._looker.agents())
        keys = [(issuer, project) for issuer, project in every if poll_s(project, issuer)]
        self._turns = {key: self._turns.get(key) or _Turn() for key in keys}
        return keys

    async def _look(self, key: Key) -> None:
        loop = asyncio.get_running_loop()
        turn = self._turns.get(key) or _Turn()
        turn.is_running, turn.is_wanted_again, turn.last = True, False, loop.time()
        poll_s = POLL_S
        try:
            async with self._places:
                repositories = self._looker.repositories
                wanted = [one for one in self._looker.wanted() if (one.issuer, one.project) == key]
                agents = {agent.id: agent for agent in self._looker.agents()}
                look = partial(self._looker.look, repositories, wanted, is_remote=True)
                readings = await loop.run_in_executor(self._threads, look)
                self._looker.take(repositories, agents, readings)
            failed = any(reading.problem is not None and not reading.problem.mistakes for reading in readings.values())
            turn.failures = turn.failures + 1 if failed else 0
            poll_s = repositories.poll_s(key[1], key[0]) or POLL_S
            if failed:
                poll_s = min(poll_s * 2 ** min(turn.failures, 10), max(poll_s, MAX_BACK_OFF_S))
        except Exception:  # a bug in one adapter must not stop all others
            log.exception("a repository could not be looked at", extra=fields(project=key[1], issuer=key[0]))
        finally:
            turn.is_running, turn.has_ended = False, True
            self._ended.set()
            turn.next = turn.last + (COALESCED_S if turn.is_wanted_again else poll_s * self._rng.uniform(0.8, 1.0))
            self._woken.set()
