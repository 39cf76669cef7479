"""The credential of a request: ``Authorization: Bearer ci:<agent id>:<token>``, as GitLab's kubeconfigs have it."""

from __future__ import annotations

import re

from kas.errors import Unauthenticated
from kas.kubernetes_api.paths import MAX_ID

# One space, digits in ASCII without a leading zero; the token may hold colons. The scheme alone is without case (RFC 9110).
_credential = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr] ci:([1-9][0-9]{0,18}):([!-~]+)").fullmatch


def read_credential(authorization: bytes) -> tuple[int, bytes]:
    """Agent id and token. Raises Unauthenticated for anything else, with one and the same text."""
    match = _credential(authorization)
    if match is None:
        raise Unauthenticated
    agent_id = int(match[1])
    if agent_id > MAX_ID:
        raise Unauthenticated
    return agent_id, match[2]
