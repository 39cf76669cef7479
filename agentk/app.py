"""The composition root: builds agentk, starts it in order, stops it in reverse. Reads top to bottom."""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
from importlib.metadata import version as installed_version

import uvloop

from agentk.config import Settings
from agentk.dispatcher import Dispatcher
from agentk.errors import AgentkError
from agentk.kube_api.credentials import Credentials
from agentk.observability import Sources, observability
from agentk.probe import Probe
from agentk.uplink import Uplink
from kastunnel.toolkit import logs, memory
from kastunnel.toolkit.logs import fields
from kastunnel.toolkit.tasks import background

log = logging.getLogger(__name__)

MAX_FILES = 1 << 20  # a watch is a connection, so a file


def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT. Raises AgentkError for what an operator can cure."""
    logs.set_up(settings.log_level, settings.log_format)
    _allow_many_files()
    try:
        uvloop.run(run(settings))
    except BaseExceptionGroup as group:
        expected = group.subgroup(AgentkError)
        if expected is None:
            raise
        raise _first(expected) from group


async def run(settings: Settings) -> None:
    """The program itself; returns when it was told to stop and everything has ended."""
    stopping = asyncio.Event()
    version = installed_version("kubernetes-agent-server")
    credentials = Credentials(settings.kubeconfig, settings.context)
    await credentials.load()
    async with Dispatcher(credentials, head_timeout_s=settings.head_timeout_s) as dispatcher:
        _on_signals(stopping, dispatcher)
        probe = Probe(dispatcher, {"version": version, "instance": settings.instance})
        uplink = Uplink(settings, dispatcher, probe.about)

        async def linked() -> None:
            await probe.first()
            await uplink.run()

        sources = Sources(
            dispatcher.statistics,
            connected=lambda: uplink.connected,
            reachable=lambda: dispatcher.statistics.reachable,
            version=version,
        )
        async with (
            observability(settings.observability, sources) as listening,
            background(
                credentials=credentials.keep_fresh,
                deadlines=dispatcher.sweep,
                probe=probe.run,
                uplink=linked,
            ),
        ):
            memory.settle()
            address = str(credentials.access.endpoint)
            if settings.proxy is not None:
                log.info("kas is dialled through a proxy", extra=fields(address=str(settings.proxy)))
            log.info("agentk has started", extra=fields(version=version, instance=settings.instance, address=address))
            if listening is not None:
                log.info("metrics, liveness and readiness", extra=fields(address=str(listening)))
            await stopping.wait()
            await dispatcher.drain(settings.drain_timeout_s)
            await dispatcher.close()  # what is still open is reset while there is a link to say so
    log.info("agentk has stopped")


def _on_signals(stopping: asyncio.Event, dispatcher: Dispatcher) -> None:
    def told(name: str) -> None:
        if stopping.is_set():
            dispatcher.hurry()
        log.info("told to stop", extra=fields(signal=name))
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told, number.name)


def _first(group: BaseExceptionGroup[AgentkError]) -> AgentkError:
    for error in group.exceptions:
        return _first(error) if isinstance(error, BaseExceptionGroup) else error
    raise AssertionError("a group is never empty")


def _allow_many_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
