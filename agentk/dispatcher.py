"""One request at a time from the link to the API server: judged, given credential and identity, and sent.

The link's driver calls ``Dispatcher.opened`` for every new request. On the fast path (an idle connection is at hand) that
renders the head and writes it, without a task, a queue or an await.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol, Self

from agentk.errors import OpenRefused
from agentk.kube_api.access import Access
from agentk.kube_api.carrier import Carrier
from agentk.kube_api.identity import identity_fields
from agentk.kube_api.pool import Pool
from agentk.kube_api.request import PlainRequest, upload_length
from agentk.kube_api.statistics import Statistics
from agentk.kube_api.upgrade import UpgradeRequest
from kastunnel.http.errors import BadMessage
from kastunnel.http.render import render_request_head
from kastunnel.link.frames import Code, Head, Hop, Open, Reset
from kastunnel.link.handler import Exchange, Handler
from kastunnel.link.limits import NO_TIMEOUT_MS
from kastunnel.toolkit.logs import fields
from kastunnel.toolkit.tasks import TaskOwner
from kastunnel.toolkit.vanished import LOOK_S

log = logging.getLogger(__name__)

SWEEP_S = 1.0  # deadlines are looked at this often: one look at all costs less than a timer for each


class CredentialSource(Protocol):
    """Where the dispatcher learns how to reach the API server."""

    @property
    def access(self) -> Access:
        """The credential as it is now, at once."""

    def refused(self) -> None:
        """The API server did not accept it."""


class Dispatcher:
    """Every request that is being carried. ``async with`` it; leaving ends all of them at the API server.

    Run ``sweep`` beside it. ``drain`` before leaving lets open requests end.
    """

    def __init__(
        self, credentials: CredentialSource, statistics: Statistics | None = None, *, head_timeout_s: float = 75.0
    ) -> None:
        self.statistics = statistics or Statistics()
        self.pool = Pool(self.statistics)
        self.dials = TaskOwner("dials")
        self.loop = asyncio.get_running_loop()
        self._credentials = credentials
        self._head_timeout_s = head_timeout_s
        self._live: set[Carrier] = set()
        self._is_draining = False
        self._idle = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Dispatcher requests={len(self._live)} draining={self._is_draining} pool={self.pool!r}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def opened(self, wanted: Open, exchange: Exchange) -> Handler:
        """Send this request to the API server, or refuse it; at once, in the tick of the call."""
        statistics = self.statistics
        statistics.requests += 1
        if self._is_draining:
            return self._refuse(exchange, wanted, Code.DRAINING, "agentk is stopping")
        access = self._credentials.access
        try:
            head, protocol = _head(wanted, access)
        except OpenRefused as refused:
            return self._refuse(exchange, wanted, refused.code, str(refused))
        except BadMessage as bad:
            return self._refuse(exchange, wanted, Code.PROTOCOL, f"{bad.kind.text} ({bad.detail})")
        limit_s = self._limit_s(wanted.timeout_ms)
        request: PlainRequest
        if wanted.upgrade:
            request = UpgradeRequest(self, wanted, exchange, access, limit_s, protocol)
            connection = None
        else:
            request = PlainRequest(self, wanted, exchange, access, limit_s)
            connection = self.pool.take(access.endpoint)
        self._live.add(request)
        statistics.requests_open = len(self._live)
        request.begin(wanted, head, connection)
        return request

    def over(self, carrier: Carrier) -> None:
        """Forget a request that holds nothing any more."""
        self._live.discard(carrier)
        self.statistics.requests_open = len(self._live)
        if self._is_draining and not self._live:
            self._idle.set()

    def refused_credential(self) -> None:
        """The API server answered 401 to agentk itself."""
        self.statistics.unauthorized += 1
        self._credentials.refused()

    async def sweep(self) -> None:
        """For ever: end requests whose time is over or whose API server has vanished; close connections that were idle too long."""
        look_at = 0.0
        while True:
            await asyncio.sleep(SWEEP_S)
            now = self.loop.time()
            if now >= look_at:
                look_at = now + LOOK_S
                # To the others nothing is said for long, and looking at ten thousand watches would hold up requests.
                for pipe in [carrier for carrier in self._live if isinstance(carrier, UpgradeRequest)]:
                    pipe.look()
            for carrier in [carrier for carrier in self._live if carrier.deadline and carrier.deadline <= now]:
                log.info("API server did not answer in time", extra=fields(request_id=carrier.request_id))
                carrier.timed_out()
            self.pool.expire(now)

    async def drain(self, timeout_s: float) -> None:
        """Refuse new requests (kas may send them elsewhere), wait for the open ones, at most ``timeout_s``."""
        self._is_draining = True
        if not self._live:
            return
        log.info("draining", extra=fields(requests=len(self._live)))
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            log.info("requests are still open after the drain", extra=fields(requests=len(self._live)))

    def hurry(self) -> None:
        """Let ``drain`` wait no longer."""
        self._idle.set()

    async def close(self) -> None:
        """End everything at the API server now. Idempotent."""
        self._is_draining = True
        for carrier in list(self._live):
            carrier.fail(Code.DRAINING, "agentk is stopping", hop=Hop.AGENTK, after_data=True)
        self.pool.close()
        await self.dials.close()

    def _limit_s(self, timeout_ms: int) -> float:
        """Seconds until the head; 0.0: none, for a long-running request."""
        if timeout_ms == 0:
            return self._head_timeout_s
        return 0.0 if timeout_ms >= NO_TIMEOUT_MS else timeout_ms / 1000

    def _refuse(self, exchange: Exchange, wanted: Open, code: Code, reason: str) -> Handler:
        self.statistics.failed[code] += 1
        if code is not Code.DRAINING:
            log.warning("request refused", extra=fields(request_id=wanted.request_id, code=code.name, reason=reason))
        exchange.reset(code, reason, hop=Hop.AGENTK, not_run=True)
        return DEAF


def _head(wanted: Open, access: Access) -> tuple[bytes, bytes]:
    """The request's head as it goes out, and the protocol it asks for. Raises OpenRefused or BadMessage: then nothing goes out.

    kas is not trusted: fields are cleaned again, and identity and credential come last, from where nothing else may bring them.
    """
    target = wanted.target
    if access.prefix:
        if not target.startswith(b"/"):
            raise OpenRefused("the target is not in origin form")
        target = access.prefix + target
    extra = access.credential + identity_fields(wanted.identity)
    if wanted.upgrade:
        return render_request_head(
            wanted.method, target, wanted.headers, host=access.host, extra=extra, body_length=0, upgrade=True
        )
    length = upload_length(wanted)
    if length is not None and (len(wanted.body) > length or (wanted.end and len(wanted.body) != length)):
        raise OpenRefused("the request body is not as long as stated")
    return render_request_head(wanted.method, target, wanted.headers, host=access.host, extra=extra, body_length=length)


class _Deaf:
    """Hears what still comes of a request that was refused."""

    def on_head(self, head: Head) -> None:
        """Nothing."""

    def on_data(self, data: bytes) -> None:
        """Nothing."""

    def on_end(self, stopped: bool) -> None:
        """Nothing."""

    def on_reset(self, reset: Reset) -> None:
        """Nothing."""

    def on_room(self) -> None:
        """Nothing."""

    def on_stop(self, code: Code) -> None:
        """Nothing."""


DEAF = _Deaf()
