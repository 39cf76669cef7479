"""Why a job may or may not: every layer's verdict, and the smallest rule that would allow it. Pure; decides with the rules themselves."""

from __future__ import annotations

from dataclasses import fields as _fields
from typing import Any, NamedTuple

import yaml

from kas.access.caller import Caller, Environment
from kas.access.grants import Access, AgentRef, Denial, Grant
from kas.access.requests import Action, action_of
from kas.access.rules import OWN_PROJECT, Source, decide, refusal_of, source_of
from kas.agent_config.entries import AgentConfig
from kastunnel.http.classify import RequestInfo
from kastunnel.link.frames import Impersonate

_SILENT = frozenset({"expires_at", "recheck_s", "forge_agents"})


class Layer(NamedTuple):
    """One layer's verdict; ``is_good`` None: it was not asked."""

    name: str
    is_good: bool | None
    said: str


class Explanation(NamedTuple):
    """All of it. ``grant``: as whom, if the rules let the job in. ``may_know``: whether the job may read it."""

    layers: tuple[Layer, ...]
    grant: Grant | None
    rule: str  # YAML for the agent's configuration; empty where nothing need be added
    may_know: bool

    @property
    def is_allowed(self) -> bool:
        """Whether no layer says no."""
        return all(layer.is_good is not False for layer in self.layers)


def explain(
    caller: Caller, agent: AgentRef | None, config: AgentConfig | None, info: RequestInfo | None, now: float
) -> Explanation:
    """``info`` None: not about a certain request. The cluster's own rules are another layer, which is not asked here."""
    claims = Layer("claims", True, ", ".join(_claims(caller)))
    if agent is None or config is None:
        said = (
            "there is no such agent"
            if agent is None
            else "its configuration has not been read, or never was good: see kas agent show"
        )
        return Explanation((claims, Layer("rule", False, said)), None, "", may_know=False)
    verdict = decide(caller, agent, config, now)
    source = source_of(caller, agent, config)
    if isinstance(verdict, Denial):
        said = f"{verdict.reason}{f' ({verdict.rule})' if verdict.rule else ''}{_tried(source, caller, now)}"
        return Explanation(
            (claims, Layer("rule", False, said)), None, smallest_rule(caller, agent, source, info), verdict.may_know
        )
    return _within(caller, agent, verdict, source, info, claims)


def _within(
    caller: Caller, agent: AgentRef, access: Access, source: Source | None, info: RequestInfo | None, claims: Layer
) -> Explanation:
    rules = ", ".join(verdict.rule for _, verdict in access.candidates)
    let_in = Layer("rule", True, f"let in by {rules}")
    if info is None:
        first = access.first
        as_whom = (
            Layer("limits", None, "no request was given: name a verb and a resource") if first else _unusable(access)
        )
        return Explanation((claims, let_in, as_whom), first, "", may_know=True)
    granted = access.grant_for(info)
    if isinstance(granted, Denial):
        layers = (claims, let_in, Layer("limits", False, granted.reason))
        return Explanation(layers, None, smallest_rule(caller, agent, source, info), may_know=True)
    limits = next(allow for allow, verdict in access.candidates if verdict is granted)
    said = f"no `allow`: every request, as {identity_text(granted)}"
    if limits is not None:
        said = f"`allow` covers {action_of(info)}, as {identity_text(granted)}"
    return Explanation((claims, let_in, Layer("limits", True, f"{said} ({granted.rule})")), granted, "", may_know=True)


def _unusable(access: Access) -> Layer:
    reasons = [verdict.reason for _, verdict in access.candidates if isinstance(verdict, Denial)]
    return Layer("limits", False, "; ".join(reasons))


def identity_text(grant: Grant) -> str:
    """As whom, for people."""
    if not isinstance(grant.identity, Impersonate):
        return "the agent itself"
    groups = ", ".join(grant.identity.groups)
    return f"{grant.identity.user}{f' in {groups}' if groups else ''}"


def smallest_rule(caller: Caller, agent: AgentRef, source: Source | None, info: RequestInfo | None) -> str:
    """An entry that lets in this job, in as narrow a way as its token can say, for this request alone.

    It goes where the deciding source is: an entry for the project would hide those for its group.
    """
    kind = "groups" if source is not None and source.name == "groups" else "projects"
    entry: dict[str, Any] = {"id": source.entries[0].id if kind == "groups" and source is not None else caller.project}
    if kind == "projects" and caller.project_id:
        entry["project_id"] = caller.project_id
    if caller.issuer != agent.issuer:
        entry["issuer"] = caller.issuer
    if caller.environment is not None and caller.environment.name:
        entry["environments"] = [caller.environment.name]
    if caller.full_ref:
        entry["refs"] = [caller.full_ref if caller.ref_type == "tag" else caller.ref]
    if caller.ref_protected:
        entry["protected_branches_only"] = True
    if caller.is_fork:
        entry["forks"] = True
    if info is not None:
        entry["allow"] = [_item(action_of(info))]
    entries = [entry]
    if source is not None and source.name == OWN_PROJECT:
        entries.append({"id": caller.project})  # else the entry would end what the own project has without one
    text: str = yaml.safe_dump({"ci_access": {kind: entries}}, sort_keys=False, width=200)
    return text


def _item(action: Action) -> dict[str, Any]:
    if action.path:
        return {"verbs": [action.verb], "paths": [action.path]}
    name = f"{action.resource}.{action.group}" if action.group else action.resource
    item: dict[str, Any] = {
        "verbs": [action.verb],
        "resources": [f"{name}/{action.subresource}" if action.subresource else name],
    }
    return item | ({"namespaces": [action.namespace]} if action.namespace else {})


def _tried(source: Source | None, caller: Caller, now: float) -> str:
    """What each entry of the deciding source says, where there are several."""
    if source is None or len(source.entries) < 2:
        return ""
    return "; tried: " + "; ".join(f"{entry.where}: {refusal_of(entry, caller, now)}" for entry in source.entries[:20])


def _claims(caller: Caller) -> list[str]:
    said = []
    for field in _fields(Caller):
        value = getattr(caller, field.name)
        if not value or field.name in _SILENT:
            continue
        if isinstance(value, Environment):
            value = "/".join(filter(None, (value.name or value.slug, value.tier)))
        said.append(f"{field.name} {' '.join(value) if isinstance(value, tuple) else value}".replace(" True", ""))
    return said
