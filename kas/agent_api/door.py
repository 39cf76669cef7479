"""The listener that agentk dials: it checks the agent token, reads the hello, and hands the stream to the links.

A gRPC handler is a door, not a home: when the client cancels, its next await is cancelled even in ``finally``. So a stream is
carried by a task of ours; the handler only waits for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Protocol

import grpc
import grpc.aio

from kas.clock import system_clock
from kas.errors import KasError, StoreUnavailable
from kas.links.registry import Links
from kastunnel.link import greeting
from kastunnel.link.errors import LinkError
from kastunnel.link.frames import Code
from kastunnel.toolkit.logs import fields
from kastunnel.toolkit.tasks import TaskOwner
from kastunnel.transport import grpc as transport
from kastunnel.transport.duplex import StreamLost

log = logging.getLogger(__name__)

HELLO_S = 10.0  # to say hello
MAX_STRANGERS = 1_000  # streams that have not said a valid hello yet; more are turned away at once
MAX_TOKEN_CHARACTERS = 1024
STOP_S = 1.0  # for handlers to return


class AgentToken(Protocol):
    """What the door needs to know of a token that is good."""

    @property
    def id(self) -> int:
        """Of the token."""

    @property
    def agent_id(self) -> int:
        """Of the agent that it stands for."""


class AgentTokens(Protocol):
    """Where agent tokens are looked up. Raises StoreUnavailable."""

    async def find(self, token: bytes) -> AgentToken | None:
        """The active token of an agent that exists, or None."""

    async def note_use(self, token: Any) -> None:
        """Remember that ``token``, which ``find`` gave, was used now. Never fails."""


class KeyPair(Protocol):
    """A private key and its certificate chain, PEM."""

    @property
    def key(self) -> bytes:
        """Secret."""

    @property
    def chain(self) -> bytes:
        """The door's own certificate first."""


def _credentials(key_pair: Callable[[], KeyPair]) -> grpc.ServerCredentials:
    current = key_pair()

    def configuration() -> Any:
        pair = key_pair()
        return grpc.ssl_server_certificate_configuration([(pair.key, pair.chain)])

    def newer() -> Any:
        nonlocal current
        pair = key_pair()
        if pair is current:
            return None
        current = pair
        return configuration()

    return grpc.dynamic_ssl_server_credentials(configuration(), newer)


class AgentApiDoor:
    """``start``, then ``stop``. Streams that are carried end only when their links do, or with ``stop``."""

    def __init__(self, tokens: AgentTokens, links: Links) -> None:
        self._tokens = tokens
        self._links = links
        self._streams = TaskOwner("agent-streams")
        self._strangers = 0
        self._server = transport.server(self._accept, system_clock)

    async def start(self, address: str, key_pair: Callable[[], KeyPair] | None) -> int:
        """Listen on ``host:port`` (port 0: any); the port. Raises KasError if it is in use.

        ``key_pair`` is asked at each handshake, so a renewed certificate is in force for new streams; None: in clear, for tests.
        """
        try:
            if key_pair is None:
                port = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, _credentials(key_pair))
        except RuntimeError as error:
            raise KasError(
                f"agent_api.listen: {address} is in use by another program, or not an address of this machine:"
                " stop that program, or choose another port"
            ) from error
        await self._server.start()
        return port

    async def stop(self) -> None:
        """Close the listener and every stream."""
        await self._streams.close()
        await self._server.stop(STOP_S)

    async def _accept(self, duplex: transport.ServerDuplex, token: str, peer: str) -> None:
        if self._strangers >= MAX_STRANGERS:
            await duplex.write(greeting.refusal_envelope(greeting.Refused(Code.LIMIT, "too many hellos at once", 1000)))
            return
        carrying = self._streams.spawn(self._serve(duplex, token, peer), name="stream")
        await asyncio.wait({carrying})

    async def _serve(self, duplex: transport.ServerDuplex, token: str, peer: str) -> None:
        self._strangers += 1
        try:
            found, first, hello = await self._greet(duplex, token, peer)
        except (StreamLost, TimeoutError) as error:
            log.info("agent said no hello", extra=fields(peer=peer, reason=str(error)))
            return
        except LinkError as error:
            log.warning("agent's hello makes no sense", extra=fields(peer=peer, reason=str(error)))
            return
        finally:
            self._strangers -= 1
        if found is None:
            return
        await self._tokens.note_use(found)
        try:
            await self._links.accept(found.agent_id, found.id, peer, duplex, first, hello)
        except StreamLost:
            return

    async def _greet(
        self, duplex: transport.ServerDuplex, token: str, peer: str
    ) -> tuple[AgentToken | None, bytes, greeting.Hello]:
        """The token's record and the hello; None if the stream was refused."""
        async with asyncio.timeout(HELLO_S):
            first = await duplex.read()
            hello = greeting.read_hello(first)
            try:
                found = await self._tokens.find(token.encode()) if len(token) <= MAX_TOKEN_CHARACTERS else None
            except StoreUnavailable:
                refused = greeting.Refused(Code.INTERNAL, "kas cannot read its database right now", 5000)
                await duplex.write(greeting.refusal_envelope(refused))
                return None, first, hello
            if found is None:
                log.warning(
                    "agent refused: unknown, expired or revoked token", extra=fields(peer=peer, instance=hello.instance)
                )
                self._links.count_refused()
                reason = "the agent token is unknown, has expired or was revoked"
                await duplex.write(greeting.refusal_envelope(greeting.Refused(Code.UNAUTHENTICATED, reason, 5000)))
            return found, first, hello
