"""May this caller use this agent, and as whom? Pure: the same question has the same answer for ever.

The sources of access, most specific first: entries for the caller's project; the agent's own project; entries for the groups that
the project lies in, innermost first. The first source that names the caller decides alone, also when it says no: a broader one never
widens what a narrower one says. Within it, the first entry in file order that lets this job in decides as whom.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kas.access.caller import Caller
from kas.access.grants import AgentRef, Denial, Grant
from kas.access.identity import MissingClaim, job_identity
from kas.agent_config.entries import AccessAs, AgentConfig, AsJob, Entry
from kastunnel.link.frames import AsAgent

OWN_PROJECT = "the agent's own project"


def decide(caller: Caller, agent: AgentRef, config: AgentConfig | None) -> Grant | Denial:
    """Judge one caller and one agent. ``config`` is None while it has not been read yet: nobody gets in."""
    if config is None:
        return Denial("there is no such agent, or its configuration has not been read yet")
    if caller.issuer != agent.issuer:
        return Denial(f"the agent belongs to the issuer {agent.issuer!r}, not to {caller.issuer!r}")
    if entries := config.projects.get(caller.project):
        return _first_that_allows(entries, caller, agent)
    if caller.project == agent.project:
        return _grant(caller, agent, AsAgent(), "", OWN_PROJECT)
    for group in caller.groups():
        if entries := config.groups.get(group):
            return _first_that_allows(entries, caller, agent)
    return Denial(f"no entry of ci_access lets {caller.project} in")


def _first_that_allows(entries: Sequence[Entry], caller: Caller, agent: AgentRef) -> Grant | Denial:
    for entry in entries:
        refusal = _refusal(entry, caller)
        if not refusal:
            return _grant(caller, agent, entry.access_as, entry.default_namespace, entry.where)
    # Several entries: the reason of the last one that was tried stands for all of them.
    return Denial(refusal, ", ".join(entry.where for entry in entries[:8]))


def _refusal(entry: Entry, caller: Caller) -> str:
    """Why the entry does not let this job in; empty where it does."""
    if entry.environments:
        if caller.environment is None:
            return "the entry is for environments, and the job has none"
        name = caller.environment.name
        if not any(matches(pattern, name) for pattern in entry.environments):
            return f"the job's environment {name!r} is not one of the entry's"
    if entry.protected_branches_only and not caller.ref_protected:
        return "the entry is for protected branches and tags, and the job's ref is not protected"
    return ""


def _grant(caller: Caller, agent: AgentRef, access: AccessAs, namespace: str, rule: str) -> Grant | Denial:
    try:
        identity = job_identity(caller, agent) if isinstance(access, AsJob) else access
    except MissingClaim as missing:
        return Denial(f"access_as: ci_job cannot be used: {missing}", rule)
    return Grant(caller, agent, identity, namespace, rule, _labels(caller))


def _labels(caller: Caller) -> Mapping[str, str]:
    more = {"pipeline": caller.pipeline_id, "job": caller.job_id, "user": caller.username}
    return {"project": caller.project} | {name: value for name, value in more.items() if value}


def matches(pattern: str, name: str) -> bool:
    """Whether ``name`` is of the form ``pattern``, where ``*`` stands for any characters. In linear time, unlike a regex."""
    first, *middle = pattern.split("*")
    if not middle:
        return pattern == name
    last = middle.pop()
    if not name.startswith(first) or not name.endswith(last) or len(name) < len(first) + len(last):
        return False
    at, end = len(first), len(name) - len(last)
    for part in middle:
        at = name.find(part, at, end)
        if at < 0:
            return False
        at += len(part)
    return True
