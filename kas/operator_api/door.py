"""The door itself: HTTP over a Unix socket in the state directory, mode 0600, so that the file system says who may ask."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from aiohttp import web
from pydantic import ValidationError

from kas.access.caller import Caller
from kas.access.explaining import Explanation, Layer, explain
from kas.access.gate import Configs
from kas.access.grants import AgentRef
from kas.clock import Clock
from kas.config import GitlabIssuer, OidcIssuer
from kas.errors import ConfigurationError, IssuerUnavailable, KasError, Unauthenticated
from kas.http_door import Request, answer, json_answer, open_door
from kas.metrics import Door, DoorMetrics
from kas.operator_api.questions import Question
from kas.operator_api.reviews import Upstream, review
from kastunnel.http.classify import RequestInfo

EXPLAIN = "/explain"
SOCKET = "operator.sock"


class Gate(Protocol):
    """Who holds a token: kas.access.gate."""

    async def identify(self, token: bytes) -> Caller:
        """Raises Unauthenticated, or IssuerUnavailable."""


class Explainer:
    """Answers questions with what this kas knows and, where the rules say yes, with what the cluster says."""

    def __init__(
        self,
        gate: Gate,
        agents: Callable[[], Iterable[AgentRef]],
        configs: Configs,
        upstream: Upstream,
        issuers: Callable[[], Mapping[str, GitlabIssuer | OidcIssuer]],
        clock: Clock,
    ) -> None:
        self._gate = gate
        self._agents = agents
        self._configs = configs
        self._upstream = upstream
        self._issuers = issuers
        self._clock = clock
        self._count = 0

    async def answer(self, question: Question) -> tuple[tuple[Layer, ...], Explanation | None]:
        """Every layer's verdict, in the order in which a request meets them. Raises ValueError for a question that cannot be meant."""
        info = question.request
        issuer, caller = await self._who(question)
        if caller is None:
            return (issuer,), None
        agent = self._agent(question.agent)
        explanation = explain(caller, agent, None if agent is None else self._configs.get(agent), info, self._clock())
        layers = (issuer, *explanation.layers)
        if explanation.grant is not None:
            layers = (*layers, await self._cluster(explanation, info))
        return layers, explanation

    async def _who(self, question: Question) -> tuple[Layer, Caller | None]:
        if (described := question.caller) is not None:
            issuer = self._issuers().get(described.issuer)
            known = issuer is not None or described.issuer == "kas"
            if not known:
                return Layer("issuer", False, f"kas.yaml has no issuer {described.issuer!r}"), None
            is_gitlab = issuer is None or isinstance(issuer, GitlabIssuer)
            caller = described.caller(is_public=issuer is not None and issuer.is_public, speaks_gitlab=is_gitlab)
            return Layer("issuer", None, f"not asked: a job of {described.issuer} was described"), caller
        try:
            caller = await self._gate.identify(question.token.encode())
        except (Unauthenticated, IssuerUnavailable) as error:
            return Layer("issuer", False, str(error)), None
        return Layer("issuer", True, f"{caller.issuer} vouches for the token"), caller

    def _agent(self, named: str) -> AgentRef | None:
        return next((agent for agent in self._agents() if named in (str(agent), str(agent.id))), None)

    async def _cluster(self, explanation: Explanation, info: RequestInfo | None) -> Layer:
        if explanation.grant is None or info is None:
            return Layer("cluster", None, "not asked: no request was given")
        self._count += 1
        try:
            is_allowed, reason = await review(self._upstream, explanation.grant, info, f"explain-{self._count}")
        except KasError as error:
            return Layer("cluster", None, f"not known: {error}")
        said = "its own rules (RBAC) allow it" if is_allowed else "its own rules (RBAC) do not allow it"
        return Layer("cluster", is_allowed, f"{said}{f': {reason}' if reason else ''}")


@asynccontextmanager
async def open_operator_api(state_dir: Path, explainer: Explainer, metrics: DoorMetrics) -> AsyncIterator[None]:
    """Serve for as long as the block runs. Raises ConfigurationError if the socket cannot be made."""

    async def explained(request: Request) -> web.Response:
        try:
            question = Question.model_validate_json(await request.read())
            layers, explanation = await explainer.answer(question)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            return answer(400, f"{'.'.join(map(str, first['loc']))}: {first['msg']}", "see kas explain --help")
        except ValueError as error:
            return answer(400, str(error), "see kas explain --help")
        said = [{"layer": one.name, "verdict": _VERDICTS[one.is_good], "said": one.said} for one in layers]
        is_allowed = explanation is not None and all(one.is_good is not False for one in layers)
        return json_answer(
            {"allowed": is_allowed, "layers": said, "rule": "" if explanation is None else explanation.rule}
        )

    listener = _listening(state_dir)
    try:
        async with open_door(Door.OPERATOR, {}, listener, metrics, posts={EXPLAIN: explained}):
            yield
    finally:
        (state_dir / SOCKET).unlink(missing_ok=True)


_VERDICTS = {True: "yes", False: "no", None: "unknown"}


def _listening(state_dir: Path) -> socket.socket:
    path = state_dir / SOCKET
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    folder = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY)
    before = os.umask(0o177)
    try:
        path.unlink(missing_ok=True)  # of a kas that was killed
        listener.bind(f"/proc/self/fd/{folder}/{SOCKET}")  # addresses of sockets end at 107 bytes, paths do not
        listener.listen(16)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise ConfigurationError(f"state_dir: the socket {path} cannot be made: {error.strerror}") from error
    finally:
        os.umask(before)
        os.close(folder)
    return listener
