"""Keeps every agent's configuration in force: looks at the repositories every few seconds, reads what is new, keeps the last good one."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from kas.agent_config.entries import EMPTY, AgentConfig
from kas.agent_config.parsing import Parser
from kas.agent_config.reading import Agent, OneLook, Problem, Reading, Repositories, read_configuration
from kas.agent_config.remote_looks import RemoteLooks
from kas.agent_config.schema import MAX_FILE_BYTES
from kas.clock import Clock, system_clock
from kas.metrics import ConfigMetrics
from kastunnel.toolkit.logs import fields

log = logging.getLogger(__name__)

POLL_S = 2.0


@dataclass(frozen=True, slots=True)
class ConfigStatus:
    """How it stands with one agent's configuration."""

    repository: str  # empty: none is configured for the project
    path: str
    config: AgentConfig | None  # in force; None: nothing good was read yet, so nobody has access
    commit: str = ""  # that it was read from
    loaded_at: float | None = None  # unix seconds
    problem: Problem | None = None  # why the newest one is not in force
    problem_commit: str = ""


class Wanted(NamedTuple):
    """One agent whose configuration is to be read, unless it is still at that commit."""

    agent_id: int
    project: str
    name: str
    issuer: str
    known_commit: str | None


class AgentConfigs:
    """The configurations of all agents. ``refresh_local`` once before the doors open, then keep ``run`` running.

    Not thread-safe; reads and parses in a thread of its own choosing, one at a time.
    """

    def __init__(
        self,
        repositories: Repositories,
        agents: Callable[[], Iterable[Agent]],
        metrics: ConfigMetrics,
        *,
        poll_s: float = POLL_S,
        allow_system_identities: bool = False,
        max_bytes: int = MAX_FILE_BYTES,
        clock: Clock = system_clock,
        rng: random.Random | None = None,
    ) -> None:
        self._repositories = repositories
        self._agents = agents
        self._metrics = metrics
        self._poll_s = poll_s
        self._allow_system_identities = allow_system_identities
        self._max_bytes = max_bytes
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 - only spreads polls in time
        self._status: dict[int, ConfigStatus] = {}
        self._seen: dict[int, str] = {}  # the commit that was looked at last, good or bad
        self._told: dict[int, tuple[str, str]] = {}  # what was shown at the commit that was looked at last
        self._listeners: list[Callable[[int], None]] = []
        self._woken = asyncio.Event()
        self._parser = Parser()
        self._remote = RemoteLooks(self, self._rng)
        self._looking = asyncio.Lock()  # one look at a time, or an older one could be taken for the newest

    def get(self, agent: Agent) -> AgentConfig | None:
        """The configuration in force. None: nobody has access, since nothing good was read yet."""
        status = self._status.get(agent.id)
        return None if status is None else status.config

    def status(self, agent_id: int) -> ConfigStatus | None:
        """How it stands; None before the first look, and for agents that do not exist."""
        return self._status.get(agent_id)

    @property
    def broken(self) -> int:
        """How many agents have a newest configuration that is not in force."""
        return sum(status.problem is not None for status in self._status.values())

    def listen(self, changed: Callable[[int], None]) -> None:
        """``changed(agent_id)`` is called when another configuration is in force."""
        self._listeners.append(changed)

    def wake(self) -> None:
        """Look now: agents came or went, or somebody says that a repository has changed."""
        self._woken.set()
        self._remote.wake()

    def wake_project(self, issuer: str, project: str) -> None:
        """Look at this project's repository now: its forge says that something was pushed."""
        self._woken.set()
        self._remote.wake(issuer, project)

    def reconfigure(self, repositories: Repositories, *, poll_s: float, allow_system_identities: bool) -> None:
        """Other settings from now on: everything is read anew, soon."""
        if self._allow_system_identities and not allow_system_identities:
            self._close_system_identities()
        self._repositories = repositories
        self._poll_s = poll_s
        self._allow_system_identities = allow_system_identities
        self._seen.clear()
        self.wake()

    def _close_system_identities(self) -> None:
        """They will be refused when they are read anew, and a refused file leaves the last good one in force: not these."""
        for agent_id, status in list(self._status.items()):
            if status.config is not None and status.config.has_system_identities:
                self._close(agent_id)

    def _close(self, agent_id: int) -> None:
        self._status[agent_id] = replace(self._status[agent_id], config=None)
        for changed in self._listeners:
            changed(agent_id)

    async def run(self) -> None:
        """Look at the repositories for ever: those here each ``poll_s`` or a little earlier, those elsewhere each as its entry says."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._run_local())
                group.create_task(self._remote.run())
        finally:
            await asyncio.to_thread(self._parser.close)

    async def _run_local(self) -> None:
        while True:
            await self.refresh_local()
            try:
                async with asyncio.timeout(self._poll_s * self._rng.uniform(0.8, 1.0)):
                    await self._woken.wait()
            except TimeoutError:
                pass

    async def refresh(self) -> None:
        """Look at all repositories once. Cancelled, nothing has changed."""
        await self.refresh_local()
        await self._remote.refresh()

    async def looked(self) -> None:
        """Wait until ``run`` has looked at every repository elsewhere once, with whatever outcome."""
        await self._remote.first()

    async def refresh_local(self) -> None:
        """Look at the repositories on this machine once. Cancelled, nothing has changed."""
        async with self._looking:
            self._woken.clear()
            repositories = self._repositories
            self._drop_all_but({agent.id for agent in self._agents()})
            agents = {agent.id: agent for agent in self._agents()}
            readings = await asyncio.to_thread(self.look, repositories, self.wanted(), is_remote=False)
            self.take(repositories, agents, readings)

    def wanted(self) -> list[Wanted]:
        """Every agent, with the commit that was looked at last."""
        return [
            Wanted(agent.id, agent.project, agent.name, agent.issuer, self._seen.get(agent.id))
            for agent in self._agents()
        ]

    def agents(self) -> Iterable[Agent]:
        """All of them."""
        return self._agents()

    @property
    def repositories(self) -> Repositories:
        """What is in force now."""
        return self._repositories

    def look(self, repositories: Repositories, wanted: Iterable[Wanted], *, is_remote: bool) -> dict[int, Reading]:
        """What is new with these agents, whose repositories are elsewhere or not. In a thread."""
        readings: dict[int, Reading] = {}
        seen = OneLook(repositories)
        for one in wanted:
            repository = seen.find(one.project, one.issuer)
            if (repository is not None and repository.is_remote) != is_remote:
                continue
            reading = read_configuration(
                seen,
                one.project,
                one.name,
                issuer=one.issuer,
                parser=self._parser,
                allow_system_identities=self._allow_system_identities,
                max_bytes=self._max_bytes,
                known_commit=one.known_commit,
            )
            if reading is not None:
                readings[one.agent_id] = reading
                if is_remote and reading.commit:
                    self._tell(repositories, one, reading)
        return readings

    def _tell(self, repositories: Repositories, one: Wanted, reading: Reading) -> None:
        """Show it at the commit, once: a commit whose file cannot be read is looked at again and again."""
        mistake = "" if reading.problem is None else reading.problem.reason.partition("\n")[0]
        if self._told.get(one.agent_id) != (reading.commit, mistake):
            self._told[one.agent_id] = (reading.commit, mistake)
            repositories.tell(one.project, one.issuer, one.name, reading.commit, mistake)

    def take(self, repositories: Repositories, agents: Mapping[int, Agent], readings: Mapping[int, Reading]) -> None:
        """Put what was read in force; nothing if there are other settings meanwhile (then everything is looked at anew)."""
        if repositories is not self._repositories:
            return
        living = {agent.id for agent in self._agents()}
        for agent_id, reading in readings.items():
            if agent_id in living:
                self._take(agents[agent_id], reading)

    def _drop_all_but(self, living: Iterable[int]) -> None:
        for agent_id in self._status.keys() - set(living):
            del self._status[agent_id]
            self._seen.pop(agent_id, None)
            self._told.pop(agent_id, None)

    def _take(self, agent: Agent, reading: Reading) -> None:
        before = self._status.get(agent.id)
        if before is None or before.repository != reading.repository:
            # What another repository says is not the last good one of this: it ends even where this cannot be read.
            if before is not None and before.config is not None and reading.problem is not None:
                self._close(agent.id)
            before = ConfigStatus(reading.repository, reading.path, None)
        if reading.problem is not None:
            if reading.problem.mistakes:
                self._seen[agent.id] = reading.commit
            else:
                self._seen.pop(agent.id, None)  # the repository's own trouble may pass without a new commit
            after = replace(before, problem=reading.problem, problem_commit=reading.commit)
            self._status[agent.id] = after
            if reading.problem != before.problem:
                self._complain(agent, reading, reading.problem)
            return
        self._seen[agent.id] = reading.commit
        self._metrics.good.value += 1
        self._status[agent.id] = ConfigStatus(
            reading.repository, reading.path, reading.config, reading.commit, self._clock()
        )
        if reading.config != before.config or before.problem is not None:
            self._announce(agent, reading)
        if reading.config != before.config:
            for changed in self._listeners:
                changed(agent.id)

    def _complain(self, agent: Agent, reading: Reading, problem: Problem) -> None:
        if not problem.mistakes:
            self._metrics.unreadable.value += 1
            said = fields(
                agent_id=agent.id,
                agent=agent.name,
                project=agent.project,
                repository=reading.repository,
                reason=problem.reason,
            )
            log.warning("configuration repository cannot be read", extra=said)
            return
        self._metrics.bad.value += 1
        first = problem.mistakes[0]
        said = fields(
            agent_id=agent.id,
            agent=agent.name,
            project=agent.project,
            commit=reading.commit,
            count=problem.count,
            file=first.source,
            line=first.position.line,
            column=first.position.column,
            reason=f"{first.path}: {first.message}" if first.path else first.message,
        )
        log.warning("agent configuration refused, the last good one stays in force", extra=said)

    def _announce(self, agent: Agent, reading: Reading) -> None:
        config = reading.config or EMPTY
        said = fields(
            agent_id=agent.id, agent=agent.name, project=agent.project, commit=reading.commit, count=config.entries
        )
        log.info("agent configuration in force", extra=said)
        for notice in config.notices:
            said = fields(
                agent_id=agent.id, agent=agent.name, project=agent.project, commit=reading.commit, notice=notice
            )
            log.info("agent configuration has a part without effect", extra=said)
