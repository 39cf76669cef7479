"""Log fields from one typed list, and the two formats that both programs print.

Messages are constant strings; what varies is a field: ``log.info("link opened", extra=fields(agent_id=7))``.
mypy rejects a misspelt field. No field ever holds a token, a body, a cookie or a query string.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal, TextIO, TypedDict, Unpack

MAX_VALUE_CHARACTERS = 512  # a hostile User-Agent or reason stays one readable line


class Fields(TypedDict, total=False):
    """Every field name that may stand in a log line of kas or agentk."""

    request_id: str
    agent_id: int
    agent: str
    project: str
    instance: str
    cluster: str  # its uid
    link: str  # a short public number, never the secret link id
    attach: int
    caller: str
    job_id: int | str
    rule: str
    reason: str
    code: str
    hop: str
    status: int
    method: str
    path: str
    verb: str
    resource: str
    namespace: str
    issuer: str
    bytes_in: int
    bytes_out: int
    duration_ms: float
    peer: str
    user_agent: str
    command: str
    door: str
    address: str
    version: str
    file: str
    line: int
    column: int
    commit: str
    repository: str
    count: int
    requests: int
    links: int
    change: str
    seq: int
    token_id: int
    registration_id: int
    error: str
    delay_s: float
    not_after: str
    names: str
    features: str
    kas_id: str
    signal: str
    url: str
    notice: str


def fields(**values: Unpack[Fields]) -> dict[str, Any]:
    """The ``extra=`` of a log call."""
    return {"fields": values}


def printable(value: object) -> object:
    """Numbers as they are; text cut to ``MAX_VALUE_CHARACTERS`` with control characters escaped (terminals obey them)."""
    if isinstance(value, (int, float)) or value is None:
        return value
    text = str(value)[:MAX_VALUE_CHARACTERS]
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, fields, and the error if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever the fields hold."""
        line: dict[str, object] = {
            "time": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for key, value in getattr(record, "fields", {}).items():
            line[key] = printable(value)
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=True, separators=(",", ":"))


class ConsoleFormatter(logging.Formatter):
    """For people: time, level, message, then fields as key=value."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the traceback below it if there is one."""
        values = " ".join(f"{key}={_quoted(value)}" for key, value in getattr(record, "fields", {}).items())
        text = f"{_timestamp(record)[11:23]} {record.levelname.lower():<7} {record.getMessage()}"
        if values:
            text = f"{text}  {values}"
        if record.exc_info:
            text = f"{text}\n{self.formatException(record.exc_info)}"
        return text


def set_up(level: str = "info", form: Literal["json", "console"] = "console", stream: TextIO | None = None) -> None:
    """Log to ``stream`` (stderr by default) in one of the two formats; call again to change either."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else ConsoleFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("aiosqlite", "alembic", "asyncio", "grpc", "aiohttp.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _timestamp(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _quoted(value: object) -> str:
    text = str(printable(value))
    return json.dumps(text) if " " in text or '"' in text or not text else text
