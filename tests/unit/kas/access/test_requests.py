"""What `allow` lets through: by what a request does, not by how it is sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kas.access.caller import Caller
from kas.access.grants import MAX_JUDGED, MAX_JUDGED_PATH, Access, AgentRef, Candidate, Denial, Grant
from kas.access.requests import action_of, allows
from kas.agent_config.entries import Allow
from kas.agent_config.schema import read_agent_config
from kastunnel.http.classify import request_info
from kastunnel.link.frames import AsAgent

READ_ONLY = "{verbs: [get, list, watch], resources: ['*']}"
P = "/api/v1/namespaces/dev/pods"
D = "/apis/apps/v1/namespaces/dev/deployments"
CALLER = Caller(issuer="kas", project="a/b")
AGENT = AgentRef(7, "infra/agents", "prod")
GRANT = Grant(CALLER, AGENT, AsAgent(), "", "line 3")


def items(text: str) -> tuple[Allow, ...]:
    config = read_agent_config(f"ci_access: {{projects: [{{id: a/b, allow: [{text}]}}]}}".encode(), "f")
    allow = config.projects["a/b"][0].allow
    assert allow is not None
    return allow


CASES = [
    # Resources
    ("{verbs: [get], resources: [pods]}", "GET", f"{P}/a", True),
    ("{verbs: [get], resources: [pods]}", "GET", P, False),  # list
    ("{verbs: [list], resources: [pods]}", "GET", P, True),
    ("{verbs: [list], resources: [pods]}", "GET", f"{P}?watch=1", False),
    ("{verbs: [watch], resources: [pods]}", "GET", f"{P}?watch=1", True),
    ("{verbs: [watch], resources: [pods]}", "GET", "/api/v1/watch/namespaces/dev/pods", True),
    ("{verbs: [get], resources: [pods]}", "GET", f"{P}/a/log", False),
    ("{verbs: [get], resources: [pods/log]}", "GET", f"{P}/a/log", True),
    ("{verbs: [get], resources: [pods/log]}", "GET", f"{P}/a", False),
    ("{verbs: [get], resources: ['pods/*']}", "GET", f"{P}/a/log", True),
    ("{verbs: [get], resources: ['pods/*']}", "GET", f"{P}/a", False),
    ("{verbs: [get], resources: ['*/log']}", "GET", f"{P}/a/log", True),
    ("{verbs: [get], resources: ['*']}", "GET", f"{P}/a/log", True),
    ("{verbs: [patch], resources: [deployments]}", "PATCH", f"{D}/a", True),
    ("{verbs: [patch], resources: [deployments.apps]}", "PATCH", f"{D}/a", True),
    ("{verbs: [patch], resources: [deployments.extensions]}", "PATCH", f"{D}/a", False),
    ("{verbs: [patch], resources: ['*.apps']}", "PATCH", f"{D}/a/scale", True),
    ("{verbs: [patch], resources: ['*.apps']}", "PATCH", f"{P}/a", False),
    ("{verbs: [patch], resources: [deployments.apps/scale]}", "PATCH", f"{D}/a/scale", True),
    ("{verbs: ['*'], resources: [pods]}", "DELETE", P, True),
    ("{verbs: [delete], resources: [pods]}", "DELETE", P, False),  # deletecollection
    # Namespaces
    ("{verbs: [get], resources: [pods], namespaces: [dev]}", "GET", f"{P}/a", True),
    ("{verbs: [get], resources: [pods], namespaces: [prod]}", "GET", f"{P}/a", False),
    ("{verbs: [get], resources: [pods], namespaces: ['d*']}", "GET", f"{P}/a", True),
    ("{verbs: [list], resources: [pods], namespaces: [dev]}", "GET", "/api/v1/pods", False),
    ("{verbs: [list], resources: [pods]}", "GET", "/api/v1/pods", True),
    ("{verbs: [get], resources: [nodes], namespaces: ['*']}", "GET", "/api/v1/nodes/a", False),
    ("{verbs: [get], resources: [namespaces], namespaces: [dev]}", "GET", "/api/v1/namespaces/dev", True),
    ("{verbs: [get], resources: [namespaces], namespaces: [dev]}", "GET", "/api/v1/namespaces/prod", False),
    # Sessions and proxies, however they are sent
    (READ_ONLY, "GET", f"{P}/a/exec?command=sh", False),
    (READ_ONLY, "POST", f"{P}/a/exec?command=sh", False),
    (READ_ONLY, "GET", f"{P}/a/attach", False),
    (READ_ONLY, "GET", f"{P}/a/portforward", False),
    (READ_ONLY, "GET", f"{P}/a/proxy/", False),
    (READ_ONLY, "GET", "/api/v1/nodes/n/proxy/exec/dev/a/c", False),
    (READ_ONLY, "GET", "/api/v1/proxy/namespaces/dev/pods/a", False),
    (READ_ONLY, "HEAD", f"{P}/a", True),
    ("{verbs: [get, create], resources: [pods/exec]}", "GET", f"{P}/a/exec", True),
    ("{verbs: [get], resources: [pods/exec]}", "GET", f"{P}/a/exec", False),
    ("{verbs: [proxy], resources: [services/proxy]}", "GET", "/api/v1/namespaces/dev/services/s/proxy/x", True),
    ("{verbs: [create], resources: [services/proxy]}", "POST", "/api/v1/namespaces/dev/services/s/proxy/x", False),
    # Paths
    ("{verbs: [get], paths: [/metrics]}", "GET", "/metrics", True),
    ("{verbs: [get], paths: [/metrics]}", "GET", "/metrics/x", False),
    ("{verbs: [get], paths: ['/logs/*']}", "GET", "/logs/a/b", True),
    ("{verbs: [get], paths: ['/*']}", "GET", f"{P}/a", False),
    (READ_ONLY, "GET", "/metrics", False),
    # What every client begins with
    ("{verbs: [get], resources: [pods]}", "GET", "/api", True),
    ("{verbs: [get], resources: [pods]}", "GET", "/apis/apps/v1", True),
    ("{verbs: [get], resources: [pods]}", "GET", "/openapi/v3/apis/apps/v1?hash=1", True),
    ("{verbs: [get], resources: [pods]}", "GET", "/version", True),
    ("{verbs: [get], resources: [pods]}", "GET", "/readyz/ping", True),
    ("{verbs: [get], resources: [pods]}", "POST", "/apis", False),
    ("{verbs: [get], resources: [pods]}", "GET", "/versions", False),
    ("{verbs: [get], resources: [pods]}", "GET", "/debug/pprof/", False),
    ("{verbs: [get], resources: [pods]}", "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", True),
    ("{verbs: [get], resources: [pods]}", "POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", False),
    ("{verbs: [get], resources: [pods]}", "POST", "/apis/evil.example.com/v1/selfsubjectaccessreviews", False),
]


@pytest.mark.covers("Z-05", "T14", "T15")
@pytest.mark.parametrize(("text", "method", "target", "expected"), CASES)
def test_case(text, method, target, expected):
    assert allows(items(text), action_of(request_info(method.encode(), target.encode()))) is expected


def test_what_kubernetes_itself_cannot_classify_is_not_allowed():
    everything = Candidate(items("{verbs: ['*'], resources: ['*']}, {verbs: ['*'], paths: ['/*']}"), GRANT)
    assert isinstance(Access(CALLER, AGENT, (everything,)).grant_for(None), Denial)
    assert Access(CALLER, AGENT, (everything, Candidate(None, GRANT))).grant_for(None) is GRANT


@given(st.lists(st.tuples(st.sampled_from(CASES), st.sampled_from(["a", "b", "x" * 300])), max_size=12))
def test_what_an_access_remembers_changes_no_verdict(asked):
    entries = [Candidate(items(text), Grant(CALLER, AGENT, AsAgent(), "", text)) for text, *_ in CASES[::3]]
    access = Access(CALLER, AGENT, tuple(entries))
    for (_, method, target, _), name in asked:
        info = request_info(method.encode(), f"{target}/{name}".encode())
        anew = Access(CALLER, AGENT, tuple(entries)).grant_for(info)
        assert access.grant_for(info) == anew


def test_an_access_remembers_a_bounded_number_of_kinds():
    access = Access(CALLER, AGENT, (Candidate(items("{verbs: [get], resources: [pods]}"), GRANT),))
    for number in range(10 * MAX_JUDGED):
        access.grant_for(request_info(b"GET", b"/api/v1/namespaces/n%d/pods/a" % number))
        access.grant_for(request_info(b"GET", b"/api/v1/namespaces/%d/pods/a" % 10 ** (MAX_JUDGED_PATH + number)))
        assert len(access._judged) <= MAX_JUDGED
        assert all(len(str(part)) < MAX_JUDGED_PATH for kind in access._judged for part in kind)


def test_everything_is_everything():
    everything = items("{verbs: ['*'], resources: ['*']}, {verbs: ['*'], paths: ['/*']}")
    for _, method, target, _ in CASES:
        info = request_info(method.encode(), target.encode())
        assert info is None or allows(everything, action_of(info))


@given(st.sampled_from(CASES), st.sampled_from(CASES))
def test_one_more_item_never_takes_anything_away(case, more):
    text, method, target, _ = case
    info = request_info(method.encode(), target.encode())
    assert not allows(items(text), action_of(info)) or allows(items(f"{text}, {more[0]}"), action_of(info))


@pytest.mark.parametrize(
    ("method", "target", "said"),
    [
        ("GET", f"{P}/a", "get pods in namespace dev"),
        ("PATCH", f"{D}/a/scale", "patch deployments.apps/scale in namespace dev"),
        ("GET", f"{P}/a/exec", "create pods/exec in namespace dev"),
        ("GET", "/api/v1/nodes", "list nodes"),
        ("GET", "/metrics", "get /metrics"),
    ],
)
def test_an_action_reads_as_a_person_would_say_it(method, target, said):
    info = request_info(method.encode(), target.encode())
    assert info is not None
    assert str(action_of(info)) == said
