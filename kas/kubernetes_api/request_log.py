"""A line for each request that an operator may care about, and a count for every one.

Never a token, a query, a body or an exec command: of the target only the path is said, of the headers two, cut and escaped.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from kas.kubernetes_api.replies import Reply
from kas.metrics import Outcome
from kastunnel.toolkit.logs import Fields, fields

if TYPE_CHECKING:
    from kas.kubernetes_api.carried import CarriedRequest
    from kas.kubernetes_api.connection import Connection
    from kas.kubernetes_api.settings import DoorSettings

log = logging.getLogger(__name__)

_MESSAGES = {
    Outcome.ANSWERED: "request answered",
    Outcome.REFUSED: "request refused",
    Outcome.FAILED: "request failed",
    Outcome.CANCELLED: "request cancelled",
}
_READS = frozenset({b"GET", b"HEAD", b"OPTIONS"})


def over(
    request: CarriedRequest, outcome: Outcome, reason: str, code: str, hop: str, settings: DoorSettings, now: float
) -> None:
    """A request is over: say so at info if it is notable or all are wanted, else at debug."""
    notable = (
        outcome is not Outcome.ANSWERED
        or settings.log_all_requests
        or request.head.method not in _READS
        or request.status >= 400
        or request.head.upgrade is not None
        or (request.answered_at - request.started > settings.slow_s and not _is_long_running(request))
    )
    if not log.isEnabledFor(level := logging.INFO if notable else logging.DEBUG):
        return
    said: Fields = _about(request)
    said["bytes_out"] = request.sent
    said["duration_ms"] = round((now - request.started) * 1000, 1)
    if reason:
        said["reason"] = reason
    if code:
        said["code"] = code
    if hop:
        said["hop"] = hop
    log.log(level, _MESSAGES[outcome], extra=fields(**said))


def switched(request: CarriedRequest) -> None:
    """An upgrade has begun; it may last for hours before ``over`` says more."""
    log.info("connection upgraded", extra=fields(**_about(request)))


def unread(connection: Connection, reply: Reply, detail: str, request_id: str) -> None:
    """Something came that is not a request."""
    said = fields(peer=connection.peer, request_id=request_id, status=reply.status, reason=reply.text, error=detail)
    log.info("bad request", extra=said)


def _is_long_running(request: CarriedRequest) -> bool:
    return request.judged is not None and request.judged.is_long_running


def _about(request: CarriedRequest) -> Fields:
    head = request.head
    target = head.target if request.wish is None else request.wish.target
    said: Fields = {
        "request_id": request.request_id,
        "peer": request.connection.peer,
        "method": head.method.decode(),
        "path": target.partition(b"?")[0].decode("ascii"),
        "status": request.status,
    }
    if request.wish is not None:
        said["agent_id"] = request.wish.agent_id
    if (caller := request.caller) is not None:
        said["project"] = caller.project
        said["caller"] = str(caller)
    if (grant := request.grant) is not None:
        said["agent"] = str(grant.agent)
        said["rule"] = grant.rule
    if request.judged is not None and (info := request.judged.info) is not None and info.is_resource_request:
        said["verb"] = info.verb
        said["resource"] = f"{info.resource}/{info.subresource}" if info.subresource else info.resource
        said["namespace"] = info.namespace
    if agent := head.field(b"user-agent"):
        said["user_agent"] = agent.decode("latin-1")
    if command := head.field(b"kubectl-command"):
        said["command"] = command.decode("latin-1")
    return said
