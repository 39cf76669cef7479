"""Counting, and what Prometheus reads."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from kas.metrics import Door, Durations, Metrics, Outcome


def page(metrics: Metrics) -> str:
    return generate_latest(metrics.registry).decode()


@pytest.mark.parametrize(
    ("status", "code"),
    [(0, "none"), (101, "1xx"), (200, "2xx"), (304, "3xx"), (404, "4xx"), (503, "5xx"), (999, "none")],
)
def test_a_request_is_counted_by_outcome_and_class_of_status(status: int, code: str) -> None:
    metrics = Metrics()
    metrics.requests.done(Outcome.FAILED, status)
    counted = [
        line for line in page(metrics).splitlines() if line.startswith("kas_requests_total") and line.endswith(" 1.0")
    ]
    assert counted == [f'kas_requests_total{{code="{code}",outcome="failed"}} 1.0']


def test_every_series_is_there_from_the_start() -> None:
    said = page(Metrics())
    for outcome in Outcome:
        assert f'kas_requests_total{{code="2xx",outcome="{outcome}"}} 0.0' in said
    for door in Door:
        assert f'kas_connections_opened_total{{door="{door}"}} 0.0' in said


def test_two_of_them_share_nothing() -> None:
    one, other = Metrics(), Metrics()
    one.gate.denials.value += 1
    assert "kas_denials_total 1.0" in page(one)
    assert "kas_denials_total 0.0" in page(other)


def test_a_state_is_read_when_it_is_asked_for() -> None:
    metrics = Metrics(version="1.2.3", process=True)
    links = [1, 2]
    metrics.open_links.set_function(lambda: len(links))
    assert "\nkas_links 2.0" in page(metrics)
    links.pop()
    assert "\nkas_links 1.0" in page(metrics)
    assert 'kas_build_info{version="1.2.3"} 1.0' in page(metrics)
    assert "process_resident_memory_bytes" in page(metrics)


def test_durations_are_cumulative_buckets_that_prometheus_reads():
    registry = CollectorRegistry()
    durations = Durations("kas_x_seconds", "x", (0.1, 1))
    registry.register(durations)
    for seconds in (0.05, 0.1, 0.5, 7):
        durations.observe(seconds)
    said = generate_latest(registry).decode()
    assert 'kas_x_seconds_bucket{le="0.1"} 2.0' in said
    assert 'kas_x_seconds_bucket{le="1.0"} 3.0' in said
    assert 'kas_x_seconds_bucket{le="+Inf"} 4.0' in said
    assert "kas_x_seconds_count 4.0" in said
    assert "kas_x_seconds_sum 7.65" in said
