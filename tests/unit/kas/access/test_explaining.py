"""Explanations say what the rules decide, and the smallest rule really is one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kas.access.caller import Caller, Environment
from kas.access.explaining import Explanation, explain
from kas.access.grants import Access, AgentRef, Denial, Grant
from kas.access.rules import decide
from kas.agent_config.schema import read_agent_config
from kastunnel.http.classify import request_info

NOW = 1_800_000_000.0
AGENT = AgentRef(7, "infra/agents", "prod", "gitlab")
JOB = Caller(
    issuer="gitlab",
    project="shop/web",
    project_id="17",
    group_ids=("5",),
    ref="main",
    ref_type="branch",
    ref_protected=True,
    environment=Environment("prod", "prod", "production"),
    job_id="12",
    username="ana",
)
EXEC = request_info(b"GET", b"/api/v1/namespaces/shop/pods/web-0/exec?command=sh")


def config(ci_access: str):
    return read_agent_config(f"ci_access: {{{ci_access}}}".encode(), "f")


def explained(ci_access: str, caller: Caller = JOB, info=EXEC) -> Explanation:
    return explain(caller, AGENT, config(ci_access), info, NOW)


def said(explanation: Explanation) -> list[tuple[str, bool | None]]:
    return [(layer.name, layer.is_good) for layer in explanation.layers]


def test_a_job_that_may_is_told_by_which_rule_and_as_whom():
    explanation = explained("projects: [{id: shop/web, access_as: {impersonate: {username: bob, groups: [g]}}}]")
    assert said(explanation) == [("claims", True), ("rule", True), ("limits", True)]
    assert explanation.is_allowed
    assert "ci_access.projects[0], line 1" in explanation.layers[1].said
    assert "as bob in g" in explanation.layers[2].said
    assert explanation.rule == ""


def test_a_job_that_may_not_gets_the_reason_of_each_entry_and_a_rule():
    explanation = explained("projects: [{id: shop/web, environments: [dev]}, {id: shop/web, refs: [release]}]")
    assert said(explanation) == [("claims", True), ("rule", False)]
    text = explanation.layers[1].said
    assert "the job's environment 'prod' is not one of the entry's" in text
    assert "the job's ref 'refs/heads/main' is not one of the entry's" in text
    assert explanation.rule == (
        "ci_access:\n  projects:\n  - id: shop/web\n    project_id: '17'\n    environments:\n    - prod\n    refs:\n    - main\n"
        "    protected_branches_only: true\n    allow:\n    - verbs:\n      - create\n      resources:\n      - pods/exec\n"
        "      namespaces:\n      - shop\n"
    )


def test_what_the_limits_do_not_cover_is_their_layer():
    explanation = explained("projects: [{id: shop/web, allow: [{verbs: [get], resources: [pods]}]}]")
    assert said(explanation) == [("claims", True), ("rule", True), ("limits", False)]
    assert "create pods/exec in namespace shop" in explanation.layers[2].said


def test_without_a_request_only_the_rules_are_asked():
    explanation = explained("projects: [{id: shop/web}]", info=None)
    assert said(explanation) == [("claims", True), ("rule", True), ("limits", None)]


@pytest.mark.parametrize(("agent", "configuration"), [(None, None), (AGENT, None)])
def test_an_agent_that_is_not_there_or_not_configured(agent, configuration):
    explanation = explain(JOB, agent, configuration, None, NOW)
    assert not explanation.is_allowed
    assert not explanation.may_know
    assert explanation.rule == ""


# The smallest rule, put into the configuration, lets in exactly this request.

CONFIGS = [
    "",
    "projects: [{id: shop/web, environments: [dev]}]",
    "projects: [{id: shop/web, allow: [{verbs: [get], resources: [pods]}]}]",
    "groups: [{id: shop, environments: [dev]}]",
    "groups: [{id: shop, allow: [{verbs: [get], resources: [pods]}]}]",
    "groups: [{id: other}], instance: {refs: [release]}",
]
CALLERS = st.builds(
    replace,
    st.just(JOB),
    issuer=st.sampled_from(["gitlab", "github"]),
    project=st.sampled_from(["shop/web", "infra/agents"]),
    project_id=st.sampled_from(["", "17"]),
    ref=st.sampled_from(["", "main"]),
    ref_type=st.sampled_from(["", "branch", "tag"]),
    ref_protected=st.booleans(),
    is_fork=st.booleans(),
    environment=st.sampled_from([None, Environment("prod"), Environment("")]),
)
REQUESTS = [
    (b"GET", b"/api/v1/namespaces/shop/pods/web-0/exec"),
    (b"PATCH", b"/apis/apps/v1/namespaces/shop/deployments/web"),
    (b"GET", b"/api/v1/nodes"),
    (b"GET", b"/metrics"),
]


@given(CALLERS, st.sampled_from(CONFIGS), st.sampled_from(REQUESTS), st.sampled_from(REQUESTS))
def test_the_smallest_rule_is_enough_and_no_more(caller, before, request, other):
    info, another = request_info(*request), request_info(*other)
    explanation = explain(caller, AGENT, config(before), info, NOW)
    if explanation.is_allowed:
        assert explanation.rule == ""
        return
    rule = read_agent_config(explanation.rule.encode(), "rule")
    merged = config(before)
    for name in ("projects", "groups"):
        source = dict(getattr(merged, name))
        for key, entries in getattr(rule, name).items():
            source[key] = (*source.get(key, ()), *entries)
        merged = replace(merged, **{name: source})

    after = decide(caller, AGENT, merged, NOW)
    assert isinstance(after, Access)
    assert isinstance(after.grant_for(info), Grant)
    was = decide(caller, AGENT, config(before), NOW)
    had = isinstance(was, Access) and isinstance(was.grant_for(another), Grant)
    if request != other and not had:
        assert isinstance(after.grant_for(another), Denial)
