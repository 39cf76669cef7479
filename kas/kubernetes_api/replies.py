"""What kas answers when a request is refused or fails on its way: the only place in this door that knows statuses and texts.

kubectl hides most bodies (a Status during discovery, text for 401, 404, 429, 503, 504) but prints ``Warning`` always, so each
reply says its sentence in both, with the hop that failed and the request id. ``Retry-After`` makes client-go repeat even
POSTs: only where the request certainly never left.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import Enum, auto
from http import HTTPStatus
from typing import NamedTuple

from kas import errors
from kas.errors import KasError
from kas.streams.tap import Failure
from kastunnel.http.errors import BadMessage
from kastunnel.link.frames import Code, Hop, Reset


class Refusal(Enum):
    """What this door refuses by itself."""

    NO_SUCH_PATH = auto()
    ANOTHER_AGENT = auto()
    NESTED_IMPERSONATION = auto()
    ORIGIN = auto()
    BODY_TOO_LARGE = auto()
    HEAD_TIMEOUT = auto()
    BODY_TIMEOUT = auto()
    ANSWER_TIMEOUT = auto()
    BAD_ANSWER = auto()
    NO_STATUS = auto()
    DRAINING = auto()


class Refused(Exception):
    """A request that this door refuses."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal)
        self.refusal = refusal


class Reply(NamedTuple):
    """``reason`` is the one that Kubernetes uses for this status, or empty."""

    status: int
    reason: str
    text: str
    lines: bytes = b""  # more of the head


_AUTHENTICATE = b"WWW-Authenticate: Bearer\r\n"
_LATER = b"Retry-After: 1\r\n"
_FORBIDDEN = "this job may not use this agent, or there is no such agent"  # one text for both: no oracle

ERRORS: Mapping[type[KasError], Reply] = {
    errors.Unauthenticated: Reply(
        401, "Unauthorized", "the token is missing, malformed, unknown, expired or revoked", _AUTHENTICATE
    ),
    errors.JobIsOver: Reply(401, "Unauthorized", "the job that this token was made for is over", _AUTHENTICATE),
    errors.AccessDenied: Reply(403, "Forbidden", _FORBIDDEN),
    errors.IssuerUnavailable: Reply(
        503, "ServiceUnavailable", "who vouches for this token cannot be asked right now; try again"
    ),
    errors.AgentNotConnected: Reply(503, "ServiceUnavailable", "the agent is not connected to kas"),
    errors.TooManyRequests: Reply(429, "TooManyRequests", "too many requests; try again", _LATER),
    errors.StoreUnavailable: Reply(503, "ServiceUnavailable", "kas cannot use its database right now; try again"),
    errors.AuditUnavailable: Reply(
        503,
        "ServiceUnavailable",
        "the audit log cannot be written, and no request may go unrecorded; try again",
        _LATER,
    ),
    KasError: Reply(500, "InternalError", "something went wrong in kas"),
}

REFUSALS: Mapping[Refusal, Reply] = {
    Refusal.NO_SUCH_PATH: Reply(
        404,
        "NotFound",
        "there is nothing at this path; the server URL of a kubeconfig ends in /agents/<id> or /k8s-proxy",
    ),
    Refusal.ANOTHER_AGENT: Reply(403, "Forbidden", "the agent in the path is not the agent in the token"),
    Refusal.NESTED_IMPERSONATION: Reply(403, "Forbidden", "impersonation (--as) is not allowed through this agent"),
    Refusal.ORIGIN: Reply(403, "Forbidden", "this web origin may not use kas"),
    Refusal.BODY_TOO_LARGE: Reply(413, "RequestEntityTooLarge", "the request body is larger than kas accepts"),
    Refusal.HEAD_TIMEOUT: Reply(408, "Timeout", "the request head did not arrive in time"),
    Refusal.BODY_TIMEOUT: Reply(408, "Timeout", "the request body did not arrive in time"),
    Refusal.ANSWER_TIMEOUT: Reply(504, "Timeout", "the API server did not answer in time; it may still be processing"),
    Refusal.BAD_ANSWER: Reply(502, "", "what came back is not an answer that may be passed on"),
    Refusal.NO_STATUS: Reply(
        502, "", "the connection was closed before the command's exit code came; the command may still be running"
    ),
    Refusal.DRAINING: Reply(503, "ServiceUnavailable", "kas is going down; try again"),
}

_BROKE = "the connection was lost before the API server answered"

RESETS: Mapping[Code, Reply] = {
    Code.CODE_UNSET: Reply(502, "", "the request failed without a reason"),
    Code.CANCELLED: Reply(502, "", "the request was cancelled on its way"),
    Code.UNSUPPORTED: Reply(502, "", "agentk does not understand this request: it must be upgraded"),
    Code.PROTOCOL: Reply(502, "", "the request was refused as malformed"),
    Code.LIMIT: Reply(502, "", "a limit was reached"),
    Code.TIMEOUT: Reply(504, "Timeout", "the API server did not answer in time; it may still be processing"),
    Code.UPSTREAM_DIAL: Reply(502, "", "the API server cannot be reached"),
    Code.UPSTREAM_TLS: Reply(502, "", "the API server's certificate is not trusted, or TLS failed"),
    Code.UPSTREAM_BROKEN: Reply(502, "", "the API server closed the connection before it answered"),
    Code.UPSTREAM_BAD: Reply(502, "", "the API server's answer may not be passed on"),
    Code.REVOKED: Reply(503, "ServiceUnavailable", "the agent's token does not count any more"),
    Code.ACCESS_ENDED: Reply(403, "Forbidden", _FORBIDDEN),
    Code.DRAINING: Reply(503, "ServiceUnavailable", "the agent is stopping"),
    Code.UNAUTHENTICATED: Reply(503, "ServiceUnavailable", "the agent is not accepted by kas any more"),
    Code.TOO_LATE: Reply(502, "", _BROKE),
    Code.SUPERSEDED: Reply(502, "", _BROKE),
    Code.INTERNAL: Reply(502, "", "something went wrong on the way"),
}

# The same, once the answer has begun.
_BEGUN: Mapping[Code, str] = {
    Code.UPSTREAM_BROKEN: "the API server closed the connection",
    **dict.fromkeys((Code.TOO_LATE, Code.SUPERSEDED), "the connection to the agent was lost"),
}

# Where a write may have happened although nothing came back: 504, which says so, instead of 502.
_MAY_HAVE_RUN = frozenset(
    {Code.CODE_UNSET, Code.CANCELLED, Code.UPSTREAM_BROKEN, Code.TOO_LATE, Code.SUPERSEDED, Code.INTERNAL}
)
_READS = frozenset({b"GET", b"HEAD"})


def for_error(error: KasError) -> Reply:
    """The reply to the nearest known class of ``error``. Its own message stays in the log, but for what the caller may know."""
    reply = next(ERRORS[kind] for kind in type(error).__mro__ if kind in ERRORS)
    if isinstance(error, errors.AccessDenied) and error.told:
        return reply._replace(text=f"this job may not do this: {error.told}")
    if isinstance(error, errors.TooManyRequests):
        later = b"Retry-After: %d\r\n" % max(1, error.retry_after_s)
        return reply._replace(text=f"too many requests: {error}" if error.args else reply.text, lines=later)
    if isinstance(error, errors.Unauthenticated) and error.args:
        return reply._replace(text=str(error))
    return reply


def for_reset(reset: Reset, method: bytes, *, begun: bool = False) -> Reply:
    """The reply; ``begun``: part of the answer was written already. The reason of the other end is said, printable and short."""
    code = reset.code if reset.code in RESETS else Code.CODE_UNSET
    reply = RESETS[code]
    text = _BEGUN.get(code, reply.text) if begun else reply.text
    if reset.reason:
        text = f"{text}: {printable(reset.reason, 200)}"
    if not begun and code in _MAY_HAVE_RUN and not reset.not_run and method not in _READS:
        return Reply(504, "Timeout", f"{text}; it may still be processing")
    return reply._replace(text=text)


def for_message(bad: BadMessage) -> Reply:
    """The reply to a message that HTTP's rules, or ours, refuse."""
    status = bad.kind.status
    return Reply(status, _REASONS.get(status, ""), bad.kind.text)


_REASONS = {400: "BadRequest", 401: "Unauthorized", 405: "MethodNotAllowed", 413: "RequestEntityTooLarge"}


def hop_name(hop: Hop, agent_id: int | None) -> str:
    """Who speaks or failed, for people."""
    agent = "agent" if agent_id is None else f"agent {agent_id}"
    if hop == Hop.AGENTK:
        return f"kas: {agent}"
    if hop == Hop.API_SERVER:
        return f"kas: {agent}: API server"
    return "kas"


def render(
    reply: Reply,
    *,
    hop: str,
    request_id: str,
    as_text: bool,
    is_head: bool,
    close: bool,
    more: bytes = b"",
) -> bytes:
    """The whole answer. ``more``: whole lines for the head. ``close``: the connection is closed after it."""
    message = printable(f"{hop}: {reply.text} (request {request_id})", 600)
    if as_text:
        kind, body = b"text/plain; charset=utf-8", message.encode()
    else:
        kind, body = b"application/json", _status_object(reply, message)
    quoted = message.replace("\\", "\\\\").replace('"', '\\"')
    head = (
        b'HTTP/1.1 %d %b\r\nContent-Type: %b\r\nContent-Length: %d\r\nWarning: 299 kas "%b"\r\nX-Request-Id: %b\r\n%b%b%b\r\n'
        % (
            reply.status,
            HTTPStatus(reply.status).phrase.encode(),
            kind,
            len(body),
            quoted.encode(),
            request_id.encode(),
            reply.lines,
            more,
            b"Connection: close\r\n" if close else b"",
        )
    )
    return head if is_head else head + body


def failure(reply: Reply, *, hop: str, request_id: str) -> Failure:
    """The same for whoever has begun to answer: a stream's error channel, a watch, a followed log."""
    message = printable(f"{hop}: {reply.text} (request {request_id})", 600)
    return Failure(message, _status_object(reply, message))


def printable(text: str, limit: int) -> str:
    """Visible ASCII and blanks, cut: nothing that a terminal obeys or a header could end with."""
    return "".join(character if " " <= character <= "~" else "?" for character in text[:limit])


def _status_object(reply: Reply, message: str) -> bytes:
    status: dict[str, object] = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
    }
    if reply.reason:
        status["reason"] = reply.reason
    status["code"] = reply.status
    return json.dumps(status, separators=(",", ":")).encode() + b"\n"
