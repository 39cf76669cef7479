"""What this door needs from other rooms, in its own words; kas.access and kas.routing have it."""

from __future__ import annotations

from typing import Protocol

from kas.access.grants import Access
from kas.audit.record import RequestRecord, Value
from kastunnel.link.frames import Open
from kastunnel.link.handler import Exchange, Handler


class AccessGate(Protocol):
    """Who may: kas.access.gate.Gate."""

    def admitted(self, agent_id: int, token: bytes, *, is_open: bool = False) -> Access | None:
        """The access if it is known, at once; None: ask ``admit``. ``is_open``: for a stream that goes on."""

    async def admit(self, agent_id: int, token: bytes, *, is_open: bool = False) -> Access:
        """The access. Raises Unauthenticated, AccessDenied, IssuerUnavailable."""


class Upstream(Protocol):
    """Links to agents: kas.routing."""

    def open(self, agent_id: int, request: Open, handler: Handler) -> Exchange | None:
        """Open the request on a link of the agent; None: there is none right now. Calls ``handler`` never before it returns."""

    async def wait(self, agent_id: int) -> None:
        """Until there may be a link. Raises AgentNotConnected when there will be none soon."""


class Audit(Protocol):
    """Where records go: kas.audit.writer.AuditLog. Nothing here waits."""

    @property
    def refuses(self) -> bool:
        """Whether no request may go on, since it could not be recorded."""

    def add(self, record: RequestRecord) -> None:
        """Keep it until it is written."""

    def event(self, name: str, **values: Value) -> None:
        """A record of something that is not a request."""
