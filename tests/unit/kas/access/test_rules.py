"""Who may, as whom: the table of cases, and what must hold for every case."""

from __future__ import annotations

from itertools import count
from math import inf
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kas.access.caller import Caller, Environment
from kas.access.grants import Access, AgentRef, Denial, Grant
from kas.access.identity import job_identity
from kas.access.rules import OWN_PROJECT
from kas.access.rules import decide as decide_at
from kas.agent_config.entries import EMPTY, AgentConfig, Allow, AsJob, Entry, Resource
from kas.agent_config.schema import read_agent_config
from kas.patterns import matches
from kastunnel.link.frames import AsAgent, Impersonate

AGENT = AgentRef(7, "infra/agents", "prod")
NOW = 1_800_000_000.0


def decide(caller: Caller, agent: AgentRef, config: AgentConfig | None) -> Grant | Denial:
    """About a request that every entry's `allow` lets through."""
    verdict = decide_at(caller, agent, config, NOW)
    return verdict.candidates[0].verdict if isinstance(verdict, Access) else verdict


class Case(NamedTuple):
    """Entries as in the file; a job; and the verdict: the username, "agent", or None for a denial."""

    projects: str = ""
    groups: str = ""
    project: str = "web/shop/app"
    environment: str | None = None
    protected: bool = False
    expected: str | None = None
    rule: str = ""


def as_(name: str) -> str:
    return f"access_as: {{impersonate: {{username: {name}}}}}"


APP = "id: web/shop/app"
CASES = {
    # Projects
    "nobody is named": Case(),
    "the project is named": Case("{id: web/shop/app}", expected="agent", rule="ci_access.projects[0], line 1"),
    "another project is named": Case("{id: web/shop/api}"),
    "a project whose path begins alike": Case("{id: web/shop/ap}"),
    "a project whose path goes on": Case("{id: web/shop/app/more}"),
    "a project whose path ends alike": Case("{id: shop/app}"),
    "case matters": Case("{id: Web/Shop/App}"),
    "a group named among the projects": Case("{id: web/shop}"),
    "act as the agent": Case(f"{{{APP}, access_as: {{agent: {{}}}}}}", expected="agent"),
    "act as somebody": Case(f"{{{APP}, {as_('bob')}}}", expected="bob"),
    "act as the job": Case(f"{{{APP}, access_as: {{ci_job: {{}}}}}}", expected="gitlab:ci_job:12"),
    # The agent's own project
    "own project without a word": Case(project="infra/agents", expected="agent", rule=OWN_PROJECT),
    "own project, others named": Case("{id: web/shop/app}", project="infra/agents", expected="agent"),
    "own project, own entry": Case(f"{{id: infra/agents, {as_('bob')}}}", project="infra/agents", expected="bob"),
    "own project is narrowed by its own entry": Case(
        "{id: infra/agents, environments: [prod]}", project="infra/agents", environment="dev"
    ),
    "own project inside its own entry": Case(
        "{id: infra/agents, environments: [prod]}", project="infra/agents", environment="prod", expected="agent"
    ),
    "own project before its group": Case(
        groups=f"{{id: infra, {as_('bob')}}}", project="infra/agents", expected="agent", rule=OWN_PROJECT
    ),
    "own project is not narrowed by its group": Case(
        groups="{id: infra, protected_branches_only: true}", project="infra/agents", expected="agent"
    ),
    "own project needs no environment": Case(project="infra/agents", environment="prod", expected="agent"),
    "below the own project": Case(project="infra/agents/sub"),
    "beside the own project": Case(project="infra/agent"),
    # Groups
    "the inner group is named": Case(groups="{id: web/shop}", expected="agent", rule="ci_access.groups[0], line 1"),
    "the outer group is named": Case(groups="{id: web}", expected="agent"),
    "another group is named": Case(groups="{id: infra}"),
    "a group whose path begins alike": Case(groups="{id: we}"),
    "a subgroup of the project's path": Case(groups="{id: web/shop/app}"),
    "a project named among the groups": Case(groups="{id: web/shop/app}", project="web/shop/app"),
    "deep below the group": Case(groups="{id: web}", project="web/a/b/c/d/e/f", expected="agent"),
    "inner before outer": Case(
        groups=f"{{id: web, {as_('outer')}}}, {{id: web/shop, {as_('inner')}}}", expected="inner"
    ),
    "inner says no, outer would say yes": Case(groups="{id: web}, {id: web/shop, protected_branches_only: true}"),
    "inner says yes, outer would say no": Case(
        groups="{id: web, protected_branches_only: true}, {id: web/shop}", expected="agent"
    ),
    "a project outside of groups": Case(groups="{id: app}", project="app"),
    "group as the job": Case(groups="{id: web, access_as: {ci_job: {}}}", expected="gitlab:ci_job:12"),
    # Which source decides
    "project before group": Case(f"{{{APP}, {as_('p')}}}", f"{{id: web/shop, {as_('g')}}}", expected="p"),
    "project says no, group would say yes": Case("{id: web/shop/app, environments: [prod]}", "{id: web}"),
    "project says yes, group would say no": Case(
        "{id: web/shop/app}", "{id: web, protected_branches_only: true}", expected="agent"
    ),
    "an entry for another project does not hide the group": Case("{id: web/shop/api}", "{id: web}", expected="agent"),
    # Environments
    "the environment is named": Case(f"{{{APP}, environments: [prod]}}", environment="prod", expected="agent"),
    "another environment": Case(f"{{{APP}, environments: [prod]}}", environment="dev"),
    "no environment where one is wanted": Case(f"{{{APP}, environments: [prod]}}"),
    "no environment, any is wanted": Case(f"{{{APP}, environments: ['*']}}"),
    "any environment": Case(f"{{{APP}, environments: ['*']}}", environment="x/y", expected="agent"),
    "an environment where none is wanted": Case(f"{{{APP}}}", environment="prod", expected="agent"),
    "one of several": Case(f"{{{APP}, environments: [a, b, c]}}", environment="b", expected="agent"),
    "beginning": Case(f"{{{APP}, environments: ['review/*']}}", environment="review/a/b", expected="agent"),
    "beginning alone": Case(f"{{{APP}, environments: ['review/*']}}", environment="review/", expected="agent"),
    "beginning without its slash": Case(f"{{{APP}, environments: ['review/*']}}", environment="review"),
    "beginning elsewhere": Case(f"{{{APP}, environments: ['review/*']}}", environment="x/review/a"),
    "end": Case(f"{{{APP}, environments: ['*-eu']}}", environment="prod-eu", expected="agent"),
    "end, but more follows": Case(f"{{{APP}, environments: ['*-eu']}}", environment="prod-eu-2"),
    "middle": Case(f"{{{APP}, environments: ['a*m*z']}}", environment="a-m-z", expected="agent"),
    "middle missing": Case(f"{{{APP}, environments: ['a*m*z']}}", environment="a-z"),
    "case of an environment": Case(f"{{{APP}, environments: [Prod]}}", environment="prod"),
    "a dot is a dot": Case(f"{{{APP}, environments: ['a.b']}}", environment="axb"),
    "a question mark is itself": Case(f"{{{APP}, environments: ['a?']}}", environment="ab"),
    "a whole name, not a part": Case(f"{{{APP}, environments: [prod]}}", environment="production"),
    "an environment with a line feed": Case(f"{{{APP}, environments: [prod]}}", environment="prod\n"),
    "group with environment": Case(groups="{id: web, environments: [prod]}", environment="prod", expected="agent"),
    "group with another environment": Case(groups="{id: web, environments: [prod]}", environment="dev"),
    # Protected refs
    "protected": Case(f"{{{APP}, protected_branches_only: true}}", protected=True, expected="agent"),
    "not protected": Case(f"{{{APP}, protected_branches_only: true}}"),
    "protected where nothing is asked": Case(f"{{{APP}}}", protected=True, expected="agent"),
    "false asks nothing": Case(f"{{{APP}, protected_branches_only: false}}", expected="agent"),
    "protected, wrong environment": Case(
        f"{{{APP}, protected_branches_only: true, environments: [prod]}}", environment="dev", protected=True
    ),
    "right environment, not protected": Case(
        f"{{{APP}, protected_branches_only: true, environments: [prod]}}", environment="prod"
    ),
    "right environment and protected": Case(
        f"{{{APP}, protected_branches_only: true, environments: [prod]}}",
        environment="prod",
        protected=True,
        expected="agent",
    ),
    # Several entries for one project
    "the first that lets in decides": Case(f"{{{APP}, {as_('a')}}}, {{{APP}, {as_('b')}}}", expected="a"),
    "one for each environment": Case(
        f"{{{APP}, environments: [a], {as_('a')}}}, {{{APP}, environments: [b], {as_('b')}}}",
        environment="b",
        expected="b",
        rule="ci_access.projects[1], line 1",
    ),
    "none of several": Case(
        f"{{{APP}, environments: [a]}}, {{{APP}, environments: [b]}}",
        environment="c",
        rule="ci_access.projects[0], line 1, ci_access.projects[1], line 1",
    ),
}


def config_of(case: Case) -> AgentConfig:
    text = f"ci_access: {{projects: [{case.projects}], groups: [{case.groups}]}}"
    return read_agent_config(text.encode(), "config.yaml")


def caller_of(case: Case) -> Caller:
    environment = None if case.environment is None else Environment(case.environment, "slug", "tier")
    return Caller(
        issuer="kas",
        project=case.project,
        project_id="1",
        ref_protected=case.protected,
        environment=environment,
        pipeline_id="11",
        job_id="12",
        username="ana",
        speaks_gitlab=True,
    )


@pytest.mark.covers("Z-09")
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_case(case: Case):
    verdict = decide(caller_of(case), AGENT, config_of(case))

    if case.expected is None:
        assert isinstance(verdict, Denial)
        assert verdict.reason
    else:
        assert isinstance(verdict, Grant)
        assert verdict.caller == caller_of(case)
        assert verdict.agent == AGENT
        name = verdict.identity.user if isinstance(verdict.identity, Impersonate) else "agent"
        assert name == case.expected
    if case.rule:
        assert verdict.rule == case.rule


@pytest.mark.covers("Z-10")
def test_nobody_gets_in_before_the_configuration_has_been_read():
    own = Caller(issuer="kas", project="infra/agents")
    assert isinstance(decide(own, AGENT, None), Denial)


@pytest.mark.parametrize("entries", ["", "projects: [{id: infra/agents}]", "groups: [{id: infra}]"])
def test_the_same_path_at_another_issuer_is_another_project(entries):
    config = read_agent_config(f"ci_access: {{{entries}}}".encode(), "f")
    elsewhere = Caller(issuer="https://forge.example.com", project="infra/agents")
    verdict = decide(elsewhere, AGENT, config)
    assert isinstance(verdict, Denial)
    assert "issuer" in verdict.reason


def test_what_ci_job_needs_and_the_token_lacks_is_a_denial_that_names_it():
    config = AgentConfig(
        projects={"g/p": (Entry("ci_access.projects[0], line 3", "g/p", AsJob()), Entry("w", "g/p", AsAgent()))}
    )
    verdict = decide(Caller(issuer="kas", project="g/p", project_id="1"), AGENT, config)
    assert verdict == Denial(
        "access_as: ci_job cannot be used: the token has no job id", "ci_access.projects[0], line 3", may_know=True
    )


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (Case(), "no entry of ci_access lets web/shop/app in"),
        (CASES["no environment where one is wanted"], "the entry is for environments, and the job has none"),
        (CASES["another environment"], "the job's environment 'dev' is not one of the entry's"),
        (CASES["not protected"], "the entry is for protected branches and tags, and the job's ref is not protected"),
    ],
)
def test_a_denial_says_why(case, reason):
    verdict = decide(caller_of(case), AGENT, config_of(case))
    assert isinstance(verdict, Denial)
    assert verdict.reason == reason


def test_a_grant_carries_the_namespace_and_labels_for_the_agents_log():
    config = read_agent_config(b"ci_access: {projects: [{id: web/shop/app, default_namespace: web}]}", "f")
    verdict = decide(caller_of(Case()), AGENT, config)
    assert isinstance(verdict, Grant)
    assert verdict.default_namespace == "web"
    assert verdict.labels == {"project": "web/shop/app", "pipeline": "11", "job": "12", "user": "ana"}


# What must hold for every configuration and every job.

PATHS = st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map("/".join)
NAMES = st.text(alphabet="ab/", min_size=1, max_size=4)
IDENTITIES = st.one_of(
    st.just(AsAgent()), st.just(AsJob()), st.builds(Impersonate, user=st.text(alphabet="uv", min_size=1, max_size=3))
)
ALLOWS = st.none() | st.just((Allow(frozenset({"get"}), (Resource("pods"),)),))
ENTRIES = st.tuples(
    st.integers(0, 10**9).map(str),
    PATHS,
    IDENTITIES,
    st.sampled_from(["", "web"]),
    st.lists(st.text(alphabet="ab/*", min_size=1, max_size=4), max_size=2).map(tuple),
    st.booleans(),
    st.sampled_from(["", "kas", "forge"]),
    st.sampled_from(["", "", "1"]),
    st.sampled_from([(), (), ("main",), ("refs/tags/*",)]),
    st.booleans(),
    st.sampled_from([inf, inf, NOW + 1, NOW]),
    ALLOWS,
).map(Entry._make)


def by_id(entries: list[Entry]) -> dict[str, tuple[Entry, ...]]:
    return {one.id: tuple(other for other in entries if other.id == one.id) for one in entries}


def config(projects: list[Entry], groups: list[Entry], instance: list[Entry]) -> AgentConfig:
    numbers = count()  # a place in the file is one entry's
    numbered = [[one._replace(where=str(next(numbers))) for one in part] for part in (projects, groups, instance)]
    return AgentConfig(by_id(numbered[0]), by_id(numbered[1]), tuple(numbered[2]))


CONFIGS = st.builds(config, st.lists(ENTRIES, max_size=4), st.lists(ENTRIES, max_size=4), st.lists(ENTRIES, max_size=1))
CALLERS = st.builds(
    Caller,
    issuer=st.sampled_from(["kas", "forge"]),
    project=PATHS,
    project_id=st.sampled_from(["", "1", "2"]),
    group_ids=st.lists(st.sampled_from("123"), max_size=2).map(tuple),
    ref=st.sampled_from(["", "main"]),
    ref_type=st.sampled_from(["", "branch", "tag"]),
    ref_protected=st.booleans(),
    is_fork=st.booleans(),
    environment=st.none() | st.builds(Environment, NAMES, st.sampled_from(["", "s"]), st.sampled_from(["", "t"])),
    pipeline_id=st.sampled_from(["", "2"]),
    job_id=st.sampled_from(["", "3"]),
    username=st.sampled_from(["", "ana"]),
    is_public_issuer=st.booleans(),
)
AGENTS = PATHS.map(lambda path: AgentRef(7, path, "prod"))


def all_entries(config: AgentConfig) -> list[Entry]:
    named = [entry for source in (config.projects, config.groups) for entries in source.values() for entry in entries]
    return [*named, *config.instance]


def of_issuer(entry: Entry, caller: Caller) -> bool:
    return (entry.issuer or "kas") == caller.issuer


@given(CALLERS, AGENTS, CONFIGS)
def test_a_grants_identity_is_always_that_of_one_entry_that_lets_the_job_in(caller, agent, config):
    verdict = decide(caller, agent, config)
    if not isinstance(verdict, Grant):
        return
    if verdict.rule == OWN_PROJECT:
        assert caller.project == agent.project
        assert type(verdict.identity) is AsAgent
        assert caller.issuer == agent.issuer
        assert not caller.is_fork
        assert not any(of_issuer(entry, caller) for entry in config.projects.get(caller.project, ()))
        return
    (entry,) = [entry for entry in all_entries(config) if entry.where == verdict.rule]
    assert verdict.default_namespace == entry.default_namespace
    if entry in config.instance:
        assert not caller.is_public_issuer
    else:
        assert caller.project == entry.id or caller.project.startswith(entry.id + "/")
    assert of_issuer(entry, caller)
    assert entry.expires_at > NOW
    assert entry.forks or not caller.is_fork
    assert not entry.refs or caller.full_ref
    assert not entry.immutable_id or entry.immutable_id in (caller.project_id, *caller.group_ids)
    if isinstance(entry.access_as, AsJob):
        assert verdict.identity == job_identity(caller, agent)
    else:
        assert type(verdict.identity) is type(entry.access_as)
        assert verdict.identity == entry.access_as
    if entry.environments:
        assert caller.environment is not None
        assert any(matches(pattern, caller.environment.name) for pattern in entry.environments)
    assert caller.ref_protected or not entry.protected_branches_only


@given(CALLERS, AGENTS, CONFIGS)
def test_taking_entries_for_other_projects_away_changes_nothing(caller, agent, config):
    near = {caller.project, *caller.groups()}
    smaller = AgentConfig(
        projects={key: entries for key, entries in config.projects.items() if key == caller.project},
        groups={key: entries for key, entries in config.groups.items() if key in near},
        instance=config.instance,
    )
    assert decide(caller, agent, config) == decide(caller, agent, smaller)


@given(CALLERS, AGENTS, CONFIGS, ENTRIES)
def test_a_group_entry_never_widens_what_a_project_entry_says(caller, agent, config, group_entry):
    if not any(of_issuer(entry, caller) for entry in config.projects.get(caller.project, ())):
        return
    wider = AgentConfig(config.projects, {**config.groups, group_entry.id: (group_entry,)}, (group_entry,))
    assert decide(caller, agent, config) == decide(caller, agent, wider)


@given(CALLERS, AGENTS, CONFIGS)
def test_narrowing_every_entry_never_lets_anybody_in(caller, agent, config):
    def narrow(source):
        return {
            key: tuple(entry._replace(protected_branches_only=True) for entry in entries)
            for key, entries in source.items()
        }

    before = decide(caller, agent, config)
    after = decide(caller, agent, AgentConfig(narrow(config.projects), narrow(config.groups)))
    if isinstance(after, Grant):
        assert isinstance(before, Grant)


@given(CALLERS, AGENTS)
def test_without_entries_only_the_own_project_gets_in(caller, agent):
    is_own = (caller.issuer, caller.project, caller.is_fork) == (agent.issuer, agent.project, False)
    assert isinstance(decide(caller, agent, EMPTY), Grant) == is_own


@given(CALLERS, AGENTS, CONFIGS)
def test_a_caller_of_another_issuer_gets_in_only_by_an_entry_that_names_that_issuer(caller, agent, config):
    verdict = decide(caller, agent, config)
    if isinstance(verdict, Grant) and caller.issuer != agent.issuer:
        (entry,) = [entry for entry in all_entries(config) if entry.where == verdict.rule]
        assert entry.issuer == caller.issuer


@given(CALLERS, AGENTS, CONFIGS)
def test_only_who_is_named_reads_a_reason(caller, agent, config):
    verdict = decide(caller, agent, config)
    if isinstance(verdict, Denial) and verdict.may_know:
        near = {caller.project, *caller.groups()}
        is_named = any(entry.id in near and of_issuer(entry, caller) for entry in all_entries(config))
        assert is_named or (caller.issuer, caller.project) == (agent.issuer, agent.project)
