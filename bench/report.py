"""Figures to build/bench.json for comparing runs, and to docs/performance.md for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.measure import Effort, Figures

ROOT = Path(__file__).resolve().parent.parent
JSON_FILE = ROOT / "build" / "bench.json"
DOCUMENT = ROOT / "docs" / "performance.md"
MARKER = "<!-- Written by hand from here on; `make bench` keeps it. -->"


class Goal(NamedTuple):
    """A line of the table of goals: ``figures`` are named in ``measured``; met if each is at most, or at least, its bound."""

    work: str
    to_reach: str
    measured: str
    at_most: Mapping[str, float] = {}
    at_least: Mapping[str, float] = {}

    def names(self) -> Sequence[str]:
        """The figures that decide."""
        return (*self.at_most, *self.at_least)


GOALS = (
    Goal(
        "1.9 kB GET, 32 connections, of nginx's requests/s",
        "≥ 0.20; goal 0.3",
        "{get_c32_ratio:.2f}",
        at_least={"get_c32_ratio": 0.20},
    ),
    Goal(
        "one connection, p50", "≤ 18 × nginx; goal 13 ×", "{get_c1_p50_ratio:.1f} ×", at_most={"get_c1_p50_ratio": 18}
    ),
    Goal(
        "250 kB list, 8 connections, of nginx's MB/s", "≥ 0.35", "{list_c8_ratio:.2f}", at_least={"list_c8_ratio": 0.35}
    ),
    Goal(
        "256 MiB download, of nginx's MB/s",
        "≥ 0.27; goal 0.5",
        "{download_ratio:.2f}",
        at_least={"download_ratio": 0.27},
    ),
    Goal("256 MiB upload, of nginx's MB/s", "≥ 0.25; goal 0.5", "{upload_ratio:.2f}", at_least={"upload_ratio": 0.25}),
    Goal(
        "CPU per small request at 32 connections, kas + agentk",
        "≤ 0.15 + 0.20 ms",
        "{cpu_ms_kas:.3f} + {cpu_ms_agentk:.3f} ms",
        at_most={"cpu_ms_kas": 0.15, "cpu_ms_agentk": 0.20},
    ),
    Goal(
        "an idle watch, memory in kas + agentk",
        "≤ 40 + 56 KiB",
        "{watch_kib_kas:.1f} + {watch_kib_agentk:.1f} KiB",
        at_most={"watch_kib_kas": 40, "watch_kib_agentk": 56},
    ),
    Goal("an idle agent, memory in kas", "≤ 96 KiB", "{agent_kib_kas:.1f} KiB", at_most={"agent_kib_kas": 96}),
    Goal(
        "one reader at 100 kB/s of a big download: p99 of the others",
        "≤ 1.25 × of the run without it, memory bounded",
        "{slow_reader_p99_ratio:.2f} ×, {slow_reader_mib:.1f} MiB more in both programs",
        at_most={"slow_reader_p99_ratio": 1.25},
    ),
    Goal(
        "one watch of 1,000 that is never read: p99 of the others' events",
        "≤ 1.25 × of the time without it, at most 64 MiB",
        "{deaf_p99_ratio:.2f} ×, {deaf_mib:.1f} MiB more in both programs",
        at_most={"deaf_p99_ratio": 1.25, "deaf_mib": 64},
    ),
    Goal(
        "TCP between kas and agentk reset during a download and a watch",
        "both go on, nothing lost or repeated; pause ≤ 200 ms",
        "both went on, nothing lost or repeated; {cut_pause_ms:.0f} ms (worst {cut_pause_worst_ms:.0f} ms)",
        at_most={"cut_pause_ms": 200},
    ),
    Goal(
        "ID tokens, rules, limits and audit on: of the requests/s with all of it off",
        "≥ 0.9",
        "{deciding_full_ratio:.2f}",
        at_least={"deciding_full_ratio": 0.9},
    ),
    Goal(
        "10,000 rules and 1,000 agents: of that again",
        "≥ 0.9",
        "{deciding_crowded_ratio:.2f}",
        at_least={"deciding_crowded_ratio": 0.9},
    ),
    Goal(
        "a push of 5,000 entries under load: in force, and p99 of requests meanwhile",
        "≤ 2 s, ≤ 1.25 ×",
        "{push_in_force_s:.1f} s, {push_p99_ratio:.2f} ×",
        at_most={"push_in_force_s": 2, "push_p99_ratio": 1.25},
    ),
)


class Outcome(NamedTuple):
    """One run of the bench."""

    figures: Figures
    machine: Mapping[str, str]
    effort: Effort
    skipped: Mapping[str, str]
    """Measurements that could not be made, and why."""


def write_json(outcome: Outcome) -> None:
    """For comparing runs."""
    JSON_FILE.parent.mkdir(exist_ok=True)
    figures = {name: round(value, 4) for name, value in outcome.figures.items()}
    document = {**figures, "machine": outcome.machine, "effort": outcome.effort.__dict__, "skipped": outcome.skipped}
    JSON_FILE.write_text(json.dumps(document, indent=1) + "\n")


def write_document(outcome: Outcome) -> None:
    """For people. What is written by hand below the marker stays."""
    old = DOCUMENT.read_text() if DOCUMENT.exists() else ""
    by_hand = old.partition(MARKER)[2].strip() or "## Where the time goes\n\nNot written yet."
    DOCUMENT.write_text(f"{measured_part(outcome)}\n{MARKER}\n\n{by_hand}\n")


def goals_table(figures: Figures) -> list[str]:
    """What was to reach, and what was measured."""
    rows = ["| on the same work, TLS on every leg | to reach | measured | |", "|---|---|---|---|"]
    for goal in GOALS:
        if not all(name in figures for name in goal.names()):
            rows.append(f"| {goal.work} | {goal.to_reach} | not in this run | |")
            continue
        is_met = all(figures[name] <= bound for name, bound in goal.at_most.items()) and all(
            figures[name] >= bound for name, bound in goal.at_least.items()
        )
        rows.append(
            f"| {goal.work} | {goal.to_reach} | {goal.measured.format_map(figures)} | {'met' if is_met else '**missed**'} |"
        )
    return rows


def measured_part(outcome: Outcome) -> str:
    """Everything above the marker."""
    lines = ["# Speed and memory", "", *INTRODUCTION, "", *goals_table(outcome.figures), ""]
    lines += ["## Figures", "", *_requests_table(outcome.figures), "", *_bytes_table(outcome.figures), ""]
    lines += [f"- not measured: {name}, because {reason}" for name, reason in outcome.skipped.items()]
    lines += ["## Machine", "", *(f"- {name}: {value}" for name, value in outcome.machine.items()), ""]
    effort = outcome.effort
    lines += ["## Method", "", *(line.format(**effort.__dict__) for line in METHOD), ""]
    return "\n".join(lines)


INTRODUCTION = (
    "What kas and agentk cost, measured beside nginx as a plain reverse proxy, in one run on the same upstream. `make bench` writes",
    "this page down to the marker, and `build/bench.json`. Ratios are ours over nginx's. nginx passes bytes from one connection to",
    "another; kas and agentk are two hops, decide who may do what as whom, and check every message in both.",
)

METHOD = (
    "- Client, kas, agentk and both nginx share one machine, so what any of them spends is missing to the others.",
    "- Upstream: nginx (one worker, TLS) as the API server, with a pod of 1.9 kB, a list of 250 kB and a random file of 256 MiB.",
    "  Behind it, for what nginx cannot play, a small server for endless watches and for uploads, which it counts and drops.",
    "- Reference: nginx (one worker) as a reverse proxy, TLS in front and TLS to that upstream, connections kept, no buffering.",
    "- Ours: `kas serve` and `agentk`, two processes with their default configuration, TLS on all three legs; a job token, and an",
    "  entry in `ci_access` with `access_as: ci_job`, so that every request is authenticated, authorised and impersonated.",
    "- Requests: `wrk -t1 --latency`, {seconds:g} s a run, medians of {rounds} runs in which the two sides alternate, after one that",
    "  warms up; a single failed request fails the bench. Bulk: curl, one connection, alternating after a warm-up as well.",
    "- CPU: user and system time of each process over the runs at 32 connections, divided by the requests.",
    "- Memory: growth of the proportional set size by {idle_watches} watches that had their first event, beyond a tenth as many",
    "  before them; the same for {idle_agents} links that agentk's own code holds from one other process.",
    "- Slow reader: small requests at 32 connections with and without one that takes a 256 MiB download at 100 kB/s.",
    "- Deaf watch: {idle_watches} less one watches with an event of 1 kB each second; how long events take from their making to",
    "  their arrival, while one more, with 3 MB a second to come, is open and never read, and while there is none.",
    "- Cut: a TCP relay between agentk and kas resets the connection amid a download, whose checksum is compared, and a watch with",
    "  a numbered event each 5 ms. The pause is the longest between two arrivals around the cut; medians of {rounds} cuts.",
)


def _requests_table(figures: Figures) -> list[str]:
    rows = [
        "| 1.9 kB GET | nginx, requests/s | p50 / p99 ms | ours, requests/s | p50 / p99 ms | ratio | p50 ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in ("get_c1", "get_c32", "get_c128"):
        if f"{name}_ratio" in figures:
            sides = [
                f"{figures[f'{name}_{side}_rps']:,.0f} | {figures[f'{name}_{side}_p50_ms']:.2f} / {figures[f'{name}_{side}_p99_ms']:.2f}"
                for side in ("nginx", "ours")
            ]
            ratios = f"{figures[f'{name}_ratio']:.3f} | {figures[f'{name}_p50_ratio']:.1f}"
            rows.append(f"| {name.removeprefix('get_c')} connections | {' | '.join(sides)} | {ratios} |")
    if "cpu_ms_kas" in figures:
        cpu = ", ".join(f"{name} {figures[f'cpu_ms_{name}']:.3f}" for name in ("nginx", "kas", "agentk"))
        rows += ["", f"CPU per request at 32 connections, in ms: {cpu}."]
    return rows


def _bytes_table(figures: Figures) -> list[str]:
    rows = ["| | nginx, MB/s | ours, MB/s | ratio |", "|---|---|---|---|"]
    works = {
        "list_c8": "250 kB list, 8 connections",
        "download": "256 MiB download",
        "upload": "256 MiB upload",
    }
    for name, work in works.items():
        if f"{name}_ratio" in figures:
            nginx, ours = figures[f"{name}_nginx_mb_per_s"], figures[f"{name}_ours_mb_per_s"]
            rows.append(f"| {work} | {nginx:,.0f} | {ours:,.0f} | {figures[f'{name}_ratio']:.3f} |")
    return rows
