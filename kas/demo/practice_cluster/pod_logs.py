"""The log subresource of pods: what a container printed, and what it prints."""

from __future__ import annotations

from datetime import datetime, timedelta

from aiohttp.web import BaseRequest

from kas.demo.practice_cluster.answers import Stream
from kas.demo.practice_cluster.container_logs import ContainerLog, Line
from kas.demo.practice_cluster.requests import Asked
from kas.demo.practice_cluster.status import bad_request
from kas.demo.practice_cluster.tables import parsed


async def serve(request: BaseRequest, asked: Asked, log: ContainerLog, container: str, now: datetime) -> Stream:
    """Stream the kept lines, and with ``follow`` those to come, until the container or the client is gone."""
    if asked.flag("previous"):
        raise bad_request(f'previous terminated container "{container}" not found: the practice cluster keeps none')
    since = _since(asked, now)
    lines = [line for line in log.kept() if since is None or line.time >= since]
    tail = asked.query.get("tailLines", "")
    if tail.isdigit():
        lines = lines[-int(tail) :] if int(tail) else []
    limit = asked.query.get("limitBytes", "")
    count = log.count
    stream = Stream("text/plain")
    await stream.begin(request)
    with_times = asked.flag("timestamps")
    text = b"".join(_written(line, with_times) for line in lines)
    if limit.isdigit():
        text = text[: int(limit)]
    if text:
        await stream.send(text)
    if asked.flag("follow"):
        async for more in log.follow(count):
            await stream.send(b"".join(_written(line, with_times) for line in more))
    return stream


def _since(asked: Asked, now: datetime) -> datetime | None:
    seconds, moment = asked.query.get("sinceSeconds", ""), asked.query.get("sinceTime", "")
    if seconds.isdigit():
        return now - timedelta(seconds=int(seconds))
    try:
        return parsed(moment) if moment else None
    except ValueError as error:
        raise bad_request(f"invalid sinceTime {moment!r}") from error


def _written(line: Line, with_times: bool) -> bytes:
    if not with_times:
        return line.text
    return line.time.strftime("%Y-%m-%dT%H:%M:%S.%f000Z").encode() + b" " + line.text
