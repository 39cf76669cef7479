"""What deciding comes to: access with the identity to act as, or a denial with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from kas.access.caller import OWN_ISSUER, Caller
from kas.access.requests import Action, action_of, allows
from kas.agent_config.entries import Allow
from kastunnel.http.classify import Kind, RequestInfo
from kastunnel.link.frames import AsAgent, Impersonate

MAX_JUDGED = 128  # kinds of requests that one access remembers; about 300 bytes each
MAX_JUDGED_PATH = 256  # of longer ones none


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
    """The caller may not. ``reason`` and ``rule`` are for the operator's eyes; for the caller's too where it ``may_know``."""

    reason: str
    rule: str = ""
    may_know: bool = False


class Candidate(NamedTuple):
    """An entry that lets the job in, for requests that its ``allow`` lets through (None: all); a denial where it cannot be used."""

    allow: tuple[Allow, ...] | None
    verdict: Grant | Denial


@dataclass(frozen=True, slots=True)
class Access:
    """What a caller may do with an agent: the entries of the source that decides, in the order of the file; never none."""

    caller: Caller
    agent: AgentRef
    candidates: tuple[Candidate, ...]
    expires_at: float = inf  # unix seconds: from then on it must be decided anew
    _judged: dict[Kind, Grant | Denial] = field(default_factory=dict, init=False, repr=False, compare=False)

    def grant_for(self, info: RequestInfo | None) -> Grant | Denial:
        """The first entry that lets this request through decides alone: identities are never mixed.

        No request fits an ``allow`` if Kubernetes itself could not say what it does (None).
        """
        first = self.candidates[0]
        if first.allow is None:
            return first.verdict
        if info is None:
            return next(
                (verdict for allow, verdict in self.candidates if allow is None), self._not_covered("this request")
            )
        # The same for every object of a kind, so that it is worked out once: by all that `action_of` looks at but the name.
        kind = info.kind
        judged = self._judged.get(kind)
        if judged is None:
            judged = self._judge(action_of(info)._replace(name=""))
            if len(info.path) <= MAX_JUDGED_PATH:
                if len(self._judged) >= MAX_JUDGED:
                    self._judged.clear()
                self._judged[kind] = judged
        return judged

    def _judge(self, action: Action) -> Grant | Denial:
        for allow, verdict in self.candidates:
            if allow is None or allows(allow, action):
                return verdict
        return self._not_covered(str(action))

    def _not_covered(self, said: str) -> Denial:
        rules = ", ".join(verdict.rule for _, verdict in self.candidates[:8])
        return Denial(f"`allow` does not cover {said}", rules, may_know=True)

    @property
    def first(self) -> Grant | None:
        """Of the first entry: whose namespace the job's context gets."""
        return next((verdict for _, verdict in self.candidates if isinstance(verdict, Grant)), None)
