"""What a request asks for, and what becomes of it with a grant: pure, apart from taking the beginning of the body."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from kas.access.gate import access_denied
from kas.access.grants import Access, Denial, Grant
from kas.kubernetes_api import origins
from kas.kubernetes_api.credentials import read_credential
from kas.kubernetes_api.impersonation import read_identity
from kas.kubernetes_api.paths import locate
from kas.kubernetes_api.replies import Refusal, Refused
from kas.kubernetes_api.settings import DoorSettings
from kas.kubernetes_api.timeouts import query_timeout_s
from kastunnel.http.classify import RequestInfo, request_info
from kastunnel.http.request import VIA_PSEUDONYM, RequestHead, RequestReader
from kastunnel.link.frames import AsAgent, Impersonate, Open
from kastunnel.link.limits import NO_TIMEOUT_MS

OPEN_BODY = 64 * 1024  # of the body, inside Open
_VIA = (b"Via", b"1.1 " + VIA_PSEUDONYM)


class Wish(NamedTuple):
    """The agent and the target for its API server, and the token that must allow it (a secret)."""

    agent_id: int
    token: bytes
    target: bytes


class Judged(NamedTuple):
    """An admitted request, ready for a link."""

    wanted: Open
    grant: Grant
    info: RequestInfo | None
    is_long_running: bool
    limit_s: float
    """Until the head of the answer; without meaning for a long-running request."""
    max_body: int | None
    """Of a body whose length is not stated; None: no limit."""
    rest: bytes
    """Body bytes that came with the beginning and are too much for Open."""


def check_origin(head: RequestHead, settings: DoorSettings) -> None:
    """Raises Refused for a browser's page on a foreign origin."""
    if not origins.is_allowed(head, settings.allowed_origins):
        raise Refused(Refusal.ORIGIN)


def read_wish(head: RequestHead, read: Callable[[bytes], tuple[int, bytes]] = read_credential) -> Wish:
    """Raises Refused for a path that leads nowhere or to another agent than the token's, Unauthenticated for no credential.

    ``read``: as `read_credential`, with a memory perhaps.
    """
    named, target = locate(head.target)
    agent_id, token = read(head.authorization)
    if named is not None and named != agent_id:
        raise Refused(Refusal.ANOTHER_AGENT)
    return Wish(agent_id, token, target)


def judge(
    head: RequestHead, wish: Wish, access: Access, reader: RequestReader, settings: DoorSettings, request_id: str
) -> Judged:
    """Raises AccessDenied or Refused for what the access does not cover; BadMessage where the beginning of the body is broken."""
    target = wish.target
    info = request_info(head.method, target)
    grant = granted(access, info)
    identity = _own_identity(head, grant, settings) if head.impersonation else grant.identity
    is_upgrade = head.upgrade is not None
    is_long_running = is_upgrade or (info is not None and info.is_long_running)
    length = head.body_length
    max_body: int | None = settings.max_body_bytes
    if is_long_running and (is_upgrade or (info is not None and info.is_proxy)):
        max_body = None
    elif length is not None and length > settings.max_body_bytes:
        raise Refused(Refusal.BODY_TOO_LARGE)
    limit_s = settings.response_head_s
    if b"timeout=" in target and (asked_s := query_timeout_s(target)) is not None:
        limit_s = asked_s + settings.timeout_slack_s
    body = rest = b""
    if length != 0 and (body := reader.body()) and len(body) > OPEN_BODY:
        body, rest = body[:OPEN_BODY], body[OPEN_BODY:]
    wanted = Open(
        identity,
        head.method,
        target,
        [*head.headers, _VIA],
        body,
        reader.complete and not rest,
        is_upgrade,
        length,
        NO_TIMEOUT_MS if is_long_running else int(limit_s * 1000),
        request_id,
        grant.labels,
    )
    return Judged(wanted, grant, info, is_long_running, limit_s, None if length is not None else max_body, rest)


def granted(access: Access, info: RequestInfo | None) -> Grant:
    """What the access gives for this request. Raises AccessDenied."""
    verdict = access.grant_for(info)
    if isinstance(verdict, Denial):
        raise access_denied(access.caller, verdict, access.agent)
    return verdict


def _own_identity(head: RequestHead, grant: Grant, settings: DoorSettings) -> Impersonate:
    """The client's own wish, where the operator allows it and the agent acts as itself; never on top of an impersonation."""
    wish = read_identity(head.impersonation)
    if wish is None or not settings.allow_user_impersonation or not isinstance(grant.identity, AsAgent):
        raise Refused(Refusal.NESTED_IMPERSONATION)
    return wish
