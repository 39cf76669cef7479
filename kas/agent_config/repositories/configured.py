"""Repositories as kas.yaml names them: which one belongs to which project of which issuer."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Sequence
from pathlib import Path

from kas.agent_config.repositories import Repository, RepositoryProblem
from kas.agent_config.repositories.forges import ForgeRepository, pushed_project
from kas.agent_config.repositories.git_remote import GitRemote
from kas.agent_config.repositories.local import LocalRepositories
from kas.config import ConfigurationRepository
from kas.errors import ConfigurationError
from kas.outbound import Outbound, tls_context
from kas.patterns import matches_any
from kas.preflight import read_secret
from kastunnel.toolkit.logs import fields

log = logging.getLogger(__name__)


class ConfiguredRepositories:
    """Finds them; those of other machines are made when first asked for, and kept. Raises ConfigurationError for bad files."""

    def __init__(self, settings: Sequence[ConfigurationRepository], outbound: Outbound, cache: Path) -> None:
        self._settings = settings
        self._outbound = outbound
        self._cache = cache
        self._local = LocalRepositories([one for one in settings if one.root is not None or one.path is not None])
        self._remote: dict[tuple[str, str], ForgeRepository | GitRemote] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tokens = {id(one): _secret(one.token_file, "token_file") for one in settings}
        self._hooks = [
            (one, _secret(one.webhook_secret_file, "webhook_secret_file")) for one in settings if one.forge is not None
        ]
        self._tls = {id(one): _tls(one) for one in settings}

    def use(self, loop: asyncio.AbstractEventLoop) -> None:
        """The loop on which ``outbound`` asks; before the first look."""
        self._loop = loop

    def find(self, project: str, issuer: str = "kas") -> Repository | None:
        """The first entry that knows the project. Blocks."""
        for one in self._settings:
            if one.issuer != issuer:
                continue
            if one.root is not None or one.path is not None:
                if (local := self._local.find(project, issuer)) is not None and local.exists:
                    return local
            elif _names(one, project):
                return self._remote_of(one, project)
        return self._local.find(project, issuer)  # missing, perhaps: that is worth saying

    def poll_s(self, project: str, issuer: str) -> float:
        """How often the project's repository is looked at if it is on another machine; 0: it is not."""
        return next((one.poll_s for one in self._settings if one.issuer == issuer and _names(one, project)), 0.0)

    def tell(self, project: str, issuer: str, name: str, commit: str, mistake: str) -> None:
        """Show at the commit whether the configuration of the agent ``name`` is in force, where that is wanted. Blocks; never fails."""
        wanted = any(one.commit_status and one.issuer == issuer and _names(one, project) for one in self._settings)
        repository = self._remote.get((issuer, project)) if wanted else None
        if isinstance(repository, ForgeRepository):
            try:
                repository.tell(commit, name, mistake)
            except RepositoryProblem as error:
                log.warning(
                    "commit status was not written", extra=fields(project=project, commit=commit, error=str(error))
                )

    def close(self) -> None:
        """Give up what is being asked elsewhere; those who wait are told so. From any thread."""
        for repository in list(self._remote.values()):
            repository.close()

    def pushed(self, kind: str, headers: dict[str, str], body: bytes) -> tuple[str, str] | None:
        """Issuer and project of a push that a forge tells of, both empty for another event. None: nobody whom we know says this."""
        is_proven = False
        for one, secret in self._hooks:
            if one.forge != kind or secret is None:
                continue
            project = pushed_project(kind, headers, body, secret)
            if project is None:
                continue
            is_proven = True
            if matches_any(one.projects, project):
                return one.issuer, project
        return ("", "") if is_proven else None

    def _remote_of(self, one: ConfigurationRepository, project: str) -> ForgeRepository | GitRemote:
        found = self._remote.get((one.issuer, project))
        if found is None:
            found = self._remote[one.issuer, project] = self._made(one, project)
        return found

    def _made(self, one: ConfigurationRepository, project: str) -> ForgeRepository | GitRemote:
        token = self._tokens[id(one)]
        if one.forge is not None and one.url is not None:
            loop = self._loop or asyncio.get_event_loop()
            return ForgeRepository(
                one.forge, one.url, project, one.ref, token, self._outbound, self._tls[id(one)], loop
            )
        return GitRemote(
            one.git or "",
            self._cache,
            one.ref,
            token=token,
            user=one.user,
            ca_file=one.ca_file,
            key_file=one.key_file,
            known_hosts_file=one.known_hosts_file,
        )


def _names(one: ConfigurationRepository, project: str) -> bool:
    """Whether the entry is of another machine and knows the project."""
    return (one.git is not None and one.project == project) or (
        one.forge is not None and matches_any(one.projects, project)
    )


def _secret(path: Path | None, name: str) -> str | None:
    return None if path is None else read_secret(path, f"configuration_repositories: {name}")


def _tls(one: ConfigurationRepository) -> ssl.SSLContext | None:
    try:
        return tls_context(one.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"configuration_repositories: ca_file {one.ca_file} cannot be used: {error}"
        ) from error
