"""The limits of one kas, as the kubectl door uses them: enter before dispatch, leave when the request is over."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple, NoReturn, Protocol

from kas.access.grants import Grant
from kas.errors import JobIsOver, TooManyRequests, Unauthenticated
from kas.limits.sharing import Turns
from kas.limits.usage import Rates
from kas.metrics import LimitMetrics
from kas.patterns import matches


@dataclass(frozen=True, slots=True)
class Scope:
    """Of one token, project or agent; 0: no limit. Reasons are in kas/config/fair_use.py."""

    requests_per_s: float = 0
    burst: float = 0
    max_streams: int = 0


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """All of it."""

    token: Scope = Scope()
    project: Scope = Scope()
    agent: Scope = Scope()
    max_in_flight: int = 0  # ordinary requests at one agent at once
    max_waiting: int = 256  # of one project, for one agent
    wait_s: float = 10.0
    weights: tuple[tuple[str, float], ...] = ()  # pattern of projects and weight; the first that fits counts, else 1
    wrong_tokens_per_s: float = 0
    wrong_tokens_burst: float = 0


class Ticket(Protocol):
    """What a request that has entered holds. Give it back with ``leave``, once."""

    def leave(self) -> None:
        """The request is over."""


class StreamTicket:
    """Of a stream that is counted."""

    __slots__ = ("_keys", "_scopes")

    def __init__(self, scopes: tuple[Rates, Rates, Rates], keys: _Keys) -> None:
        self._scopes = scopes
        self._keys = keys

    def leave(self) -> None:
        """The stream is over."""
        for rates, key in zip(self._scopes, self._keys, strict=True):
            rates.close(key)


class NoTurn(NamedTuple):
    """There is none yet: wait with ``turns.wait``; then ``turns`` is the ticket."""

    turns: Turns


_Keys = tuple[Hashable, Hashable, Hashable]  # of token, project, agent


class Limits:
    """Counts and decides. One per kas; not thread-safe."""

    def __init__(self, settings: LimitSettings, metrics: LimitMetrics, clock: Callable[[], float]) -> None:
        self._metrics = metrics
        self._clock = clock
        self._turns: dict[int, Turns] = {}
        self.settings = settings
        self.scopes = _scopes(settings)
        self._wrong = Rates(settings.wrong_tokens_per_s, settings.wrong_tokens_burst)
        self._asked: set[tuple[str, int]] = set()  # by network and token

    def reconfigure(self, settings: LimitSettings) -> None:
        """Other limits from now on; what is open stays open, and is counted anew only when it is opened anew."""
        if settings == self.settings:
            return
        self.settings = settings
        self.scopes = _scopes(settings)
        self._wrong = Rates(settings.wrong_tokens_per_s, settings.wrong_tokens_burst)
        for turns in self._turns.values():
            turns.max_in_flight, turns.max_waiting = settings.max_in_flight or _ENDLESS, settings.max_waiting
            turns.admit()

    @property
    def waiting(self) -> int:
        """Requests that wait for their turn at an agent."""
        return sum(turns.waiting for turns in self._turns.values())

    def enter(self, grant: Grant, token: bytes, *, is_stream: bool) -> Ticket | NoTurn | None:
        """Count the request. None: there is nothing to give back. Raises TooManyRequests; then nothing was counted."""
        caller = grant.caller
        agent_id = grant.agent.id
        by_token, by_project, by_agent = self.scopes
        now = self._clock()
        token_key = hash(token)
        project_key = (caller.issuer, caller.project)
        if wait_s := by_token.take(token_key, now):
            self._refuse("token", by_token, wait_s)
        if wait_s := by_project.take(project_key, now):
            by_token.give_back(token_key)
            self._refuse("project", by_project, wait_s)
        if wait_s := by_agent.take(agent_id, now):
            by_token.give_back(token_key)
            by_project.give_back(project_key)
            self._refuse("agent", by_agent, wait_s)
        if is_stream:
            return self._open((token_key, project_key, agent_id), now)
        if not self.settings.max_in_flight:
            return None
        turns = self._turns.get(agent_id) or self._turns_of(agent_id)
        return turns if turns.take() else NoTurn(turns)

    def _open(self, keys: _Keys, now: float) -> StreamTicket:
        for scope, rates, key in zip(_NAMES, self.scopes, keys, strict=True):
            if rates.is_full(key):
                for each, used in zip(self.scopes, keys, strict=True):
                    each.give_back(used)
                self._metrics.refused[scope, "streams"].value += 1
                raise TooManyRequests(f"{rates.max_streams} streams of one {scope} are open already", retry_after_s=5)
        for rates, key in zip(self.scopes, keys, strict=True):
            rates.open(key, now)
        return StreamTicket(self.scopes, keys)

    def _refuse(self, scope: str, rates: Rates, wait_s: float) -> NoReturn:
        self._metrics.refused[scope, "requests"].value += 1
        said = f"more than {rates.per_s:g} requests per second of one {scope}"
        raise TooManyRequests(said, retry_after_s=math.ceil(wait_s))

    @contextmanager
    def asking(self, peer: str, token: bytes) -> Iterator[None]:
        """Around asking an issuer about a token. Raises TooManyRequests if the peer has shown too many wrong ones, or is about to.

        Counted before the answer is known, or many at once would all be asked about; given back where the token was right. Who leaves
        before the answer is counted, too. Requests with a token that is being asked about count once: a job begins with many.
        ``peer``: ``host:port``.
        """
        network = _network(peer)
        key = (network, hash(token))
        if key in self._asked:
            yield
            return
        if (wait_s := self._wrong.take(network, self._clock())) > 0:
            self._metrics.refused["peer", "requests"].value += 1
            raise TooManyRequests("too many wrong tokens from this address", retry_after_s=math.ceil(wait_s))
        self._asked.add(key)
        is_wrong = True
        try:
            yield
            is_wrong = False
        except Exception as error:
            is_wrong = isinstance(error, Unauthenticated) and not isinstance(error, JobIsOver)
            raise
        finally:
            self._asked.discard(key)
            if not is_wrong:
                self._wrong.give_back(network)

    def _turns_of(self, agent_id: int) -> Turns:
        turns = self._turns.get(agent_id)
        if turns is None:
            if len(self._turns) > _MANY_AGENTS:
                self._turns = {key: one for key, one in self._turns.items() if not one.is_idle}
            settings = self.settings
            turns = self._turns[agent_id] = Turns(settings.max_in_flight, settings.max_waiting, self._weight)
        return turns

    def _weight(self, key: Hashable) -> float:
        project = str(key[1]) if isinstance(key, tuple) else str(key)
        return next((weight for pattern, weight in self.settings.weights if matches(pattern, project)), 1.0)


_NAMES = ("token", "project", "agent")
_MANY_AGENTS = 10_000
_ENDLESS = 1 << 60


def _scopes(settings: LimitSettings) -> tuple[Rates, Rates, Rates]:
    return _rates(settings.token), _rates(settings.project), _rates(settings.agent)


def _rates(scope: Scope) -> Rates:
    return Rates(scope.requests_per_s, scope.burst, scope.max_streams)


def _network(peer: str) -> str:
    """The address of ``host:port``; of IPv6 its /64, which is what one machine has."""
    host = peer.rpartition(":")[0].strip("[]")
    try:
        address = ip_address(host)
    except ValueError:
        return host
    return str(int(address) >> 64) if isinstance(address, IPv6Address) else host
