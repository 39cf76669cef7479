"""One request from its head to the end of its answer: judged, opened on a link, and the answer written as it comes.

The fast path is synchronous: head, grant from the gate's memory, Open on the link; then one write per frame of the answer. Only
what is not known yet (a token, a link) costs a task, owned by the door.
"""

from __future__ import annotations

from kas.access.grants import Access
from kas.errors import AccessDenied, AuditUnavailable, KasError, TooManyRequests
from kas.kubernetes_api import admission, origins, replies
from kas.kubernetes_api.admission import Judged, Wish
from kas.kubernetes_api.answer import Answer, BadAnswer, Framing
from kas.kubernetes_api.carried import CarriedRequest
from kas.kubernetes_api.last_words import last_words_of
from kas.kubernetes_api.replies import Refusal, Refused
from kas.kubernetes_api.upload import Upload
from kas.kubernetes_api.waiting import Waiting
from kas.limits.limits import NoTurn
from kas.limits.sharing import Turns
from kas.metrics import Outcome
from kas.streams.choosing import tap_of
from kastunnel.http.errors import BadMessage
from kastunnel.link.frames import Code, Head, Hop, Reset
from kastunnel.link.handler import Exchange

PIPE_LINGER_S = 0.5  # what a client said before it closed an upgraded connection may still arrive for so long
SPDY_FIRST_S = 0.1  # SPDY clients lose what comes in the same read as the 101; they speak first, or we wait so long
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_PIPE = Framing.PIPE
_CHUNKED = Framing.CHUNKED


class Relay(CarriedRequest):
    """Carries one request; also the link's Handler for it. Owned by its connection until the answer is written or fails."""

    # Before the link

    def start(self) -> None:
        """Judge the request and open it; what cannot be decided at once goes on in a task."""
        head = self.head
        door = self.door
        try:
            if door.audit is not None and door.audit.refuses:
                self.is_recorded = False  # or those that are refused would fill the queue
                raise AuditUnavailable
            if head.origin is not None:
                admission.check_origin(head, door.settings)
            if head.method == b"OPTIONS":
                self._answer_options()
                return
            wish = self.wish = admission.read_wish(head, self.connection.read_credential)
            access = door.gate.admitted(wish.agent_id, wish.token)
            if access is None:
                self.connection.wait_for(Waiting.ANSWER, door.settings.response_head_s)
                self.task = door.tasks.spawn(self._ask(wish), name="admit")
            else:
                self._enter(wish, self._judge(wish, access))
        except (Refused, KasError) as error:
            self._refuse(error)
        except BadMessage as bad:
            self._refuse_message(bad)

    async def _ask(self, wish: Wish) -> None:
        try:
            with self.door.limits.asking(self.connection.peer, wish.token):
                access = await self.door.gate.admit(wish.agent_id, wish.token)
            self._enter(wish, self._judge(wish, access))
        except (Refused, KasError) as error:
            self._refuse(error)
        except BadMessage as bad:
            self._refuse_message(bad)

    def _judge(self, wish: Wish, access: Access) -> Judged:
        self.access = access
        self.caller = access.caller
        connection = self.connection
        door = self.door
        if not connection.is_authenticated:
            door.authenticated(connection)
        judged = self.judged = admission.judge(
            self.head, wish, access, connection.reader, door.settings, self.request_id
        )
        self.grant = judged.grant
        return judged

    def _enter(self, wish: Wish, judged: Judged) -> None:
        """Dispatch within the limits, or wait for a turn in a task. Raises KasError."""
        entry = self.door.limits.enter(judged.grant, wish.token, is_stream=judged.is_long_running)
        if isinstance(entry, NoTurn):
            self.connection.wait_for(Waiting.ANSWER, self.door.settings.response_head_s)
            self.task = self.door.tasks.spawn(self._await_turn(entry.turns, judged), name="await turn")
        else:
            self.ticket = entry
            self._dispatch(judged)

    async def _await_turn(self, turns: Turns, judged: Judged) -> None:
        limits, metrics = self.door.limits, self.door.metrics.limits
        came = self.door.clock()
        try:
            try:
                await turns.wait((judged.grant.caller.issuer, judged.grant.caller.project), limits.settings.wait_s)
            except TooManyRequests:
                metrics.busy.value += 1
                raise
            self.ticket = turns
            metrics.waited.observe(self.door.clock() - came)
            self._dispatch(judged)
        except KasError as error:
            self._refuse(error)

    def _dispatch(self, judged: Judged) -> None:
        """Open the request on a link, or wait for one in a task. Raises KasError."""
        wish = self.wish
        if wish is None:
            return
        exchange = self.door.upstream.open(wish.agent_id, judged.wanted, self)
        if exchange is None:
            self.connection.wait_for(Waiting.ANSWER, self.door.settings.response_head_s)
            self.task = self.door.tasks.spawn(self._await_link(wish.agent_id, judged), name="await link")
        else:
            self._opened(exchange, judged)

    async def _await_link(self, agent_id: int, judged: Judged) -> None:
        try:
            exchange = None
            while exchange is None:
                await self.door.upstream.wait(agent_id)
                exchange = self.door.upstream.open(agent_id, judged.wanted, self)
            self._opened(exchange, judged)
        except KasError as error:
            self._refuse(error)

    def _opened(self, exchange: Exchange, judged: Judged) -> None:
        self.exchange = exchange
        self.task = None
        wanted = judged.wanted
        if wanted.body:
            self.begun = len(wanted.body) + len(judged.rest)
            self.door.metrics.requests.to_cluster.value += self.begun
        if not wanted.end:
            upload = self.upload = Upload(self.connection, exchange, judged.max_body, is_pipe=wanted.upgrade)
            if judged.rest:
                exchange.send(judged.rest)
            if self.head.expect_continue and not wanted.body:
                self.connection.write(_CONTINUE)
            if not upload.is_waiting:
                self._pump(upload)
                return
        self._await_head(judged)

    def _await_head(self, judged: Judged) -> None:
        if judged.is_long_running:
            self.connection.wait_for_nothing()
        else:
            self.connection.wait_for(Waiting.ANSWER, judged.limit_s)

    # The client's side

    def on_body_arrived(self) -> None:
        """The reader has more."""
        if self.withheld is not None:
            self._release()
        if (upload := self.upload) is not None and upload.is_open and not self.is_over:
            self._pump(upload)

    def _pump(self, upload: Upload) -> None:
        try:
            upload.pump()
        except Refused as refused:
            self._refuse(refused)
            return
        except BadMessage as bad:
            self._refuse_message(bad)
            return
        connection = self.connection
        judged = self.judged
        if judged is None or (self.answer is not None and self.answer.framing is _PIPE) or connection.is_write_paused:
            return
        if not upload.is_open:
            if self.answer is None:
                self._await_head(judged)
            else:
                connection.wait_for_nothing()
        elif not upload.is_starved:
            connection.wait_for(Waiting.BODY, self.door.settings.body_idle_s)
        elif judged.is_long_running:
            connection.wait_for_nothing()
        else:
            connection.wait_for(Waiting.ANSWER, self.door.settings.write_stall_s)

    def on_write_paused(self) -> None:
        """The client does not read: credit stops, and so does the sender."""
        judged = self.judged
        if judged is not None and not judged.is_long_running and self.answer is not None:
            self.connection.wait_for(Waiting.READER, self.door.settings.write_stall_s)

    def on_writable(self) -> None:
        """The client has read."""
        if self.owed and self.exchange is not None:
            self.exchange.consumed(self.owed)
            self.owed = 0
        if self.connection.waiting is Waiting.READER:
            self.connection.wait_for_nothing()

    def on_client_gone(self) -> None:
        """The connection is closed: cancel what goes on for it."""
        if self.is_over:
            return
        if self.task is not None:
            self.task.cancel()
        exchange = self.exchange
        if exchange is not None:
            if self.answer is not None and self.answer.framing is _PIPE:
                self.is_orphan = True
                exchange.end()
                self.door.adopt(self, self.door.clock() + PIPE_LINGER_S)
                return
            exchange.reset(Code.CANCELLED, "the client has gone", hop=Hop.CALLER)
        self._over(Outcome.CANCELLED, "the client has gone", Code.CANCELLED.name, "caller")

    def on_deadline(self, waiting: Waiting) -> None:
        """The time for something is over."""
        if waiting is Waiting.BODY:
            self._refuse(Refused(Refusal.BODY_TIMEOUT))
        elif waiting is Waiting.READER:
            if self.exchange is not None:
                self.exchange.reset(Code.TIMEOUT, "the client does not read", hop=Hop.CALLER)
            self._over(Outcome.CANCELLED, "the client does not read", Code.TIMEOUT.name, "caller")
            self.connection.relay = None
            self.connection.abort()
        else:
            reply = replies.REFUSALS[Refusal.ANSWER_TIMEOUT]
            self._fail(reply, Outcome.FAILED, Code.TIMEOUT, self._hop(Hop.AGENTK))

    def end_orphan(self) -> None:
        """The client of this upgraded stream has been gone for long enough."""
        if self.exchange is not None and not self.is_over:
            self.exchange.reset(Code.CANCELLED, "the client has gone", hop=Hop.CALLER)
            self._over(Outcome.ANSWERED)

    def recheck(self, access: Access) -> None:
        """Go on if the newest ``access`` gives this request the same identity as before; else end it, also in its midst."""
        if access is self.access or self.judged is None or self.grant is None:
            return
        try:
            grant = admission.granted(access, self.judged.info)
            if grant.identity != self.grant.identity:
                raise AccessDenied(why=f"{access.caller}: the request would now act as somebody else ({grant.rule})")
            self.access = access
        except AccessDenied as denied:
            self.end_access(denied)

    def end_access(self, error: KasError) -> None:
        """What this request was granted holds no longer."""
        self._fail(replies.for_error(error), Outcome.REFUSED, Code.ACCESS_ENDED, "kas")

    def end_now(self) -> None:
        """kas is going down."""
        self._fail(replies.REFUSALS[Refusal.DRAINING], Outcome.FAILED, Code.DRAINING, "kas")

    # The link's side: kastunnel.link.handler.Handler

    def on_head(self, head: Head) -> None:
        """The API server has answered."""
        if self.is_over:
            return
        connection = self.connection
        door = self.door
        request = self.head
        upgrade_refused = request.upgrade is not None
        keep_alive = request.keep_alive and connection.reader.complete and not upgrade_refused and not door.is_draining
        more = origins.lines(request) if request.origin is not None else b""
        try:
            answer, data = Answer.begin(head, request, self.request_id, more, keep_alive=keep_alive)
        except (BadAnswer, BadMessage) as bad:
            self._refuse_answer(str(bad))
            return
        self.answer = answer
        self.status = head.status
        now = self.answered_at = door.clock()
        door.observe_head(now - self.started)
        connection.write(data)
        if head.end:
            count = len(head.body)
            self.sent = count
            door.metrics.requests.from_cluster.value += count
            self._complete()
            return
        if answer.framing is _PIPE:
            self._switched(head)
            return
        if (judged := self.judged) is not None and judged.is_long_running:
            self.last_words = last_words_of(judged.info, judged.wanted.target, head)
            self.at_line_end = not head.body or head.body.endswith(b"\n")
        if head.body:
            self._wrote(len(head.body))
        if (self.upload is None or not self.upload.is_open) and connection.waiting is Waiting.ANSWER:
            connection.wait_for_nothing()

    def on_data(self, data: bytes) -> None:
        """A piece of the answer's body."""
        if self.is_over or self.is_orphan:
            if self.exchange is not None:
                self.exchange.consumed(len(data))
            return
        answer = self.answer
        if answer is None:
            self._refuse_answer("data before the head")
            return
        if self.withheld is not None:
            self.withheld.append(data)
            return
        if (tap := self.tap) is not None:
            self.connection.write(tap.from_server(data))
            self._wrote(len(data))
            return
        try:
            self.connection.write(answer.encode(data))
        except BadAnswer as bad:
            self._refuse_answer(str(bad))
            return
        if self.last_words is not None:
            self.at_line_end = data.endswith(b"\n")
        self._wrote(len(data))

    def on_end(self, stopped: bool) -> None:
        """The answer is complete."""
        if self.is_over:
            return
        answer = self.answer
        if self.is_orphan:
            self._over(Outcome.ANSWERED)
            return
        if answer is None or stopped or not answer.is_whole:
            self._refuse_answer("the answer ended early")
            return
        if self.withheld is not None:
            self._release()
        if (tap := self.tap) is not None:
            if tap.is_unfinished:  # kubectl would take silence for success
                reply = replies.REFUSALS[Refusal.NO_STATUS]
                self._fail(reply, Outcome.FAILED, Code.UPSTREAM_BROKEN, self._hop(Hop.API_SERVER))
                return
            self.connection.write(tap.rest())
        if answer.framing is _CHUNKED:
            self.connection.write(b"0\r\n\r\n")
        self._complete()

    def on_reset(self, reset: Reset) -> None:
        """The request has failed on its way."""
        self.exchange = None
        if self.is_over:
            return
        if self.is_orphan:
            self._over(Outcome.ANSWERED)
            return
        judged = self.judged
        if reset.not_run and self.answer is None and judged is not None and judged.wanted.end and not self.is_retried:
            self.is_retried = True
            try:
                self._dispatch(judged)
            except KasError as error:
                self._refuse(error)
            return
        if self.withheld is not None:
            self._release()
        known = reset.code in replies.RESETS
        outcome = Outcome.REFUSED if reset.code == Code.ACCESS_ENDED else Outcome.FAILED
        reply = replies.for_reset(reset, self.head.method, begun=self.answer is not None)
        name = Code(reset.code).name if known else Code.CODE_UNSET.name
        self._fail(reply, outcome, Code.CANCELLED, self._hop(reset.hop), reset.reason, name)

    def on_room(self) -> None:
        """The link takes bytes again."""
        if (upload := self.upload) is not None and upload.is_open and not self.is_over and not self.is_orphan:
            self._pump(upload)

    def on_stop(self, code: Code) -> None:
        """The API server wants no more of the body."""
        if (upload := self.upload) is not None and not self.is_over:
            upload.stop()
            if self.answer is None and self.judged is not None:
                self._await_head(self.judged)

    def _switched(self, head: Head) -> None:
        """The 101 has been written, alone: from here on the two directions are byte pipes."""
        connection = self.connection
        connection.wait_for_nothing()
        if self.judged is not None:
            self.tap = tap_of(self.judged.info, self.head.upgrade or b"", self.judged.wanted.target, head.headers)
        self.withheld = [head.body] if head.body else []
        delay_s = SPDY_FIRST_S if self.head.upgrade == b"SPDY/3.1" else 0.0
        self.door.loop.call_later(delay_s, self._release)
        self.door.switched(self)
        if self.upload is not None:
            self.upload.begin_pipe(self.tap)

    def _release(self) -> None:
        """Let the client have what the API server said right after the 101."""
        withheld = self.withheld
        self.withheld = None
        if withheld and not self.is_over and not self.is_orphan:
            data = b"".join(withheld)
            self.connection.write(data if self.tap is None else self.tap.from_server(data))
            self._wrote(len(data))

    def _wrote(self, count: int) -> None:
        self.sent += count
        self.door.metrics.requests.from_cluster.value += count
        if self.connection.is_write_paused:
            self.owed += count
        elif self.exchange is not None:
            self.exchange.consumed(count)

    def _complete(self) -> None:
        """The whole answer has been written."""
        answer = self.answer
        connection = self.connection
        if answer is None:
            return
        exchange = self.exchange
        self.exchange = None
        is_pipe = answer.framing is _PIPE
        if exchange is not None and self.upload is not None and self.upload.is_open:
            if is_pipe:
                exchange.end()
            else:
                exchange.reset(Code.CANCELLED, "answered before the body was read", hop=Hop.ENTRY)
        self._over(Outcome.ANSWERED)
        if is_pipe:
            connection.relay = None
            connection.close()
        else:
            connection.finished(keep_alive=answer.keep_alive and connection.reader.complete)
