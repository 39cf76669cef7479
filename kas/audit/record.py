"""One record as JSON fields, cheaply: what is said of a grant is rendered once and kept. Never a token, query, body or command line."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any, NamedTuple, TypeVar

from kas.access.caller import Caller
from kas.access.grants import Grant
from kas.access.requests import action_of
from kastunnel.http.classify import RequestInfo
from kastunnel.link.frames import Impersonate

MAX_CHARACTERS = 256
MAX_REASON_CHARACTERS = 512
MAX_GROUPS = 50
KEPT = 4096
MAX_KEPT_BYTES = 512  # of a path or client that is remembered

Key = TypeVar("Key")
Value = str | int | float | bool | None


class RequestRecord(NamedTuple):
    """What happened with one request, as the door knows it: bytes as they came, nothing decoded."""

    event: str  # request, upgrade_begun
    at: float  # unix seconds
    request_id: str
    peer: str
    method: bytes
    path: bytes  # without query
    client: bytes  # User-Agent
    agent_id: int
    caller: Caller | None
    grant: Grant | None
    denied_agent: str  # of a request that was denied: what it was for
    denied_rule: str
    info: RequestInfo | None
    status: int
    outcome: str
    reason: str
    code: str
    hop: str
    bytes_to_cluster: int
    bytes_from_cluster: int
    duration_s: float


class EventRecord(NamedTuple):
    """Something that is not a request: an administrative act, a link, a configuration."""

    event: str
    at: float
    values: Mapping[str, Value]


class Renderer:
    """Makes JSON fields of records. One for each thread that makes some: it remembers."""

    def __init__(self) -> None:
        # By id; the object is kept so that its id stays its own.
        self._kept: OrderedDict[int, tuple[Any, str]] = OrderedDict()
        self._did: dict[tuple[bytes, bytes, str, str], str] = {}
        self._clients: dict[bytes, str] = {}
        self._second = -1
        self._said_second = ""

    def fields(self, record: RequestRecord | EventRecord) -> str:
        """``"time":…`` and what follows."""
        if isinstance(record, EventRecord):
            values = "".join(f",{_text(name)}:{_value(value)}" for name, value in record.values.items())
            return f'"time":"{self._time(record.at)}","event":"{record.event}"{values}'
        return self._request(record)

    def _request(self, r: RequestRecord) -> str:
        who = "" if r.caller is None else self._remembered(r.caller, _caller)
        as_whom = "" if r.grant is None else self._remembered(r.grant, _grant)
        if not as_whom and r.denied_agent:
            as_whom = f',"agent":{_text(r.denied_agent)},"rule":{_text(r.denied_rule)}'
        end = f',"client":{self._client(r.client)}' if r.client else ""
        if r.reason:
            end += f',"reason":{_text(r.reason, MAX_REASON_CHARACTERS)}'
        if r.code:
            end += f',"code":{_text(r.code)}'
        if r.hop:
            end += f',"hop":{_text(r.hop)}'
        return (  # one piece: this is most of what the audit log costs a request
            f'"time":"{self._time(r.at)}","event":"{r.event}","request_id":"{r.request_id}","peer":"{r.peer}"'
            f',"agent_id":{r.agent_id}{who}{as_whom}{self._what(r)},"outcome":"{r.outcome}","status":{r.status}'
            f',"bytes_to_cluster":{r.bytes_to_cluster},"bytes_from_cluster":{r.bytes_from_cluster}'
            f',"duration_ms":{r.duration_s * 1000:.1f}{end}'
        )

    def _what(self, r: RequestRecord) -> str:
        """Rendered once for each method and path; verb and name say what the query made of them."""
        verb, name = ("", "") if r.info is None else (r.info.verb, r.info.name)
        key = (r.method, r.path, verb, name)
        said = self._did.get(key)
        if said is None:
            said = _what(r)
            _keep(self._did, key, said, len(r.path) + len(name))
        return said

    def _client(self, client: bytes) -> str:
        said = self._clients.get(client)
        if said is None:
            said = _text(client.decode("latin-1"))
            _keep(self._clients, client, said, len(client))
        return said

    def _time(self, at: float) -> str:
        second = int(at)
        if second != self._second:
            self._second = second
            self._said_second = datetime.fromtimestamp(second, UTC).isoformat()[:19]
        return f"{self._said_second}.{int((at - second) * 1000):03d}Z"

    def _remembered(self, value: Any, render: Any) -> str:
        kept = self._kept.get(id(value))
        if kept is None:
            kept = self._kept[id(value)] = (value, render(value))
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return kept[1]


def _keep(kept: dict[Key, str], key: Key, said: str, size: int) -> None:
    if size <= MAX_KEPT_BYTES:
        if len(kept) >= KEPT:
            kept.clear()
        kept[key] = said


def _caller(caller: Caller) -> str:
    environment = caller.environment
    values = {
        "issuer": caller.issuer,
        "project": caller.project,
        "project_id": caller.project_id,
        "ref": caller.full_ref or caller.ref,
        "environment": (environment.name or environment.slug) if environment is not None else "",
        "pipeline": caller.pipeline_id,
        "job": caller.job_id,
        "user": caller.username,
    }
    return "".join(f',"{name}":{_text(value)}' for name, value in values.items() if value)


def _grant(grant: Grant) -> str:
    said = f',"agent":{_text(str(grant.agent))},"rule":{_text(grant.rule)}'
    if not isinstance(grant.identity, Impersonate):
        return f'{said},"acts_as":"agent"'
    groups = ",".join(_text(group) for group in grant.identity.groups[:MAX_GROUPS])
    return f'{said},"acts_as":{_text(grant.identity.user)},"acts_in_groups":[{groups}]'


def _what(r: RequestRecord) -> str:
    if r.info is None or not r.info.is_resource_request:
        return f',"method":{_text(r.method.decode("latin-1"))},"path":{_text(r.path.decode("latin-1"))}'
    action = action_of(r.info)
    said = (
        f',"method":{_text(r.method.decode("latin-1"))},"verb":{_text(action.verb)},"resource":{_text(action.resource)}'
    )
    if action.group:
        said += f',"api_group":{_text(action.group)}'
    if action.subresource:
        said += f',"subresource":{_text(action.subresource)}'
    if action.namespace:
        said += f',"namespace":{_text(action.namespace)}'
    return said + (f',"name":{_text(action.name)}' if action.name else "")


def _value(value: str | float | bool | None) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return _text(value, MAX_REASON_CHARACTERS) if isinstance(value, str) else str(value)


def _text(text: str, limit: int = MAX_CHARACTERS) -> str:
    return str(_quoted(text[:limit]))
