"""Where the configuration of agents is read: whether each place can be."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from kas.agent_config.repositories import RepositoryProblem
from kas.agent_config.repositories.configured import ConfiguredRepositories
from kas.config import Config, ConfigurationRepository
from kas.doctor.issuers import token_works
from kas.errors import ConfigurationError
from kas.outbound import Outbound
from kas.patterns import matches_any
from kas.store import AgentRecord
from kastunnel.doctor.findings import Check, Finding, broken, ok, skipped

MAX_LOOKS = 3  # at projects of one forge: a thousand would tell no more
_REMEDY = "configuration_repositories in docs/configuration.md; docs/operating.md, Where configurations are read"


class Repositories:
    """One check for each entry of ``configuration_repositories``."""

    def __init__(self, config: Config, outbound: Outbound, agents: Callable[[], Sequence[AgentRecord]]) -> None:
        """``agents``: those registered, as far as the database could be read."""
        self._config = config
        self._outbound = outbound
        self._agents = agents

    def checks(self) -> Iterator[Check]:
        """By what the entry names."""
        for number, one in enumerate(self._config.configuration_repositories):
            yield Check(f"repositories[{number}]", partial(self._look, one))

    async def _look(self, one: ConfigurationRepository) -> Finding:
        try:
            found = ConfiguredRepositories([one], self._outbound, self._config.state_dir / "repositories")
        except ConfigurationError as error:
            return broken(str(error), _REMEDY)
        if (folder := one.root or one.path) is not None:
            return _folder(folder)
        found.use(asyncio.get_running_loop())
        if one.git is not None:
            return await self._heads(one, found, [one.project or ""])
        projects = {agent.project for agent in self._agents() if agent.issuer == one.issuer}
        named = sorted(project for project in projects if matches_any(one.projects, project))
        if named:
            return await self._heads(one, found, named)
        if one.token_file is None or one.forge is None or one.url is None:
            return skipped(f"no agent of {', '.join(one.projects)} is registered, so nothing is read at {one.url}")
        option = "configuration_repositories: token_file"
        return await token_works(self._outbound, one.forge, one.url, one.token_file, option, one.ca_file)

    async def _heads(
        self, one: ConfigurationRepository, found: ConfiguredRepositories, projects: Sequence[str]
    ) -> Finding:
        seen = []
        for project in projects[:MAX_LOOKS]:
            repository = found.find(project, one.issuer)
            if repository is None:
                continue
            try:
                commit = await asyncio.to_thread(repository.head)
            except RepositoryProblem as error:
                return broken(str(error), _REMEDY)
            seen.append(f"{repository.where} is at {commit[:12]}")
        return ok("; ".join(seen))


def _folder(folder: Path) -> Finding:
    if not folder.is_dir():
        return broken(f"there is no folder {folder}", f"mirror the repositories there, or correct it: {_REMEDY}")
    if not os.access(folder, os.R_OK | os.X_OK):
        return broken(f"this user may not read {folder}", "let the user of kas read it")
    return ok(f"{folder} can be read")
