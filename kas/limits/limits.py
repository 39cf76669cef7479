"""The limits of one kas, as the kubectl door uses them: enter before dispatch, leave when the request is over."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from kas.access.grants import Grant
from kas.access.patterns import matches
from kas.errors import TooManyRequests
from kas.limits.sharing import Turns
from kas.limits.usage import Rates
from kas.metrics import LimitMetrics


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


class Ticket:
    """What a request that has entered holds. Give it back with ``leave``, once."""

    __slots__ = ("_keys", "_limits", "_turns")

    def __init__(self, limits: Limits, keys: tuple[Hashable, Hashable, Hashable] | None, turns: Turns | None) -> None:
        self._limits = limits
        self._keys = keys
        self._turns = turns

    def leave(self) -> None:
        """The request is over."""
        if self._keys is not None:
            for rates, key in zip(self._limits.scopes, self._keys, strict=True):
                rates.close(key)
        if self._turns is not None:
            self._turns.leave()


class Limits:
    """Counts and decides. One per kas; not thread-safe."""

    def __init__(self, settings: LimitSettings, metrics: LimitMetrics, clock: Callable[[], float]) -> None:
        self._metrics = metrics
        self._clock = clock
        self._turns: dict[int, Turns] = {}
        self.settings = settings
        self.scopes = _scopes(settings)
        self._wrong = Rates(settings.wrong_tokens_per_s, settings.wrong_tokens_burst)

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

    def enter(self, grant: Grant, token: bytes, *, is_stream: bool) -> Ticket | Turns | None:
        """Count the request. None: nothing is limited. Turns: it must wait there first, then ``entered`` gives its ticket.

        Raises TooManyRequests; then nothing was counted.
        """
        caller = grant.caller
        keys = (hash(token), (caller.issuer, caller.project), grant.agent.id)
        now = self._clock()
        for rates, key, scope in zip(self.scopes, keys, _NAMES, strict=True):
            if (wait_s := rates.wait_s(key, now)) > 0:
                self._refused(scope, "requests")
                raise TooManyRequests(
                    f"more than {rates.per_s:g} requests per second of one {scope}", retry_after_s=math.ceil(wait_s)
                )
            if is_stream and rates.is_full(key):
                self._refused(scope, "streams")
                raise TooManyRequests(f"{rates.max_streams} streams of one {scope} are open already", retry_after_s=5)
        for rates, key in zip(self.scopes, keys, strict=True):
            rates.take(key, now)
        if is_stream:
            for rates, key in zip(self.scopes, keys, strict=True):
                rates.open(key, now)
            return Ticket(self, keys, None)
        if not self.settings.max_in_flight:
            return None
        turns = self._turns_of(grant.agent.id)
        return Ticket(self, None, turns) if turns.take() else turns

    def entered(self, turns: Turns) -> Ticket:
        """The ticket of a request that has waited."""
        return Ticket(self, None, turns)

    def refuse_strangers(self, peer: str) -> None:
        """Before an issuer is asked about a token. Raises TooManyRequests if the peer has shown too many wrong ones."""
        if (wait_s := self._wrong.wait_s(_network(peer), self._clock())) > 0:
            self._refused("peer", "requests")
            raise TooManyRequests("too many wrong tokens from this address", retry_after_s=math.ceil(wait_s))

    def wrong_token(self, peer: str) -> None:
        """A peer has shown one."""
        self._wrong.take(_network(peer), self._clock())

    def _turns_of(self, agent_id: int) -> Turns:
        turns = self._turns.get(agent_id)
        if turns is None:
            if len(self._turns) > _MANY_AGENTS:
                self._turns = {key: one for key, one in self._turns.items() if not one.is_idle}
            settings = self.settings
            turns = self._turns[agent_id] = Turns(settings.max_in_flight, settings.max_waiting, self._weight)
        return turns

    def _weight(self, project: str) -> float:
        return next((weight for pattern, weight in self.settings.weights if matches(pattern, project)), 1.0)

    def _refused(self, scope: str, kind: str) -> None:
        self._metrics.refused[scope, kind].value += 1


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
