"""The practice cluster put together: started in order, stopped in reverse."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web import BaseRequest, Server

from kas.demo.practice_cluster import bodies, credentials, environment
from kas.demo.practice_cluster.deletion import Collector
from kas.demo.practice_cluster.events import Events
from kas.demo.practice_cluster.faults import Faults
from kas.demo.practice_cluster.identity import ADMIN, Access, User
from kas.demo.practice_cluster.kinds import kind_of
from kas.demo.practice_cluster.objects import Store
from kas.demo.practice_cluster.pods import Machine, Node
from kas.demo.practice_cluster.processes import Warden
from kas.demo.practice_cluster.requests import RequestRecord
from kas.demo.practice_cluster.server import ApiServer
from kas.demo.practice_cluster.workloads import Workloads
from kastunnel.toolkit.tasks import TaskOwner

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HOST = "127.0.0.1"  # nowhere else: it runs programs for whoever has the token
MAX_HEAD_BYTES = 64 * 1024
SHUTDOWN_S = 0.2  # for running requests; what still runs then is cancelled
NAMESPACES = ("default", "kube-public", "kube-system")


class Controller(Protocol):
    """Makes things so, step by step."""

    def reconcile(self) -> None:
        """Do what is due now; called again after every change."""
        ...


class PracticeCluster:
    """A small API server with one node, on localhost, whose pods are local processes. It is not Kubernetes.

    ``async with``: inside the block it serves; after it nothing is left, neither processes nor their files. The
    folder keeps ``admin.kubeconfig`` and ``ca.crt``, which are worthless then.
    """

    def __init__(self, directory: Path, port: int = 0) -> None:
        self.directory = directory
        self.kubeconfig = directory / "admin.kubeconfig"
        self.ca_file = directory / "ca.crt"
        self.faults = Faults()
        self.access = Access()
        self.tokens: dict[str, User] = {}  # who may come, and as whom: tests may add to it
        self.store = Store()
        self.url = ""
        self.token = ""
        self._port = port
        self._stack = AsyncExitStack()
        self._server: ApiServer | None = None
        self._controlling: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<PracticeCluster {self.url or 'not started'} {self.store!r}>"

    @property
    def requests(self) -> deque[RequestRecord]:
        """What was asked, oldest first; bounded, and a test may clear it."""
        if self._server is None:
            raise RuntimeError("the practice cluster is not started")
        return self._server.requests

    async def __aenter__(self) -> Self:
        try:
            await self._stack.enter_async_context(self._serving())
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    @asynccontextmanager
    async def _serving(self) -> AsyncIterator[None]:
        """Raises OSError if the port is taken or the folder cannot be written."""
        self.directory.mkdir(parents=True, exist_ok=True)
        own = credentials.made()
        self.token = own.token
        self.tokens[own.token] = ADMIN
        events = Events(self.store)
        warden = Warden()
        try:
            async with TaskOwner("practice cluster") as tasks:
                programs = self.directory / "bin"
                environment.install_programs(programs)
                node = Node(Machine(self.store, events, warden, self.directory / "pods", programs), tasks)
                self._create_namespaces()
                self._server = ApiServer(self.store, node, self.tokens, self.access, self.faults)
                controllers = (Workloads(self.store, events), node, Collector(self.store))
                async with self._listening(own, self._server):
                    self._controlling = tasks.spawn(self._control(controllers), name="controllers")
                    yield
        finally:
            warden.close()

    async def failed(self) -> None:
        """Wait until the controllers have failed (which is logged): a bug, after which nothing happens any more."""
        if self._controlling is not None:
            await asyncio.wait([self._controlling])

    async def _control(self, controllers: tuple[Controller, ...]) -> None:
        while True:
            version = self.store.version
            for controller in controllers:
                controller.reconcile()
            await self.store.changed(version)

    @asynccontextmanager
    async def _listening(self, own: credentials.Credentials, server: ApiServer) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()

        def request_of(
            message: RawRequestMessage, payload: StreamReader, protocol: object, writer: object, task: object
        ) -> BaseRequest:
            return BaseRequest(
                message,
                payload,
                protocol,  # type: ignore[arg-type]
                writer,  # type: ignore[arg-type]
                task,  # type: ignore[arg-type]
                loop,
                client_max_size=bodies.MAX_BYTES,
            )

        web = Server(
            server.handle,
            request_factory=request_of,
            handler_cancellation=True,
            access_log=None,
            max_line_size=MAX_HEAD_BYTES,
            max_field_size=MAX_HEAD_BYTES,
        )

        def protocol() -> asyncio.BaseProtocol:
            if self.faults.connections_to_refuse > 0:
                self.faults.connections_to_refuse -= 1
                return Refusing()
            return web()

        listener = await loop.create_server(protocol, HOST, self._port, ssl=own.server_context())
        try:
            port = listener.sockets[0].getsockname()[1]
            self.url = f"https://{HOST}:{port}"
            self.ca_file.write_bytes(own.ca)
            credentials.write_private(self.kubeconfig, own.kubeconfig(self.url))
            yield
        finally:
            listener.close()
            await web.shutdown(SHUTDOWN_S)
            await listener.wait_closed()

    def _create_namespaces(self) -> None:
        for name in NAMESPACES:
            labels = {"kubernetes.io/metadata.name": name}
            namespace = {"metadata": {"name": name, "labels": labels}, "spec": {"finalizers": ["kubernetes"]}}
            self.store.create(kind_of("namespaces"), {**namespace, "status": {"phase": "Active"}})
            self.store.create(kind_of("serviceaccounts"), {"metadata": {"name": "default", "namespace": name}})


class Refusing(asyncio.Protocol):
    """Aborts the connection as soon as it is made."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """From the transport."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 a stream transport
        transport.abort()


async def gone(parent: int, every_s: float = 0.5) -> None:
    """Wait until ``parent``, the process that started this one, is gone."""
    while os.getppid() == parent:  # noqa: ASYNC110 nobody tells us
        await asyncio.sleep(every_s)
