"""What an agent's configuration says about access, as plain values that deciding looks things up in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from kastunnel.link.frames import AsAgent, Impersonate


@dataclass(frozen=True, slots=True)
class AsJob:
    """``access_as: ci_job``: an identity made from the job itself. Not a tuple: it must never equal AsAgent()."""


@dataclass(frozen=True, slots=True)
class AsUser:
    """``access_as: ci_user``: an identity made from the user who started the job."""


AccessAs = AsAgent | AsJob | AsUser | Impersonate


class Resource(NamedTuple):
    """One item of ``resources``; ``*`` stands for any. ``group`` None: in whatever group a resource of that name is."""

    name: str
    group: str | None = None
    subresource: str = ""

    def __str__(self) -> str:
        name = self.name if self.group is None else f"{self.name}.{self.group}"
        return f"{name}/{self.subresource}" if self.subresource else name


class Allow(NamedTuple):
    """One item of ``allow``: requests for resources with these verbs, or for other paths."""

    verbs: frozenset[str]  # "*": every verb
    resources: tuple[Resource, ...] = ()
    namespaces: tuple[str, ...] = ()  # patterns; none = everywhere, also what lies in no namespace
    paths: tuple[str, ...] = ()  # patterns of paths that lead to no resource


class Entry(NamedTuple):
    """One item of ``ci_access.projects`` or ``ci_access.groups``, or ``ci_access.instance``."""

    where: str  # "ci_access.projects[3], line 17": what a denial and a log line name
    id: str
    access_as: AccessAs
    default_namespace: str = ""
    environments: tuple[str, ...] = ()  # patterns; none = any job, with or without an environment
    protected_branches_only: bool = False
    issuer: str = ""  # whose projects it speaks of; empty: those of the agent's own issuer
    immutable_id: str = ""  # of the project or group; empty: the path is enough
    refs: tuple[str, ...] = ()  # patterns of branches, or of full refs where they begin with refs/; none = any
    forks: bool = False  # whether jobs of forks count too
    expires_at: float = inf  # unix seconds
    allow: tuple[Allow, ...] | None = None  # None: every request; the cluster's own rules decide


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """One agent's configuration in force: entries by path, in the order of the file."""

    projects: Mapping[str, tuple[Entry, ...]] = field(default_factory=dict)
    groups: Mapping[str, tuple[Entry, ...]] = field(default_factory=dict)
    instance: tuple[Entry, ...] = ()  # one at most
    notices: tuple[str, ...] = ()  # what the file says and kas does not do

    @property
    def entries(self) -> int:
        """How many entries there are."""
        named = sum(len(entries) for source in (self.projects, self.groups) for entries in source.values())
        return named + len(self.instance)

    @property
    def has_system_identities(self) -> bool:
        """Whether an entry acts as a user or in a group of Kubernetes' own, whose names begin with ``system:``."""
        named = [*self.projects.values(), *self.groups.values(), self.instance]
        return any(
            name.startswith("system:")
            for entries in named
            for entry in entries
            if isinstance(entry.access_as, Impersonate)
            for name in (entry.access_as.user, *entry.access_as.groups)
        )


EMPTY = AgentConfig()  # no file: the agent's own project has access, nobody else
