"""One record as JSON fields, cheaply: what is said of a grant is rendered once and kept. Never a token, query, body or command line."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
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

    def _request(self, record: RequestRecord) -> str:
        # Taken apart at once, and memories looked into here: this is most of what the audit log costs a request.
        (
            event, at, request_id, peer, method, path, client, agent_id, caller, grant, denied_agent, denied_rule,
            info, status, outcome, reason, code, hop, to_cluster, from_cluster, duration_s,
        ) = record  # fmt: skip
        kept = self._kept
        who = as_whom = end = ""
        if caller is not None:
            who = said[1] if (said := kept.get(id(caller))) is not None else self._remember(caller, _caller)
        if grant is not None:
            as_whom = said[1] if (said := kept.get(id(grant))) is not None else self._remember(grant, _grant)
        elif denied_agent:
            as_whom = f',"agent":{_text(denied_agent)},"rule":{_text(denied_rule)}'
        # Verb and name say what the query made of method and path.
        key = (method, path, "", "") if info is None else (method, path, info.verb, info.name)
        what = self._did.get(key)
        if what is None:
            what = _what(record)
            _keep(self._did, key, what, len(path) + len(key[3]))
        if client:
            end = self._clients.get(client) or self._client(client)
        if reason:
            end += f',"reason":{_text(reason, MAX_REASON_CHARACTERS)}'
        if code:
            end += f',"code":{_text(code)}'
        if hop:
            end += f',"hop":{_text(hop)}'
        return (
            f'"time":"{self._time(at)}","event":"{event}","request_id":"{request_id}","peer":"{peer}"'
            f',"agent_id":{agent_id}{who}{as_whom}{what},"outcome":"{outcome}","status":{status}'
            f',"bytes_to_cluster":{to_cluster},"bytes_from_cluster":{from_cluster},"duration_ms":{duration_s * 1000:.1f}{end}'
        )

    def _client(self, client: bytes) -> str:
        said = f',"client":{_text(client.decode("latin-1"))}'
        _keep(self._clients, client, said, len(client))
        return said

    def _time(self, at: float) -> str:
        second = int(at)
        if second != self._second:
            self._second = second
            self._said_second = datetime.fromtimestamp(second, UTC).isoformat()[:19]
        return f"{self._said_second}.{int((at - second) * 1000):03d}Z"

    def _remember(self, value: Any, render: Callable[[Any], str]) -> str:
        said = render(value)
        self._kept[id(value)] = (value, said)
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return said


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
