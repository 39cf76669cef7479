"""May this caller use this agent, and as whom? Pure: the same question has the same answer for ever.

The sources of access, most specific first: entries for the caller's project; the agent's own project; entries for the groups that
the project lies in, innermost first; the entry for the whole instance. The first source that names the caller decides alone, also when
it says no: a broader one never widens what a narrower one says. Within it, entries are tried in the order of the file; the first that
lets this job in and lets this request through decides as whom.

An entry speaks of projects of the agent's own issuer, unless it says ``issuer``: the same path at another issuer is another project.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import inf
from typing import NamedTuple

from kas.access.caller import Caller
from kas.access.grants import Access, AgentRef, Candidate, Denial, Grant
from kas.access.identity import MissingClaim, job_identity, user_identity
from kas.agent_config.entries import AccessAs, AgentConfig, AsJob, AsUser, Entry
from kas.patterns import matches, matches_any
from kastunnel.link.frames import AsAgent, Impersonate

OWN_PROJECT = "the agent's own project"


class Source(NamedTuple):
    """The entries that decide about a caller; ``is_named``: they name its project or a group of it, so it may know of them."""

    name: str
    entries: Sequence[Entry]
    is_named: bool = True


def decide(caller: Caller, agent: AgentRef, config: AgentConfig | None, now: float) -> Access | Denial:
    """Judge one caller and one agent at ``now`` (unix seconds). ``config`` is None while it has not been read yet: nobody gets in."""
    if config is None:
        return Denial("there is no such agent, or its configuration has not been read yet")
    source = source_of(caller, agent, config)
    if source is None:
        return _not_named(caller, agent)
    if not is_let_in_by_forge(caller, agent):
        return Denial(
            f"{caller.issuer} itself does not let this job use its agent {agent.forge_id}", "", source.is_named
        )
    found: list[Candidate] = []
    refusal = ""
    until = inf
    for entry in source.entries:
        refused = refusal_of(entry, caller, now)
        refusal = refused or refusal
        if not refused:
            found.append(Candidate(entry.allow, _verdict(entry, caller, agent, may_know=source.is_named)))
            until = min(until, entry.expires_at)
            if entry.allow is None:
                break
    if found:
        return Access(caller, agent, tuple(found), until)
    # Several entries: the reason of the last one that was tried stands for all of them.
    rule = ", ".join(entry.where for entry in source.entries[:8])
    is_other = refusal == _OTHER_ID  # whoever took over the path of a project that is gone is a stranger
    return Denial(refusal, rule, may_know=source.is_named and not is_other)


def source_of(caller: Caller, agent: AgentRef, config: AgentConfig) -> Source | None:
    """The first source that names the caller."""
    if entries := _of_issuer(config.projects.get(caller.project, ()), caller, agent):
        return Source("projects", entries)
    if caller.issuer == agent.issuer and caller.project == agent.project:
        return Source(OWN_PROJECT, (_own(agent),))
    for group in caller.groups():
        if entries := _of_issuer(config.groups.get(group, ()), caller, agent):
            return Source("groups", entries)
    if not caller.is_public_issuer and (entries := _of_issuer(config.instance, caller, agent)):
        return Source("instance", entries, is_named=False)
    return None


def refusal_of(entry: Entry, caller: Caller, now: float) -> str:
    """Why the entry does not let this job in; empty where it does."""
    return next(_refusals(entry, caller, now), "")


def is_let_in_by_forge(caller: Caller, agent: AgentRef) -> bool:
    """Where the forge knows the agent and was asked, its own verdict counts too: both must say yes."""
    is_known = bool(agent.forge_id) and caller.forge_agents is not None and caller.issuer == agent.issuer
    return not is_known or agent.forge_id in (caller.forge_agents or ())


_OTHER_ID = "the entry is for another immutable id: only the path is the same"


def _refusals(entry: Entry, caller: Caller, now: float) -> Iterator[str]:
    """The first one counts."""
    ids = (caller.project_id,) if entry.id == caller.project else caller.group_ids
    if entry.immutable_id and entry.immutable_id not in ids:
        yield _OTHER_ID
    if now >= entry.expires_at:
        yield "the entry has expired"
    if caller.is_fork and not entry.forks:
        yield "the job is a fork's, or of a pull request that may come from one, and the entry does not say `forks: true`"
    if entry.refs:
        yield from _ref_refusal(entry, caller)
    if entry.environments:
        yield from _environment_refusal(entry, caller)
    if entry.protected_branches_only and not caller.ref_protected:
        yield "the entry is for protected branches and tags, and the job's ref is not protected"


def _ref_refusal(entry: Entry, caller: Caller) -> Iterator[str]:
    full = caller.full_ref
    if not full:
        yield "the entry is for certain refs, and the token does not say which branch or tag the job is for"
        return
    branch = caller.ref if caller.ref_type == "branch" else None
    for pattern in entry.refs:
        if matches(pattern, full) if pattern.startswith("refs/") else branch is not None and matches(pattern, branch):
            return
    yield f"the job's ref {full!r} is not one of the entry's"


def _environment_refusal(entry: Entry, caller: Caller) -> Iterator[str]:
    if caller.environment is None:
        yield "the entry is for environments, and the job has none"
    elif not caller.environment.name:
        yield "the entry is for environments, and the issuer does not say what the job's is called"
    elif not matches_any(entry.environments, caller.environment.name):
        yield f"the job's environment {caller.environment.name!r} is not one of the entry's"


def _of_issuer(entries: Sequence[Entry], caller: Caller, agent: AgentRef) -> Sequence[Entry]:
    return [entry for entry in entries if (entry.issuer or agent.issuer) == caller.issuer]


def _own(agent: AgentRef) -> Entry:
    return Entry(OWN_PROJECT, agent.project, AsAgent(), immutable_id=agent.project_id)


def _not_named(caller: Caller, agent: AgentRef) -> Denial:
    if caller.issuer != agent.issuer:
        return Denial(
            f"the agent belongs to the issuer {agent.issuer!r}, and no entry says `issuer: {caller.issuer}` for {caller.project}"
        )
    return Denial(f"no entry of ci_access lets {caller.project} in")


def _verdict(entry: Entry, caller: Caller, agent: AgentRef, *, may_know: bool) -> Grant | Denial:
    try:
        identity = _identity(entry.access_as, caller, agent)
    except MissingClaim as missing:
        reason = f"access_as: ci_job cannot be used: {missing}"
        if isinstance(entry.access_as, AsUser):
            reason = f"access_as: ci_user cannot be used: {missing}"
        return Denial(reason, entry.where, may_know)
    return Grant(caller, agent, identity, entry.default_namespace, entry.where, _labels(caller))


def _identity(access: AccessAs, caller: Caller, agent: AgentRef) -> AsAgent | Impersonate:
    if isinstance(access, AsJob):
        return job_identity(caller, agent)
    return user_identity(caller, agent) if isinstance(access, AsUser) else access


def _labels(caller: Caller) -> Mapping[str, str]:
    more = {"pipeline": caller.pipeline_id, "job": caller.job_id, "user": caller.username}
    return {"project": caller.project} | {name: value for name, value in more.items() if value}
