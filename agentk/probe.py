"""Asks the API server now and then whether it is there, what it is, and which cluster's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

from agentk.dispatcher import Dispatcher
from agentk.kube_api.question import Question

EVERY_S = 15.0  # how old readiness may be
RETRY_S = 3.0  # … while the API server cannot be reached
TIMEOUT_S = 10.0
FIRST_S = 2.0  # agentk links without an answer then
VERSION = b"/version"
# Its uid stands for the cluster's, as in OpenTelemetry's k8s.cluster.uid: made with the cluster, and never changed.
CLUSTER = b"/api/v1/namespaces/kube-system"
FINAL = (200, 403, 404)  # who may not know now is not asked again: each refusal stands in the cluster's audit log
MAX_TEXT = 64


class Probe:
    """``about``: what is known so far, for kas to show: "kubernetes", and "cluster" where agentk may get the namespace kube-system."""

    def __init__(self, dispatcher: Dispatcher, about: Mapping[str, str]) -> None:
        self.about = dict(about)
        self._dispatcher = dispatcher
        self._has_asked_which = False

    async def first(self) -> None:
        """What kas should know before it is dialled; nothing, where the API server takes longer than FIRST_S."""
        await self._ask(FIRST_S)

    async def run(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(EVERY_S if self._dispatcher.statistics.reachable else RETRY_S)
            await self._ask(TIMEOUT_S)

    async def _ask(self, limit_s: float) -> None:
        answer = await Question().ask(self._dispatcher, VERSION, limit_s)
        self._dispatcher.statistics.reachable = answer.status != 0
        if answer.status == 200:
            self.about["kubernetes"] = _text(answer.body, "gitVersion")
        if answer.status and not self._has_asked_which:
            answer = await Question().ask(self._dispatcher, CLUSTER, limit_s)
            self._has_asked_which = answer.status in FINAL
            if answer.status == 200:
                self.about["cluster"] = _text(answer.body, "metadata", "uid")


def _text(body: bytes, *path: str) -> str:
    """A text in a JSON object; empty where there is none."""
    try:
        found = json.loads(body)
        for name in path:
            found = found[name]
    except (ValueError, TypeError, KeyError):
        return ""
    return str(found)[:MAX_TEXT]
