"""exec and attach: the client's channels joined to a process."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from aiohttp.web import BaseRequest

from kas.demo.practice_cluster import channels, processes
from kas.demo.practice_cluster.channels import STDERR, STDOUT, Channels, Wanted
from kas.demo.practice_cluster.containers import Container
from kas.demo.practice_cluster.pods import RunningPod
from kas.demo.practice_cluster.processes import LocalProcess
from kas.demo.practice_cluster.requests import Asked
from kas.demo.practice_cluster.status import bad_request

OUTPUT_BYTES = 32 * 1024  # per message to the client, as client-go's buffers are
DRAIN_S = 2.0  # for output that children of an ended process still hold open
END_OF_OUTPUT = ("", b"")
SUCCESS: dict[str, Any] = {"metadata": {}, "status": "Success"}


async def execute(request: BaseRequest, asked: Asked, pod: RunningPod, container: Container) -> None:
    """Serve an exec until the process has ended or the client is gone; either way the process is killed."""
    command = asked.all("command")
    if not command:
        raise bad_request("you must specify at least 1 command for the container")
    _check_running(container)
    wanted = _wanted(asked)
    client = await channels.accept(request, wanted)
    try:
        process = await pod.execute(container, command, stdin=wanted.stdin, terminal=wanted.terminal)
    except processes.CannotStart as error:
        await client.finish(_failure(f"Internal error occurred: error executing command in container: {error}"))
        return
    try:
        status = await _joined(client, process)
    finally:
        await process.close()
    await client.finish(status)


async def attach(request: BaseRequest, asked: Asked, container: Container) -> None:
    """Serve an attach until the container's process has ended or the client is gone; the process stays."""
    _check_running(container)
    process = container.process
    if process is None:
        raise bad_request(f"container {container.name} is not running")
    output = container.log.attach()
    try:
        client = await channels.accept(request, _wanted(asked))
        async with asyncio.TaskGroup() as group:
            hear = group.create_task(_hear(client, process, once=bool(container.spec.get("stdinOnce"))))
            show = group.create_task(_show(client, output))
            await process.drained.wait()
            await output.put(END_OF_OUTPUT)
            await show
            hear.cancel()
    finally:
        container.log.detach(output)
    await client.finish(exit_status(await process.wait()))


def exit_status(code: int) -> dict[str, Any]:
    """How the client learns an exit code."""
    if code == 0:
        return SUCCESS
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def _failure(message: str) -> dict[str, Any]:
    return {"metadata": {}, "status": "Failure", "message": message, "reason": "InternalError", "code": 500}


def _wanted(asked: Asked) -> Wanted:
    wanted = Wanted(asked.flag("stdin"), asked.flag("stdout"), asked.flag("stderr"), asked.flag("tty"))
    if not (wanted.stdin or wanted.stdout or wanted.stderr):
        raise bad_request("you must specify at least 1 of stdin, stdout, stderr")
    return wanted


def _check_running(container: Container) -> None:
    if container.process is None:
        raise bad_request(f'container not found ("{container.name}"): it is not running')


async def _joined(client: Channels, process: LocalProcess) -> dict[str, Any]:
    """Pass bytes both ways until the process has ended and all its output is sent."""
    async with asyncio.TaskGroup() as group:
        pumps = [group.create_task(_pump(client, STDOUT, process.stdout))]
        if process.stderr is not None:
            pumps.append(group.create_task(_pump(client, STDERR, process.stderr)))
        hear = group.create_task(_hear(client, process, once=True))
        code = await process.wait()
        await asyncio.wait(pumps, timeout=DRAIN_S if any(not pump.done() for pump in pumps) else None)
        for task in (*pumps, hear):
            task.cancel()
    return exit_status(code)


async def _pump(client: Channels, channel: int, reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(OSError):  # the client is gone, or a terminal whose other side is
        while data := await reader.read(OUTPUT_BYTES):
            await client.send(channel, data)


async def _hear(client: Channels, process: LocalProcess, *, once: bool) -> None:
    async for said in client.said():
        match said:
            case channels.Input(data):
                await process.write(data)
            case channels.InputEnded():
                if once:
                    process.end_input()
            case channels.Resized(columns, rows):
                process.resize(columns, rows)


async def _show(client: Channels, output: asyncio.Queue[tuple[str, bytes]]) -> None:
    while (piece := await output.get()) != END_OF_OUTPUT:
        stream, data = piece
        for start in range(0, len(data), OUTPUT_BYTES):
            await client.send(STDOUT if stream == "stdout" else STDERR, data[start : start + OUTPUT_BYTES])
