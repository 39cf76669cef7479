"""Counts of what happened, as plain integers: adding one is all that the hot path pays."""

from __future__ import annotations

from collections import Counter

from kastunnel.link.frames import Code


class Statistics:
    """Written by the dispatcher and the pool, read by observability."""

    __slots__ = (
        "connections_idle",
        "connections_open",
        "dials",
        "failed",
        "reachable",
        "requests",
        "requests_open",
        "retries",
        "unauthorized",
        "upgrades",
    )

    def __init__(self) -> None:
        self.requests = 0
        self.requests_open = 0
        self.upgrades = 0
        self.dials = 0
        self.retries = 0
        self.unauthorized = 0
        self.connections_open = 0
        self.connections_idle = 0
        self.reachable = False  # the last dial to the API server succeeded; False until the first one
        self.failed: Counter[Code] = Counter()
