"""What an agent's configuration says about access, as plain values that deciding looks things up in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from kastunnel.link.frames import AsAgent, Impersonate


@dataclass(frozen=True, slots=True)
class AsJob:
    """``access_as: ci_job``: an identity made from the job itself. Not a tuple: it must never equal AsAgent()."""


AccessAs = AsAgent | AsJob | Impersonate


class Entry(NamedTuple):
    """One item of ``ci_access.projects`` or ``ci_access.groups``."""

    where: str  # "ci_access.projects[3], line 17": what a denial and a log line name
    id: str
    access_as: AccessAs
    default_namespace: str = ""
    environments: tuple[str, ...] = ()  # patterns; none = any job, with or without an environment
    protected_branches_only: bool = False


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """One agent's configuration in force: entries by path, in the order of the file."""

    projects: Mapping[str, tuple[Entry, ...]] = field(default_factory=dict)
    groups: Mapping[str, tuple[Entry, ...]] = field(default_factory=dict)
    notices: tuple[str, ...] = ()  # what the file says and kas does not do

    @property
    def entries(self) -> int:
        """How many entries there are."""
        return sum(len(entries) for source in (self.projects, self.groups) for entries in source.values())


EMPTY = AgentConfig()  # no file: the agent's own project has access, nobody else
