"""What deciding comes to: a grant with the identity to act as, or a denial with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from kas.access.caller import OWN_ISSUER, Caller
from kastunnel.link.frames import AsAgent, Impersonate


class AgentRef(NamedTuple):
    """A registered agent: its id, the project that it belongs to, and its name there."""

    id: int
    project: str
    name: str
    issuer: str = OWN_ISSUER  # whose project it is
    project_id: str = ""
    forge_id: str = ""  # the id that the forge knows it by, where it has one of its own

    def __str__(self) -> str:
        """As in kubeconfigs: ``group/project:name``."""
        return f"{self.project}:{self.name}"


@dataclass(frozen=True, slots=True)
class Grant:
    """The caller may use the agent, as ``identity`` in its cluster."""

    caller: Caller
    agent: AgentRef
    identity: AsAgent | Impersonate
    default_namespace: str
    rule: str
    """Which rule let the caller in, for logs and audit: ``ci_access.projects[3], line 17``."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """For agentk's log; never rights."""


class Denial(NamedTuple):
    """The caller may not use the agent. For the operator's eyes: callers are told nothing but no."""

    reason: str
    rule: str = ""
