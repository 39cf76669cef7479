"""The gate: may the holder of this token use this agent, as whom? From memory where it can, asking each issuer once where not.

What is kept: callers by the SHA-256 of their token, with the access that was decided for them; refused tokens apart from them, so that
a flood of wrong ones costs bounded memory and pushes no good one out. Denials are not kept: judging again costs microseconds.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from hashlib import sha256
from math import inf
from typing import NamedTuple, Protocol, TypeVar

from kas.access.caller import Caller
from kas.access.directory import AgentDirectory
from kas.access.grants import Access, AgentRef, Denial, Grant
from kas.access.issuers import Issuer
from kas.access.rules import decide
from kas.agent_config.entries import AgentConfig
from kas.clock import Clock, system_clock
from kas.errors import AccessDenied, IssuerUnavailable, Unauthenticated
from kas.metrics import GateMetrics
from kas.store.records import Change, ChangeKind
from kastunnel.toolkit.logs import fields

log = logging.getLogger(__name__)
Value = TypeVar("Value")

POSITIVE_S = 60.0
NEGATIVE_S = 10.0
MAX_CALLERS = 20_000  # about 1 KiB each
MAX_UNKNOWN = 20_000  # about 300 bytes each
NOBODY = AgentRef(
    0, "", ""
)  # asked about in place of an agent that does not exist, so that both cost the same look-ups


class Configs(Protocol):
    """Where configurations in force are looked up: kas.agent_config's AgentConfigs."""

    def get(self, agent: AgentRef) -> AgentConfig | None:
        """None: not read yet, or no such agent."""


class _Known:
    """A caller that an issuer vouched for, until ``deadline`` of the monotonic clock, and what was decided by agent id.

    For streams that are open it counts until ``stale`` only, which comes sooner where the issuer can tell that a job is over.
    """

    __slots__ = ("access", "caller", "deadline", "stale")

    def __init__(self, caller: Caller, deadline: float, stale: float) -> None:
        self.caller = caller
        self.deadline = deadline
        self.stale = stale
        self.access: dict[int, Access] = {}


class _Refused(NamedTuple):
    """A token that does not count, until then, and what its holder is told."""

    until: float
    error: Unauthenticated


class _Flight:
    """One question to the issuers that several requests wait for."""

    def __init__(self) -> None:
        self.done = asyncio.Event()
        self.outdated = False  # the token was revoked while we asked: the answer may be the old one
        self.answer: _Known | Unauthenticated | IssuerUnavailable | None = None  # None: who asked was cancelled


class Gate:
    """Admits callers to agents. One per kas; not thread-safe."""

    def __init__(
        self,
        issuers: Sequence[Issuer],
        directory: AgentDirectory,
        configs: Configs,
        metrics: GateMetrics,
        *,
        positive_s: float = POSITIVE_S,
        negative_s: float = NEGATIVE_S,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Clock = system_clock,
        max_callers: int = MAX_CALLERS,
        max_unknown: int = MAX_UNKNOWN,
    ) -> None:
        self.positive_s = positive_s
        self.negative_s = negative_s
        self._issuers = issuers
        self._directory = directory
        self._configs = configs
        self._metrics = metrics
        self._clock = clock
        self._wall_clock = wall_clock
        self._max_callers = max_callers
        self._max_unknown = max_unknown
        self._callers: OrderedDict[bytes, _Known] = OrderedDict()  # the least recently used first
        self._refused: OrderedDict[bytes, _Refused] = OrderedDict()  # the oldest first
        self._flights: dict[bytes, _Flight] = {}

    def admitted(self, agent_id: int, token: bytes, *, is_open: bool = False) -> Access | None:
        """The access if it is known already; None: ask ``admit``. At once, for every request; ``is_open``: for a stream that goes on."""
        digest = sha256(token).digest()
        known = self._callers.get(digest)
        if known is None or self._clock() >= (known.stale if is_open else known.deadline):
            return None
        access = known.access.get(agent_id)
        if access is None or (access.expires_at < inf and self._wall_clock() >= access.expires_at):
            return None
        self._callers.move_to_end(digest)
        self._metrics.cache_hits.value += 1
        return access

    async def admit(self, agent_id: int, token: bytes, *, is_open: bool = False) -> Access:
        """The access. Raises Unauthenticated, AccessDenied, or IssuerUnavailable.

        An agent that does not exist and one that the caller may not use are the same error by the same path.
        """
        known = await self._identify(token, is_open=is_open)
        agent = self._directory.get(agent_id) or NOBODY
        verdict = decide(known.caller, agent, self._configs.get(agent), self._wall_clock())
        if isinstance(verdict, Denial):
            raise self.denied(agent_id, known.caller, verdict, agent)
        known.access[agent_id] = verdict
        return verdict

    async def identify(self, token: bytes) -> Caller:
        """Who holds the token. Raises Unauthenticated, or IssuerUnavailable."""
        return (await self._identify(token)).caller

    async def grants(self, token: bytes) -> list[Grant]:
        """A grant for each agent that the holder may use, by project and name. Raises Unauthenticated, or IssuerUnavailable."""
        caller = await self.identify(token)
        now = self._wall_clock()
        verdicts = (decide(caller, agent, self._configs.get(agent), now) for agent in self._directory)
        found = [verdict.first for verdict in verdicts if isinstance(verdict, Access)]
        return sorted(filter(None, found), key=lambda grant: (grant.agent.project, grant.agent.name, grant.agent.id))

    def denied(self, agent_id: int, caller: Caller, denial: Denial, agent: AgentRef) -> AccessDenied:
        """The error for this denial, which is counted and logged. The caller reads of it what it may know."""
        self._metrics.denials.value += 1
        said = fields(agent_id=agent_id, caller=str(caller), reason=denial.reason, rule=denial.rule)
        log.info("access denied", extra=said)
        return access_denied(caller, denial, agent)

    def reconfigure(self, issuers: Sequence[Issuer], *, positive_s: float, negative_s: float, forgets: bool) -> None:
        """Other issuers from now on. ``forgets``: they may think otherwise of every token, so that each is asked about again."""
        self._issuers = issuers
        self.positive_s, self.negative_s = positive_s, negative_s
        if forgets:
            self._callers.clear()
            self._refused.clear()
            for flight in self._flights.values():
                flight.outdated = True

    def forget(self, change: Change) -> None:
        """Drop what the change may have made untrue, so that the next request is judged anew."""
        if change.kind is ChangeKind.AGENT_DELETED:
            self.forget_agent(change.subject)
        if change.sha256 is not None:
            self._callers.pop(change.sha256, None)
            self._refused.pop(change.sha256, None)
            if (flight := self._flights.get(change.sha256)) is not None:
                flight.outdated = True

    def forget_agent(self, agent_id: int) -> None:
        """Drop what was decided about the agent: its configuration has changed, or it is gone."""
        for known in self._callers.values():
            known.access.pop(agent_id, None)

    async def _identify(self, token: bytes, *, is_open: bool = False) -> _Known:
        digest = sha256(token).digest()
        while True:
            if (known := self._remembered(digest, is_open=is_open)) is not None:
                return known
            flight = self._flights.get(digest)
            if flight is None:
                answer = await self._lead(digest, token)
            else:
                await flight.done.wait()
                answer = flight.answer
            if isinstance(answer, _Known):
                return answer
            if answer is not None:
                raise type(answer)(*answer.args)  # a fresh one each: many requests may wait for this answer

    def _remembered(self, digest: bytes, *, is_open: bool) -> _Known | None:
        now = self._clock()
        known = self._callers.get(digest)
        if known is not None and now < (known.stale if is_open else known.deadline):
            self._callers.move_to_end(digest)
            return known
        refused = self._refused.get(digest)
        if refused is not None and now < refused.until:
            self._metrics.unknown_hits.value += 1
            raise type(refused.error)(*refused.error.args)
        return None

    async def _lead(self, digest: bytes, token: bytes) -> _Known | Unauthenticated | IssuerUnavailable | None:
        """Ask the issuers for everybody who waits. None: the answer may be outdated, ask again.

        Cancelled, it leaves the question open: the next one who waits asks it.
        """
        flight = self._flights[digest] = _Flight()
        try:
            answer = await self._ask(token)
            if not flight.outdated:
                self._remember(digest, answer)
                flight.answer = answer
        finally:
            del self._flights[digest]
            flight.done.set()
        return flight.answer

    async def _ask(self, token: bytes) -> _Known | Unauthenticated | IssuerUnavailable:
        try:
            for issuer in self._issuers:
                caller = await issuer.caller(token)
                if caller is not None:
                    left_s = caller.expires_at - self._wall_clock()
                    if left_s <= 0:
                        break
                    self._metrics.known.value += 1
                    now, kept_s = self._clock(), min(self.positive_s, left_s)
                    return _Known(caller, now + kept_s, now + min(kept_s, caller.recheck_s))
        except IssuerUnavailable as error:
            self._metrics.unavailable.value += 1
            log.warning("issuer unavailable", extra=fields(error=str(error)))
            return error
        except Unauthenticated as error:
            self._metrics.unknown.value += 1
            return error
        self._metrics.unknown.value += 1
        return Unauthenticated()

    def _remember(self, digest: bytes, answer: _Known | Unauthenticated | IssuerUnavailable) -> None:
        if isinstance(answer, _Known):
            _put(self._callers, digest, answer, self._max_callers)
        elif isinstance(answer, Unauthenticated):
            self._callers.pop(digest, None)
            _put(self._refused, digest, _Refused(self._clock() + self.negative_s, answer), self._max_unknown)


def access_denied(caller: Caller, denial: Denial, agent: AgentRef) -> AccessDenied:
    """The error for this denial: all of it for the operator, and for the caller what it may know."""
    rule = f" ({denial.rule})" if denial.rule else ""
    told = f"{denial.reason}{rule}" if denial.may_know else ""
    name = str(agent) if agent.id else ""
    why = f"{caller}: {denial.reason}{rule}"
    return AccessDenied(why=why, told=told, caller=caller, agent=name, rule=denial.rule)


def _put(kept: OrderedDict[bytes, Value], digest: bytes, value: Value, limit: int) -> None:
    kept[digest] = value
    kept.move_to_end(digest)
    if len(kept) > limit:
        kept.popitem(last=False)
