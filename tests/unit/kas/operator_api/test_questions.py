"""The words of `kas explain`, and which request they stand for."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from kas.access.requests import action_of
from kas.operator_api.questions import Question


def ask(**words) -> Question:
    return Question.model_validate({"agent": "a/b:c", "token": "t", **words})


@pytest.mark.parametrize(
    ("words", "action"),
    [
        ({"verb": "get", "resource": "pods", "namespace": "shop"}, "get pods in namespace shop"),
        ({"verb": "get", "resource": "pods/web-0", "namespace": "shop"}, "get pods in namespace shop"),
        ({"verb": "create", "resource": "pods/exec"}, "create pods/exec"),
        ({"verb": "get", "resource": "pods/exec/web-0"}, "create pods/exec"),
        ({"verb": "patch", "resource": "deployments/web"}, "patch deployments.apps"),
        ({"verb": "patch", "resource": "deployments.apps/scale/web"}, "patch deployments.apps/scale"),
        ({"verb": "list", "resource": "widgets.example.com"}, "list widgets.example.com"),
        ({"verb": "get", "resource": "/metrics"}, "get /metrics"),
        ({"method": "get", "path": "/api/v1/namespaces/shop/pods?watch=1"}, "watch pods in namespace shop"),
        ({"method": "POST", "path": "/apis/batch/v1/namespaces/shop/jobs"}, "create jobs.batch in namespace shop"),
    ],
)
def test_words_stand_for_a_request(words, action):
    info = ask(**words).request
    assert info is not None
    assert str(action_of(info)) == action


def test_a_name_is_kept():
    info = ask(verb="get", resource="pods/exec/web-0").request
    assert info is not None
    assert (info.subresource, info.name) == ("exec", "web-0")


def test_no_words_are_no_request():
    assert ask().request is None


@pytest.mark.parametrize(
    "words",
    [
        {"caller": {"project": "a/b"}},
        {"token": ""},
        {"verb": "get"},
        {"resource": "pods"},
        {"method": "GET"},
        {"path": "/api"},
        {"method": "GET", "path": "/api", "verb": "get", "resource": "pods"},
        {"agent": ""},
        {"unknown": "x"},
        {"token": "", "caller": {"project": "alone"}},
        {"token": "", "caller": {"project": "a/b", "is_fork": "yes"}},
    ],
)
def test_a_question_that_cannot_be_meant_is_refused(words):
    with pytest.raises(ValidationError):
        ask(**words)


@pytest.mark.parametrize("path", ["api", "/api/v1/watch", "/ä"])
def test_a_path_that_is_none_is_refused(path):
    with pytest.raises(ValueError, match="path"):
        _ = ask(method="GET", path=path).request


def test_a_described_job_is_a_caller():
    question = ask(token="", caller={"project": "a/b", "environment": "prod", "group_ids": ["5"], "issuer": "github"})
    assert question.caller is not None
    caller = question.caller.caller(is_public=True, speaks_gitlab=False)
    assert (caller.issuer, caller.project, caller.group_ids, caller.is_public_issuer) == ("github", "a/b", ("5",), True)
    assert caller.environment is not None
    assert caller.environment.name == "prod"
