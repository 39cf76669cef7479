"""What a request asks for, and what becomes of it with a grant."""

from __future__ import annotations

import pytest

from kas.access.caller import Caller
from kas.access.grants import Access, AgentRef, Candidate, Grant
from kas.errors import Unauthenticated
from kas.kubernetes_api.admission import OPEN_BODY, Judged, judge, read_wish
from kas.kubernetes_api.replies import Refusal, Refused
from kas.kubernetes_api.settings import DoorSettings
from kastunnel.http.request import RequestHead, RequestReader
from kastunnel.link.frames import AsAgent, Impersonate
from kastunnel.link.limits import NO_TIMEOUT_MS

AS_BOB = Impersonate("bob")
SETTINGS = DoorSettings(max_body_bytes=200_000)
IMPERSONATING = DoorSettings(allow_user_impersonation=True)


def read(request: bytes) -> tuple[RequestHead, RequestReader]:
    reader = RequestReader()
    reader.feed(request)
    head = reader.head()
    assert head is not None
    return head, reader


def request(target: bytes, *more: bytes, method: bytes = b"GET", body: bytes = b"") -> bytes:
    lines = [b"%b %b HTTP/1.1" % (method, target), b"Host: kas", b"Authorization: Bearer ci:7:secret", *more]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def access(identity: AsAgent | Impersonate) -> Access:
    caller = Caller(issuer="kas", project="g/p")
    grant = Grant(caller, AgentRef(7, "g/p", "prod"), identity, "", "rule", {"project": "g/p"})
    return Access(caller, grant.agent, (Candidate(None, grant),))


def judged(text: bytes, identity: AsAgent | Impersonate | None = None, settings: DoorSettings = SETTINGS) -> Judged:
    head, reader = read(text)
    return judge(head, read_wish(head), access(identity or AsAgent()), reader, settings, "r1")


@pytest.mark.covers("T3")
@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/agents/7/api/v1/pods?watch=1", b"/api/v1/pods?watch=1"),
        (b"/k8s-proxy/api/v1/pods", b"/api/v1/pods"),
        (b"/api/v1/pods", b"/api/v1/pods"),
        (b"/agents/8/api/v1/pods", Refusal.ANOTHER_AGENT),
        (b"/agents/07/api/v1/pods", Refusal.NO_SUCH_PATH),
        (b"/agents/7", Refusal.NO_SUCH_PATH),
        (b"/", Refusal.NO_SUCH_PATH),
    ],
)
def test_the_agent_in_the_path_is_the_one_in_the_token(target: bytes, expected: bytes | Refusal) -> None:
    head, _ = read(request(target))
    if isinstance(expected, Refusal):
        with pytest.raises(Refused) as caught:
            read_wish(head)
        assert caught.value.refusal is expected
    else:
        assert read_wish(head) == (7, b"secret", expected)


def test_without_a_credential_there_is_no_wish() -> None:
    head, _ = read(b"GET /api HTTP/1.1\r\nHost: kas\r\n\r\n")
    with pytest.raises(Unauthenticated):
        read_wish(head)


@pytest.mark.parametrize(
    ("identity", "settings", "fields", "expected"),
    [
        (AsAgent(), SETTINGS, [], AsAgent()),
        (AS_BOB, SETTINGS, [], AS_BOB),
        (AS_BOB, IMPERSONATING, [], AS_BOB),
        (AsAgent(), IMPERSONATING, [b"Impersonate-User: ana"], Impersonate("ana")),
        (AsAgent(), SETTINGS, [b"Impersonate-User: ana"], None),
        (AS_BOB, SETTINGS, [b"Impersonate-User: ana"], None),
        (AS_BOB, IMPERSONATING, [b"Impersonate-User: ana"], None),
        (AS_BOB, IMPERSONATING, [b"Impersonate-User: bob"], None),
        (AsAgent(), IMPERSONATING, [b"Impersonate-Group: system:masters"], None),
        (AsAgent(), IMPERSONATING, [b"Impersonate-User: a", b"Impersonate-User: b"], None),
        (AsAgent(), IMPERSONATING, [b"Impersonate-Uid: 1"], None),
    ],
)
@pytest.mark.covers("I-05", "T1", "T2")
def test_as_whom(
    identity: AsAgent | Impersonate,
    settings: DoorSettings,
    fields: list[bytes],
    expected: AsAgent | Impersonate | None,
) -> None:
    text = request(b"/api/v1/pods", *fields)
    if expected is None:
        with pytest.raises(Refused) as caught:
            judged(text, identity, settings)
        assert caught.value.refusal is Refusal.NESTED_IMPERSONATION
        return
    wanted = judged(text, identity, settings).wanted
    assert type(wanted.identity) is type(expected)
    assert wanted.identity == expected
    assert not any(name.lower().startswith(b"impersonate") for name, _ in wanted.headers)


@pytest.mark.parametrize(
    ("target", "long_running", "limit_s"),
    [
        (b"/api/v1/pods", False, 75.0),
        (b"/api/v1/pods?timeout=5s", False, 20.0),
        (b"/api/v1/pods?timeout=x", False, 75.0),
        (b"/api/v1/pods?watch=true", True, 75.0),
        (b"/api/v1/namespaces/a/pods/b/log", True, 75.0),
        (b"/api/v1/namespaces/a/services/b/proxy/x", True, 75.0),
    ],
)
def test_how_long_an_answer_may_take(target: bytes, long_running: bool, limit_s: float) -> None:
    found = judged(request(target))
    assert (found.is_long_running, found.limit_s) == (long_running, limit_s)
    assert found.wanted.timeout_ms == (NO_TIMEOUT_MS if long_running else int(limit_s * 1000))


def test_a_body_that_is_too_long_is_refused_unless_it_is_for_a_proxied_service() -> None:
    length = b"Content-Length: 200001"
    with pytest.raises(Refused) as caught:
        judged(request(b"/api/v1/namespaces/a/configmaps", length, method=b"POST"))
    assert caught.value.refusal is Refusal.BODY_TOO_LARGE
    proxied = request(b"/api/v1/namespaces/a/services/b/proxy/x", length, method=b"POST")
    assert judged(proxied).max_body is None
    chunked = request(b"/api/v1/namespaces/a/configmaps", b"Transfer-Encoding: chunked", method=b"POST")
    assert judged(chunked).max_body == 200_000


@pytest.mark.parametrize("size", [0, 5, OPEN_BODY, OPEN_BODY + 1])
def test_the_beginning_of_the_body_goes_with_the_request(size: int) -> None:
    text = request(b"/api/v1/pods", b"Content-Length: %d" % size, method=b"POST", body=b"x" * size)
    found = judged(text)
    assert found.wanted.body + found.rest == b"x" * size
    assert len(found.rest) == max(0, size - OPEN_BODY)
    assert found.wanted.end is (size <= OPEN_BODY)


def test_the_request_says_who_it_is_for_the_agents_log_and_that_it_went_through_here() -> None:
    wanted = judged(request(b"/agents/7/api/v1/pods", b"Accept: text/plain")).wanted
    assert (wanted.method, wanted.target, wanted.request_id) == (b"GET", b"/api/v1/pods", "r1")
    assert wanted.labels == {"project": "g/p"}
    names = [name.lower() for name, _ in wanted.headers]
    assert b"via" in names
    assert b"accept" in names
    assert b"authorization" not in names
    assert b"host" not in names
