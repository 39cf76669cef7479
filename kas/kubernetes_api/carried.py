"""One request of a client: what is known about it so far, and every way in which it can end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from kas.access.caller import Caller
from kas.access.grants import Access, Grant
from kas.errors import AccessDenied, KasError
from kas.kubernetes_api import origins, replies
from kas.kubernetes_api.admission import Judged, Wish
from kas.kubernetes_api.answer import Answer, Framing
from kas.kubernetes_api.last_words import LastWords
from kas.kubernetes_api.paths import cut, wants_text
from kas.kubernetes_api.replies import Refusal, Refused, Reply
from kas.kubernetes_api.upload import Upload
from kas.limits.limits import Ticket
from kas.metrics import Outcome
from kas.streams.tap import Tap
from kastunnel.http.errors import BadMessage
from kastunnel.http.request import RequestHead
from kastunnel.link.frames import Code, Hop
from kastunnel.link.handler import Exchange

if TYPE_CHECKING:
    from kas.kubernetes_api.connection import Connection


class CarriedRequest:
    """Owned by its connection until the answer is written or has failed; after ``is_over`` nothing more happens to it."""

    # Only what most requests need is set when it is made: these are the defaults of the rest.
    wish: Wish | None = None
    caller: Caller | None = None  # also of a request that was denied
    access: Access | None = None
    denied: AccessDenied | None = None
    grant: Grant | None = None
    ticket: Ticket | None = None  # of the limits, until the request is over
    judged: Judged | None = None
    is_recorded = True  # in the audit log, when it is over
    exchange: Exchange | None = None
    upload: Upload | None = None
    answer: Answer | None = None  # set when the head of the answer has been written
    task: asyncio.Task[None] | None = None
    tap: Tap | None = None  # of exec and attach, once they are a stream
    withheld: list[bytes] | None = None  # of an upgraded stream, until the client has taken the 101
    answered_at = 0.0
    status = 0
    begun = 0  # bytes of the body that left for the cluster with Open; the rest is counted by ``upload``
    sent = 0
    owed = 0  # written bytes that are credited when the client has read
    last_words: LastWords | None = None  # of an answer into which a failure may be written
    at_line_end = True  # of such an answer
    is_retried = False
    is_over = False
    is_orphan = False  # an upgraded stream whose client has gone

    def __init__(self, connection: Connection, head: RequestHead) -> None:
        door = connection.door
        self.connection = connection
        self.door = door
        self.head = head
        self.request_id = door.next_request_id()
        self.started = door.clock()

    def __repr__(self) -> str:
        agent = self.wish.agent_id if self.wish else None
        return f"<Relay {self.request_id} agent={agent} {self.head.method.decode()} status={self.status} over={self.is_over}>"

    def _refuse(self, error: Refused | KasError) -> None:
        reply = replies.REFUSALS[error.refusal] if isinstance(error, Refused) else replies.for_error(error)
        outcome = Outcome.FAILED if reply.status >= 500 else Outcome.REFUSED
        reason = ""
        if isinstance(error, AccessDenied):
            reason = error.why
            self.denied = error
            if isinstance(error.caller, Caller):
                self.caller = error.caller
        self._fail(reply, outcome, Code.CANCELLED, "kas", reason)

    def _refuse_message(self, bad: BadMessage) -> None:
        """The body breaks the rules of HTTP."""
        self.door.metrics.requests.bad_requests.value += 1
        self._fail(replies.for_message(bad), Outcome.REFUSED, Code.CANCELLED, "kas", bad.detail, spoilt=True)

    def _refuse_answer(self, detail: str) -> None:
        reply = replies.REFUSALS[Refusal.BAD_ANSWER]
        self._fail(reply, Outcome.FAILED, Code.PROTOCOL, self._hop(Hop.AGENTK), detail)

    def _hop(self, hop: Hop) -> str:
        return replies.hop_name(hop, self.wish.agent_id if self.wish is not None else None)

    def _fail(
        self,
        reply: Reply,
        outcome: Outcome,
        code: Code,
        hop: str,
        reason: str = "",
        name: str = "",
        *,
        spoilt: bool = False,
    ) -> None:
        """Say ``reply`` if nothing was said yet, else break the connection: a failure must never look like an end."""
        if self.is_over:
            return
        if self.task is not None and self.task is not asyncio.current_task():
            self.task.cancel()
        if (exchange := self.exchange) is not None:
            self.exchange = None
            exchange.reset(code, reply.text, hop=Hop.ENTRY)
        connection = self.connection
        answer = self.answer
        if answer is None:
            self.status = reply.status
            keep_alive = self._say(reply, hop, spoilt=spoilt)
            self._over(outcome, reason or reply.text, name or reply.reason, hop)
            connection.finished(keep_alive=keep_alive)
        else:
            self._over(outcome, reason or reply.text, name or reply.reason, hop)
            connection.relay = None
            if (words := self.last_words) is not None and answer.framing is Framing.CHUNKED:
                said = words.said(reply, hop=hop, request_id=self.request_id, at_line_end=self.at_line_end)
                connection.write(answer.encode(said) if said else b"")
            elif self.tap is not None:
                told = self.tap.failure(replies.failure(reply, hop=hop, request_id=self.request_id))
                connection.write(told)
                if told and self.tap.settle_s:
                    connection.close_later(self.tap.settle_s)
                    return
            answer.break_off(connection)

    def _say(self, reply: Reply, hop: str, *, spoilt: bool) -> bool:
        """Write the reply; whether the connection may live on."""
        head = self.head
        reader = self.connection.reader
        keep_alive = head.keep_alive and reader.complete and not spoilt and head.upgrade is None
        keep_alive = keep_alive and not self.door.is_draining
        foreign = reply is replies.REFUSALS[Refusal.ORIGIN]
        self.connection.write(
            replies.render(
                reply,
                hop=hop,
                request_id=self.request_id,
                as_text=head.upgrade is None and wants_text(cut(head.target), head.field(b"accept")),
                is_head=head.method == b"HEAD",
                close=not keep_alive,
                more=b"" if head.origin is None or foreign else origins.lines(head),
            )
        )
        return keep_alive

    def _answer_options(self) -> None:
        head = self.head
        keep_alive = head.keep_alive and self.connection.reader.complete
        self.status = 204
        more = origins.ALLOW + origins.lines(head, preflight=True)
        close = b"" if keep_alive else b"Connection: close\r\n"
        head_bytes = b"HTTP/1.1 204 No Content\r\n%bX-Request-Id: %b\r\n%b\r\n" % (
            more,
            self.request_id.encode(),
            close,
        )
        self.connection.write(head_bytes)
        self._over(Outcome.ANSWERED)
        self.connection.finished(keep_alive=keep_alive)

    def _over(self, outcome: Outcome, reason: str = "", code: str = "", hop: str = "") -> None:
        self.is_over = True
        self.task = None
        if (ticket := self.ticket) is not None:
            self.ticket = None
            ticket.leave()
        self.door.over(self, outcome, reason, code, hop)  # type: ignore[arg-type]  # a Relay is the only one there is
