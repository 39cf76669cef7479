"""Every metric of kas: its name, help and labels are here and nowhere else.

Events of the request path are counted in plain integers (``tally.value += 1``: a tenth of prometheus-client's lock) that are read when
Prometheus asks. States are read from whoever holds them, through ``set_function``. No label has values that strangers choose, and
none grows with the number of agents.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from enum import StrEnum
from itertools import accumulate

from prometheus_client import (
    CollectorRegistry,
    Gauge,
    GCCollector,
    Info,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

TURN_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
HEAD_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 75)


class Outcome(StrEnum):
    """How a request at the kubectl door ended."""

    ANSWERED = "answered"  # by the API server, whatever its status
    REFUSED = "refused"  # by kas, before it reached an agent
    FAILED = "failed"  # on the way: agent, link or API server
    CANCELLED = "cancelled"  # the client went away


class Door(StrEnum):
    """A listener."""

    KUBERNETES = "kubernetes"
    AGENT = "agent"
    MANAGEMENT = "management"
    OBSERVABILITY = "observability"
    OPERATOR = "operator"


class Tally:
    """One number that only grows. Counted on the event loop's thread: ``tally.value += 1``."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def __repr__(self) -> str:
        return f"Tally({self.value})"


class _Tallies(Collector):
    """Gives the tallies to a registry as counters."""

    def __init__(self) -> None:
        self._families: list[tuple[str, str, tuple[str, ...], list[tuple[tuple[str, ...], Tally]]]] = []

    def one(self, name: str, text: str) -> Tally:
        """A counter without labels."""
        tally = Tally()
        self._families.append((name, text, (), [((), tally)]))
        return tally

    def many(self, name: str, text: str, labels: tuple[str, ...], values: Iterable[tuple[str, ...]]) -> list[Tally]:
        """One counter for each tuple of label values, in their order."""
        members = [(value, Tally()) for value in values]
        self._families.append((name, text, labels, members))
        return [tally for _, tally in members]

    def collect(self) -> Iterable[CounterMetricFamily]:
        """What they are now."""
        for name, text, labels, members in self._families:
            family = CounterMetricFamily(name, text, labels=labels)
            for values, tally in members:
                family.add_metric(values, tally.value)
            yield family


class Durations(Collector):
    """A histogram of seconds, observed on the event loop's thread at a tenth of the cost of prometheus-client's own."""

    def __init__(self, name: str, text: str, bounds: tuple[float, ...]) -> None:
        self._name = name
        self._text = text
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one that took so long."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """What was observed; buckets are cumulative, as Prometheus wants them."""
        bounds = [*map(str, map(float, self._bounds)), "+Inf"]
        buckets = list(zip(bounds, accumulate(self._counts), strict=True))
        yield HistogramMetricFamily(self._name, self._text, buckets=buckets, sum_value=self._sum)


class GateMetrics:
    """What the gate counts."""

    def __init__(self, tallies: _Tallies | None = None) -> None:
        tallies = tallies or _Tallies()
        self.cache_hits = tallies.one("kas_grant_cache_hits", "Requests whose grant was known already")
        self.unknown_hits = tallies.one("kas_unknown_token_cache_hits", "Requests whose token was known to be unknown")
        self.denials = tallies.one("kas_denials", "Requests of known callers for agents that they may not use")
        self.known, self.unknown, self.unavailable = tallies.many(
            "kas_token_lookups",
            "Questions to an issuer of tokens, by its answer",
            ("answer",),
            [("known",), ("unknown",), ("unavailable",)],
        )


class ConfigMetrics:
    """What the watcher of agent configurations counts."""

    def __init__(self, tallies: _Tallies | None = None) -> None:
        tallies = tallies or _Tallies()
        self.good, self.bad, self.unreadable = tallies.many(
            "kas_agent_config_reads",
            "Agent configurations read from a new commit, by result; unreadable is the repository's fault",
            ("result",),
            [("good",), ("bad",), ("unreadable",)],
        )


class LimitMetrics:
    """What the limits count: ``refused`` by scope and kind, and how long those ``waited`` that got a turn."""

    def __init__(self, tallies: _Tallies | None = None) -> None:
        tallies = tallies or _Tallies()
        pairs = [(scope, kind) for scope in ("token", "project", "agent", "peer") for kind in ("requests", "streams")]
        counted = tallies.many(
            "kas_limits_refused", "Requests refused with 429, by whose limit of what", ("scope", "kind"), pairs
        )
        self.refused = dict(zip(pairs, counted, strict=True))
        self.busy = tallies.one("kas_limits_no_turn", "Requests refused with 429 since the agent was busy")
        self.waited = Durations(
            "kas_limits_wait_seconds",
            "How long requests waited for their turn at a busy agent and got it; who got one at once is not counted",
            TURN_BUCKETS_S,
        )


class AuditMetrics:
    """What the audit log counts; its thread adds to ``written`` alone."""

    def __init__(self, tallies: _Tallies | None = None) -> None:
        tallies = tallies or _Tallies()
        self.written = tallies.one("kas_audit_records", "Audit records written")
        self.lost = tallies.one(
            "kas_audit_records_lost", "Audit records that could not be kept until they could be written"
        )


class RequestMetrics:
    """What the kubectl door counts, with a tally for each outcome and class of status."""

    def __init__(self, tallies: _Tallies) -> None:
        classes = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")
        pairs = [(outcome.value, name) for outcome in Outcome for name in classes]
        counted = iter(
            tallies.many(
                "kas_requests",
                "Requests at the kubectl door that are over, by outcome and class of the status that the client saw",
                ("outcome", "code"),
                pairs,
            )
        )
        self._done: Mapping[Outcome, list[Tally]] = {outcome: [next(counted) for _ in classes] for outcome in Outcome}
        self.to_cluster, self.from_cluster = tallies.many(
            "kas_body_bytes",
            "Bytes of bodies and upgraded connections, by direction",
            ("direction",),
            [("to_cluster",), ("from_cluster",)],
        )
        self.bad_requests = tallies.one("kas_bad_requests", "Requests whose form the kubectl door refused")

    def done(self, outcome: Outcome, status: int) -> None:
        """A request is over. ``status``: what the client saw, 0 if nothing."""
        self._done[outcome][status // 100 if 100 <= status < 600 else 0].value += 1


class LinkMetrics:
    """What the links of agents count."""

    def __init__(self, tallies: _Tallies) -> None:
        self.opened = tallies.one("kas_links_opened", "New links of agents")
        self.resumed = tallies.one("kas_links_resumed", "Links that were cut and went on where they had stopped")
        self.lost = tallies.one("kas_links_lost", "Links that were cut and did not come back in time")
        self.refused = tallies.one("kas_links_refused", "Agents turned away: token, version or number")


class DoorMetrics:
    """What every door counts, by door."""

    def __init__(self, tallies: _Tallies) -> None:
        names = [(door.value,) for door in Door]
        opened = tallies.many("kas_connections_opened", "Connections accepted", ("door",), names)
        refused = tallies.many("kas_connections_refused", "Connections closed for a limit", ("door",), names)
        self.opened: Mapping[Door, Tally] = dict(zip(Door, opened, strict=True))
        self.refused: Mapping[Door, Tally] = dict(zip(Door, refused, strict=True))


class Metrics:
    """All of them, registered with one registry: one per process, or per test."""

    def __init__(self, registry: CollectorRegistry | None = None, *, version: str = "", process: bool = False) -> None:
        """``process``: also the process's own figures (memory, CPU, open files) and the interpreter's."""
        self.registry = registry = registry or CollectorRegistry()
        tallies = _Tallies()
        self.gate = GateMetrics(tallies)
        self.configs = ConfigMetrics(tallies)
        self.audit = AuditMetrics(tallies)
        self.limits = LimitMetrics(tallies)
        self.requests = RequestMetrics(tallies)
        self.links = LinkMetrics(tallies)
        self.doors = DoorMetrics(tallies)
        registry.register(tallies)
        self.head_s = Durations(
            "kas_request_head_seconds",
            "From the end of a request's head to the head of its answer",
            HEAD_BUCKETS_S,
        )
        registry.register(self.head_s)
        registry.register(self.limits.waited)
        self.agents = _gauge(registry, "kas_agents", "Registered agents")
        self.linked_agents = _gauge(registry, "kas_agents_linked", "Agents that have a link here")
        self.open_links = _gauge(registry, "kas_links", "Links that are held here, cut ones included")
        self.detached_links = _gauge(registry, "kas_links_detached", "Links that were cut and may still come back")
        self.open_requests = _gauge(registry, "kas_requests_open", "Requests that are going on")
        self.credit_bytes = _gauge(
            registry,
            "kas_link_credit_bytes",
            "Credit beyond the smallest windows: what busy requests may make kas hold",
        )
        self.broken_configs = _gauge(
            registry, "kas_agent_configs_broken", "Agents whose newest configuration is refused"
        )
        self.limits_waiting = _gauge(registry, "kas_limits_waiting", "Requests that wait for their turn at an agent")
        self.audit_waiting = _gauge(registry, "kas_audit_records_waiting", "Audit records that are not written yet")
        self.audit_failing = _gauge(registry, "kas_audit_failing", "1 while the audit log cannot be written")
        self.draining = _gauge(registry, "kas_draining", "1 while kas is going down and takes nothing new")
        self.expiring_agent_tokens = _gauge(
            registry,
            "kas_agent_tokens_expiring",
            "Agent tokens that expire within 14 days: agents that are cut off then",
        )
        self.certificate_end = Gauge(
            "kas_certificate_not_after_seconds", "When a door's certificate ends (unix)", ("door",), registry=registry
        )
        if version:
            Info("kas_build", "Which kas this is", registry=registry).info({"version": version})
        if process:
            ProcessCollector(registry=registry)
            PlatformCollector(registry=registry)
            GCCollector(registry=registry)


def _gauge(registry: CollectorRegistry, name: str, text: str) -> Gauge:
    return Gauge(name, text, registry=registry)
