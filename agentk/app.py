"""The composition root: builds agentk, starts it in order, stops it in reverse. Reads top to bottom."""

from __future__ import annotations

import asyncio
import json
import logging
import resource
import signal
from collections.abc import Awaitable, Callable
from importlib.metadata import version as installed_version

import uvloop

from agentk.config import Settings
from agentk.dispatcher import Dispatcher
from agentk.errors import AgentkError
from agentk.kube_api.credentials import Credentials
from agentk.kube_api.question import Question
from agentk.observability import Sources, observability
from agentk.uplink import Uplink
from kastunnel.toolkit import logs, memory
from kastunnel.toolkit.logs import fields
from kastunnel.toolkit.tasks import background

log = logging.getLogger(__name__)

PROBE_S = 15.0  # how old readiness may be
PROBE_TIMEOUT_S = 10.0
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
    about = {"version": version, "instance": settings.instance}
    async with Dispatcher(credentials, head_timeout_s=settings.head_timeout_s) as dispatcher:
        _on_signals(stopping, dispatcher)
        uplink = Uplink(settings, dispatcher, about)
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
                probe=_probing(dispatcher, about),
                uplink=uplink.run,
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


def _probing(dispatcher: Dispatcher, about: dict[str, str]) -> Callable[[], Awaitable[None]]:
    async def probe() -> None:
        while True:
            answer = await Question().ask(dispatcher, b"/version", PROBE_TIMEOUT_S)
            dispatcher.statistics.reachable = answer.status != 0
            if answer.status == 200:
                about["kubernetes"] = _git_version(answer.body)
            await asyncio.sleep(PROBE_S)

    return probe


def _git_version(body: bytes) -> str:
    try:
        found = json.loads(body).get("gitVersion", "")
    except (ValueError, AttributeError):
        return ""
    return str(found)[:64]


def _first(group: BaseExceptionGroup[AgentkError]) -> AgentkError:
    for error in group.exceptions:
        return _first(error) if isinstance(error, BaseExceptionGroup) else error
    raise AssertionError("a group is never empty")


def _allow_many_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
