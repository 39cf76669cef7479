"""What the audit log is told about a request: attributes as they are; rendering remembers most of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kas.audit.record import RequestRecord
from kas.metrics import Outcome
from kastunnel.http.classify import request_info

if TYPE_CHECKING:
    from kas.kubernetes_api.carried import CarriedRequest


def record_of(
    request: CarriedRequest,
    event: str,
    at: float,
    now: float,
    outcome: Outcome | None,
    reason: str = "",
    code: str = "",
    hop: str = "",
) -> RequestRecord:
    """``at``: unix seconds; ``now``: of the door's own clock."""
    head, wish, judged = request.head, request.wish, request.judged
    target = head.target if wish is None else wish.target
    upload = request.upload
    to_cluster = request.begun + (0 if upload is None else upload.sent)
    denied = request.denied
    info = None
    if judged is None and wish is not None:
        info = request_info(head.method, target)
    if judged is not None:
        info = judged.info
    return RequestRecord(
        event,
        at,
        request.request_id,
        request.connection.peer,
        head.method,
        target.partition(b"?")[0],
        head.field(b"user-agent"),
        0 if wish is None else wish.agent_id,
        request.caller,
        request.grant,
        "" if denied is None else denied.agent,
        "" if denied is None else denied.rule,
        info,
        request.status,
        outcome or "",
        reason,
        code,
        hop,
        to_cluster,
        request.sent,
        now - request.started,
    )
