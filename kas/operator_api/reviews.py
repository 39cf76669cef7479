"""Asks a cluster, through its agent, what an identity may do: a SelfSubjectAccessReview as that identity (authorization.k8s.io/v1)."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Protocol

from kas.access.grants import Grant
from kas.errors import AgentNotConnected, KasError
from kastunnel.http.classify import RequestInfo
from kastunnel.link.frames import Code, Head, Hop, Open, Reset
from kastunnel.link.handler import Exchange, Handler

LIMIT_S = 10.0
MAX_BYTES = 64 * 1024
_TARGET = b"/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_SESSIONS = frozenset({"exec", "attach", "portforward"})


class Upstream(Protocol):
    """Links to agents: kas.routing."""

    def open(self, agent_id: int, request: Open, handler: Handler) -> Exchange | None:
        """None: there is no link right now."""


class Collected:
    """Hears one small answer. A Handler; ``done`` has status and body, or a KasError."""

    def __init__(self) -> None:
        self.done: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self.exchange: Exchange | None = None
        self._status = 0
        self._body = b""

    def on_head(self, head: Head) -> None:
        """See Handler."""
        self._status = head.status
        self._take(head.body)
        if head.end:
            self.on_end(False)

    def on_data(self, data: bytes) -> None:
        """See Handler."""
        self._take(data)
        if self.exchange is not None:
            self.exchange.consumed(len(data))

    def on_end(self, stopped: bool) -> None:
        """See Handler."""
        if not self.done.done():
            self.done.set_result((self._status, self._body))

    def on_reset(self, reset: Reset) -> None:
        """See Handler."""
        if not self.done.done():
            self.done.set_exception(KasError(f"the cluster could not be asked: {reset.reason or 'the request failed'}"))

    def on_room(self) -> None:
        """See Handler."""

    def on_stop(self, code: Code) -> None:
        """See Handler."""

    def _take(self, data: bytes) -> None:
        self._body += data
        if len(self._body) > MAX_BYTES and not self.done.done():
            self.done.set_exception(KasError("the cluster answers with more than a review"))


async def review(upstream: Upstream, grant: Grant, info: RequestInfo, request_id: str) -> tuple[bool, str]:
    """Whether the cluster lets the grant's identity do this, and its reason. Raises KasError; cancelled, the request is reset."""
    body = json.dumps(
        {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": _spec(info)}
    ).encode()
    headers = [
        (b"Content-Type", b"application/json"),
        (b"Accept", b"application/json"),
        (b"User-Agent", b"kas-explain"),
    ]
    wanted = Open(
        grant.identity,
        b"POST",
        _TARGET,
        headers,
        body,
        True,
        False,
        len(body),
        int(LIMIT_S * 1000),
        request_id,
        grant.labels,
    )
    collected = Collected()
    exchange = collected.exchange = upstream.open(grant.agent.id, wanted, collected)
    if exchange is None:
        raise AgentNotConnected("the agent is not connected to kas right now")
    try:
        async with asyncio.timeout(LIMIT_S):
            status, answer = await collected.done
    except TimeoutError:
        raise KasError(f"the cluster did not answer within {LIMIT_S:g} s") from None
    finally:
        if not collected.done.done() or collected.done.cancelled():
            exchange.reset(Code.CANCELLED, "nobody waits any more", hop=Hop.ENTRY)
    return _verdict(status, answer)


def _spec(info: RequestInfo) -> dict[str, Any]:
    if not info.is_resource_request:
        return {"nonResourceAttributes": {"path": info.path, "verb": info.verb}}
    verb = "create" if info.subresource in _SESSIONS else info.verb
    named = {"namespace": info.namespace, "group": info.api_group, "subresource": info.subresource, "name": info.name}
    return {
        "resourceAttributes": {
            "verb": verb,
            "resource": info.resource,
            **{key: value for key, value in named.items() if value},
        }
    }


def _verdict(status: int, answer: bytes) -> tuple[bool, str]:
    try:
        said = json.loads(answer)
        if status == 201:
            result = said["status"]
            return result["allowed"] is True, str(result.get("reason", ""))[:300]
        reason = str(said.get("message", ""))[:300]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        reason = "in a form that is no review"
    raise KasError(f"the cluster answers {status}: {reason}")
