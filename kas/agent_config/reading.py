"""One agent's configuration, read once from its repository: what is in force, or what is wrong with it.

The server does this when a commit is new, in a thread; ``kas agent show`` does it in its own process.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Protocol

from kas.agent_config.entries import EMPTY, AgentConfig
from kas.agent_config.parsing import Parser
from kas.agent_config.repositories import Repository, RepositoryProblem
from kas.agent_config.schema import MAX_FILE_BYTES
from kas.located_yaml import Mistake, MistakesInFile
from kastunnel.toolkit.logs import fields

log = logging.getLogger(__name__)


class Agent(Protocol):
    """What is needed of a registered agent."""

    @property
    def id(self) -> int:
        """Its number."""

    @property
    def project(self) -> str:
        """The project whose repository holds its configuration."""

    @property
    def name(self) -> str:
        """Its name: the folder of its configuration."""

    @property
    def issuer(self) -> str:
        """Whose project that is."""


class Repositories(Protocol):
    """Which repository belongs to which project."""

    def find(self, project: str, issuer: str = "kas") -> Repository | None:
        """None: the operator named none. Blocks."""

    def poll_s(self, project: str, issuer: str) -> float:
        """How often one on another machine is looked at; 0: it is here, or there is none. At once."""

    def tell(self, project: str, issuer: str, name: str, commit: str, mistake: str) -> None:
        """Show at the commit of one on another machine whether it is in force. Blocks; never fails."""


class Finder(Protocol):
    """Where a repository is looked for."""

    def find(self, project: str, issuer: str = "kas") -> Repository | None:
        """See Repositories."""


class OneLook:
    """The repositories as one look finds them: each is asked for its newest commit once, however many agents it configures."""

    def __init__(self, repositories: Repositories) -> None:
        self._repositories = repositories
        self._found: dict[tuple[str, str], Repository | None] = {}

    def find(self, project: str, issuer: str = "kas") -> Repository | None:
        """See Repositories."""
        key = (issuer, project)
        if key not in self._found:
            found = self._repositories.find(project, issuer)
            self._found[key] = None if found is None else _HeadOnce(found)
        return self._found[key]


class _HeadOnce:
    """A Repository that asks for the newest commit once; a failure is remembered too."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._head: str | RepositoryProblem | None = None
        self.where = repository.where
        self.is_remote = repository.is_remote

    def head(self) -> str:
        """See Repository."""
        if self._head is None:
            try:
                self._head = self._repository.head()
            except RepositoryProblem as problem:
                self._head = problem
        if isinstance(self._head, RepositoryProblem):
            raise self._head
        return self._head

    def read(self, commit: str, path: str, max_bytes: int) -> bytes | None:
        """See Repository."""
        return self._repository.read(commit, path, max_bytes)


@dataclass(frozen=True, slots=True)
class Problem:
    """Why the newest configuration of an agent is not in force. Two are equal if nothing new can be said."""

    reason: str  # one line per mistake, each ``file:line:column: path: what was expected``, or what is wrong with the repository
    mistakes: tuple[Mistake, ...] = ()  # the first ones; empty: the repository is at fault, not the file
    count: int = 0  # of mistakes


@dataclass(frozen=True, slots=True)
class Reading:
    """What one look at the repository found. Exactly one of ``config`` and ``problem`` is set."""

    repository: str  # where it was read, for people; empty: no repository is configured for the project
    path: str
    commit: str = ""
    present: bool = False  # whether the commit has the file
    config: AgentConfig | None = None
    problem: Problem | None = None


def path_of(agent_name: str) -> str:
    """Where the configuration of the agent stands in its project's repository."""
    return f".gitlab/agents/{agent_name}/config.yaml"


def read_configuration(
    repositories: Finder,
    project: str,
    agent_name: str,
    *,
    issuer: str = "kas",
    parser: Parser | None = None,
    allow_system_identities: bool = False,
    max_bytes: int = MAX_FILE_BYTES,
    known_commit: str | None = None,
) -> Reading | None:
    """Read the agent's configuration at the newest commit; None if that is ``known_commit``. Blocks; raises nothing expected.

    Without a repository, and without the file, the configuration is empty: only jobs of the agent's own project have access.
    """
    path = path_of(agent_name)
    repository = repositories.find(project, issuer)
    if repository is None:
        return None if known_commit == "" else Reading("", path, config=EMPTY)
    commit = ""
    try:
        commit = repository.head()
        if commit == known_commit:
            return None
        text = repository.read(commit, path, max_bytes)
        config = EMPTY
        if text is not None:
            parse = (parser or Parser()).parse
            config = parse(text, path, allow_system_identities=allow_system_identities, max_bytes=max_bytes)
    except RepositoryProblem as error:
        return Reading(repository.where, path, commit, problem=Problem(str(error)))
    except MistakesInFile as error:
        return Reading(repository.where, path, commit, True, problem=Problem(str(error), error.mistakes, error.count))
    except Exception as error:
        log.exception("a configuration could not be read", extra=fields(project=project, agent=agent_name))
        kind = type(error).__name__
        said = f"{repository.where}: it cannot be read ({kind}): look for damage with `git fsck`, or in kas's log"
        return Reading(repository.where, path, commit, problem=Problem(said))
    return Reading(repository.where, path, commit, text is not None, config)
