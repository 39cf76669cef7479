"""What a record says, and what nobody can make it say."""

from __future__ import annotations

import json

import pytest

from kas.audit.record import EventRecord, Renderer
from kastunnel.http.classify import request_info
from tests.unit.kas.audit.samples import request


def test_a_record_says_who_did_what_as_whom_and_with_what_result():
    said = json.loads("{" + Renderer().fields(request()) + "}")
    assert said == {
        "time": "2027-01-15T08:00:00.250Z",
        "event": "request",
        "request_id": "r1",
        "peer": "10.0.0.1:5",
        "agent_id": 7,
        "issuer": "gitlab",
        "project": "shop/web",
        "project_id": "17",
        "ref": "refs/heads/main",
        "environment": "prod",
        "pipeline": "11",
        "job": "12",
        "user": "ana",
        "agent": "infra/agents:prod",
        "rule": "ci_access.projects[0], line 3",
        "acts_as": "ci:deployer",
        "acts_in_groups": ["ci"],
        "method": "GET",
        "verb": "create",
        "resource": "pods",
        "subresource": "exec",
        "namespace": "shop",
        "name": "web-0",
        "outcome": "answered",
        "status": 101,
        "bytes_to_cluster": 10,
        "bytes_from_cluster": 2000,
        "duration_ms": 1500.0,
        "client": "kubectl/v1.33",
    }


@pytest.mark.covers("S-20")
@pytest.mark.parametrize("text", ['a"b', "a\r\nb", "a\x1b[31m", "a\\", "é\u2028", "x" * 10_000, "\ud800"])
def test_what_a_client_says_cannot_leave_its_place(text):
    raw = text.encode("utf-8", "surrogatepass")
    line = Renderer().fields(request(client=raw, reason=text, path=b"/" + raw, info=None))
    assert line.isascii()
    assert "\n" not in line
    said = json.loads("{" + line + "}")
    assert said["client"] == raw.decode("latin-1")[:256]
    assert said["path"] == ("/" + raw.decode("latin-1"))[:256]
    assert len(line) < 3000


def test_a_denied_request_says_what_it_was_for():
    said = json.loads("{" + Renderer().fields(request(grant=None, denied_agent="a/b:c", denied_rule="line 3")) + "}")
    assert (said["agent"], said["rule"], "acts_as" in said) == ("a/b:c", "line 3", False)


def test_a_request_that_was_not_understood_has_its_method_and_path():
    said = json.loads(
        "{" + Renderer().fields(request(info=None, caller=None, grant=None, agent_id=0, path=b"/x")) + "}"
    )
    assert (said["method"], said["path"]) == ("GET", "/x")
    assert "project" not in said


def test_an_event_says_values_of_every_kind():
    line = Renderer().fields(
        EventRecord("e", 0.0, {"text": 'a"b', "number": 5, "part": 1.5, "yes": True, "nothing": None})
    )
    assert json.loads("{" + line + "}") == {
        "time": "1970-01-01T00:00:00.000Z",
        "event": "e",
        "text": 'a"b',
        "number": 5,
        "part": 1.5,
        "yes": True,
        "nothing": None,
    }


def test_what_one_request_asks_for_is_never_said_of_another():
    renderer = Renderer()
    path = b"/api/v1/namespaces/shop/secrets"
    for query in (
        b"?fieldSelector=metadata.name%3Dharmless",
        b"?fieldSelector=metadata.name%3Dadmin",
        b"",
        b"?watch=1",
    ):
        asked = request(method=b"GET", path=path, info=request_info(b"GET", path + query))
        assert renderer.fields(asked) == Renderer().fields(asked)
