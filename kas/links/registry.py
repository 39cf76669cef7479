"""All links of this kas: which hello begins or resumes which, which link takes the next request, and when each ends."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import count

from kas.links.held import BYE_S, HeldLink
from kas.metrics import LinkMetrics
from kas.presence.memory import MemoryPresence
from kastunnel.link import greeting
from kastunnel.link.credit import Budget
from kastunnel.link.frames import Code, Uid
from kastunnel.link.limits import PROCESS_BUDGET, VERSION, PeerLimits
from kastunnel.link.link import Link, Side
from kastunnel.toolkit.logs import fields
from kastunnel.transport.duplex import Duplex

log = logging.getLogger(__name__)


class Links:
    """Decides without awaiting, so that two hellos of one agent are judged one after the other."""

    def __init__(
        self,
        kas_id: str,
        presence: MemoryPresence,
        metrics: LinkMetrics,
        *,
        max_links: int,
        detach_s: float,
        limits: PeerLimits | None = None,
    ) -> None:
        self._kas_id = kas_id
        self._kas_boot = secrets.randbits(64)
        self._presence = presence
        self._metrics = metrics
        self._max_links = max_links
        self._detach_s = detach_s
        self._limits = limits or PeerLimits()
        self._counter = 0
        self._numbers = count(1)
        self._budgets = (Budget(PROCESS_BUDGET), Budget(PROCESS_BUDGET))
        self._by_secret: dict[
            bytes, HeldLink
        ] = {}  # by the SHA-256 of the link id: a look-up that tells nothing by its time
        self._by_agent: dict[int, list[HeldLink]] = {}
        self._news = asyncio.Event()  # set, and replaced, whenever a link may take requests that took none before
        self.draining = False
        self.on_change: Callable[[HeldLink], None] = lambda held: None  # of each link once it is opened, and once over

    def __repr__(self) -> str:
        return f"<Links links={len(self._by_secret)} agents={len(self._by_agent)} draining={self.draining}>"

    def __iter__(self) -> Iterator[HeldLink]:
        return iter(list(self._by_secret.values()))

    def __len__(self) -> int:
        return len(self._by_secret)

    @property
    def credit_bytes(self) -> int:
        """Bytes of credit out beyond the smallest windows, both directions together."""
        return sum(budget.used for budget in self._budgets)

    def of(self, agent_id: int) -> list[HeldLink]:
        """The links of one agent, detached ones too."""
        return list(self._by_agent.get(agent_id, ()))

    def pick(self, agent_id: int) -> HeldLink | None:
        """The least busy link that takes new requests."""
        links = self._by_agent.get(agent_id)
        if not links:
            return None
        if len(links) == 1:
            return links[0] if links[0].takes_requests else None
        able = [held for held in links if held.takes_requests]
        return min(able, key=lambda held: len(held.link.requests)) if able else None

    async def news(self, limit_s: float) -> None:
        """Wait until a link was attached, at most ``limit_s``."""
        try:
            async with asyncio.timeout(limit_s):
                await self._news.wait()
        except TimeoutError:
            pass

    # ---- hellos -------------------------------------------------------------------------------------------------------

    async def accept(
        self, agent_id: int, token_id: int, peer: str, duplex: Duplex, first: bytes, hello: greeting.Hello
    ) -> None:
        """Begin or resume the link that ``hello`` asks for and carry it until this stream is lost; or refuse it."""
        refused = self._refusal(agent_id, hello)
        if refused is not None:
            self.count_refused()
            log.info(
                "link refused",
                extra=fields(agent_id=agent_id, instance=hello.instance, code=refused.code.name, reason=refused.reason),
            )
            await duplex.write(greeting.refusal_envelope(refused))
            return
        held, secret, resumed = self._held(agent_id, token_id, hello)
        held.peer = peer
        held.take_over()
        held.link.features = greeting.FEATURES & hello.features
        held.link.peer_limits = hello.limits
        welcome = greeting.Welcome(
            link=secret,
            attach=hello.attach,
            resumed=resumed,
            kas_id=self._kas_id,
            kas_boot=self._kas_boot,
            limits=self._limits,
            features=held.link.features,
            detach_ms=int(self._detach_s * 1000),
        )
        (self._metrics.resumed if resumed else self._metrics.opened).value += 1
        log.info(
            "link resumed" if resumed else "link opened",
            extra=fields(
                agent_id=agent_id, link=str(held.number), instance=hello.instance, attach=hello.attach, peer=peer
            ),
        )
        held.about = hello.about
        if not resumed:
            self._compare_clusters(held)
            self.on_change(held)
        self._presence.attached(agent_id)
        held.on_ready = self._tell
        try:
            await held.carry(duplex, hello.attach, greeting.welcome_frame(welcome), first)
        finally:
            self._presence.detached(agent_id)
            self._stream_ended(held, hello.attach)

    def _compare_clusters(self, held: HeldLink) -> None:
        """Tell the operator whose agent runs in two clusters: a request goes to either, as if they were one."""
        others = {other.cluster for other in self.of(held.agent_id)} - {"", held.cluster}
        if held.cluster and others:
            log.warning(
                "one agent is linked from several clusters, and a request goes to any of them:"
                " register an agent for each cluster, and revoke the token that is in the wrong one",
                extra=fields(
                    agent_id=held.agent_id,
                    instance=held.instance,
                    token_id=held.token_id,
                    cluster=held.cluster,
                    names=", ".join(sorted(others)),
                ),
            )

    def count_refused(self) -> None:
        """An agent was turned away: here, or before by its token."""
        self._metrics.refused.value += 1

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def _refusal(self, agent_id: int, hello: greeting.Hello) -> greeting.Refused | None:
        if not greeting.common_version(hello):  # before anything about links: agentk doctor asks with version 0
            return greeting.Refused(
                Code.UNSUPPORTED,
                f"this kas speaks version {VERSION} of the link,"
                f" the agent {hello.version_min} to {hello.version_max}: upgrade the older one",
            )
        known = self._known(agent_id, hello)
        if known is not None:
            if hello.attach <= known.link.attach:
                return greeting.Refused(Code.SUPERSEDED, "a newer stream of this link is attached")
            return None
        if self.draining:
            return greeting.Refused(Code.DRAINING, "this kas is going down", retry_after_ms=200)
        if any(held.instance == hello.instance and held.boot_order > hello.boot_order for held in self.of(agent_id)):
            return greeting.Refused(
                Code.SUPERSEDED, f"a newer agentk runs as {hello.instance}: give each replica a name of its own"
            )
        if len(self._by_secret) >= self._max_links:
            return greeting.Refused(
                Code.LIMIT, "this kas holds as many links as it may (agent_api.max_links)", retry_after_ms=5000
            )
        return None

    def _known(self, agent_id: int, hello: greeting.Hello) -> HeldLink | None:
        """The link that may be resumed: same agent, same instance, same process."""
        if not hello.resume_link:
            return None
        held = self._by_secret.get(sha256(hello.resume_link).digest())
        if held is None or held.over or held.agent_id != agent_id:
            return None
        return held if held.instance == hello.instance and held.boot == hello.boot else None

    def _held(self, agent_id: int, token_id: int, hello: greeting.Hello) -> tuple[HeldLink, bytes, bool]:
        for ended in hello.ended_links:
            given_up = self._by_secret.get(sha256(ended).digest())
            if given_up is not None and given_up.agent_id == agent_id:
                self._end(given_up, Code.CANCELLED, "the agent has given up this link")
        known = self._known(agent_id, hello)
        if known is not None:
            known.token_id = token_id
            return known, hello.resume_link, True
        for held in self.of(agent_id):
            if held.instance == hello.instance and held.boot != hello.boot:
                self._end(held, Code.SUPERSEDED, "the agent was restarted")
            elif held.was_never_read(hello):
                self._end(held, Code.UPSTREAM_BROKEN, "the agent was cut off before it knew of this link")
        link = Link(Side.KAS, next_uid=self._next_uid, limits=self._limits, budgets=self._budgets)
        secret = secrets.token_bytes(greeting.LINK_ID_BYTES)
        held = HeldLink(next(self._numbers), sha256(secret).digest(), agent_id, token_id, hello, link)
        self._by_secret[held.digest] = held
        self._by_agent.setdefault(agent_id, []).append(held)
        return held, secret, False

    def _next_uid(self) -> Uid:
        self._counter += 1
        return Uid(self._kas_boot, self._counter)

    # ---- ends ---------------------------------------------------------------------------------------------------------

    def _stream_ended(self, held: HeldLink, attach: int) -> None:
        if held.over or held.said_bye:
            self._forget(held)
        elif held.link.attach == attach:  # else a newer stream carries it already
            loop = asyncio.get_running_loop()
            held.expires(loop.call_later(self._detach_s, self._expired, held))

    def _expired(self, held: HeldLink) -> None:
        self._metrics.lost.value += 1
        log.info(
            "link given up: the agent did not come back", extra=fields(agent_id=held.agent_id, link=str(held.number))
        )
        self._end(held, Code.UPSTREAM_BROKEN, "the agent was cut off and did not come back")

    def _end(self, held: HeldLink, code: Code, reason: str) -> None:
        held.end(code, reason)
        self._forget(held)

    def _forget(self, held: HeldLink) -> None:
        held.end(Code.UPSTREAM_BROKEN, "the agent went away" if held.said_bye else "the agent's link is over")
        links = self._by_agent.get(held.agent_id, [])
        if held in links:
            links.remove(held)
            del self._by_secret[held.digest]
            self.on_change(held)
        if not links:
            self._by_agent.pop(held.agent_id, None)

    def revoke_token(self, token_id: int, reason: str = "the agent's token was revoked") -> None:
        """End every link that was attached with this token, detached ones too."""
        for held in self:
            if held.token_id == token_id:
                said = fields(agent_id=held.agent_id, token_id=token_id, reason=reason)
                log.info("link ended: its token does not count any more", extra=said)
                self._end(held, Code.REVOKED, reason)

    def revoke_agent(self, agent_id: int) -> None:
        """End every link of an agent that was deleted."""
        for held in self.of(agent_id):
            self._end(held, Code.REVOKED, "the agent was deleted")
        self._presence.forget(agent_id)

    def drain(self, timeout_s: float) -> None:
        """Ask every agent to link elsewhere first; what is open here goes on, new requests go there."""
        self.draining = True
        for held in self:
            held.draining = True
            held.link.say_drain(window_ms=1000, timeout_ms=int(timeout_s * 1000))

    async def close(self) -> None:
        """End everything now; returns when the last words have had time to leave."""
        attached = [held for held in self if held.attached]
        for held in self:
            self._end(held, Code.DRAINING, "kas is going down")
        if attached:
            await asyncio.sleep(BYE_S)
