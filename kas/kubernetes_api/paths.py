"""Where a target leads: an agent's mount, GitLab's prefix, or the bare roots that kubectl uses when it drops the prefix."""

from __future__ import annotations

from typing import NamedTuple

from kas.kubernetes_api.replies import Refusal, Refused
from kastunnel.http.classify import request_info

AGENTS = b"/agents/"
GITLAB = b"/k8s-proxy/"
BARE_ROOTS = (b"/api", b"/apis", b"/version", b"/openapi", b"/healthz", b"/livez", b"/readyz", b"/metrics")
"""kubectl up to 1.33 sends ``get --raw`` and ``proxy`` without the prefix of its server URL."""

_TEXT_ROOTS = ("/api", "/apis", "/version", "/openapi", "/swagger")
MAX_ID = (1 << 63) - 1


class Place(NamedTuple):
    """The agent that the path names (None: only the token does), and the target for its API server, raw."""

    agent_id: int | None
    target: bytes


def locate(target: bytes) -> Place:
    """Find the mount, byte for byte. Raises Refused (404) for any other path."""
    if target.startswith(AGENTS):
        end = target.find(b"/", len(AGENTS))
        agent_id = agent_number(target[len(AGENTS) : end]) if end > 0 else None
        if agent_id is not None:
            return Place(agent_id, target[end:])
    elif target.startswith(GITLAB):
        return Place(None, target[len(GITLAB) - 1 :])
    elif target.startswith(BARE_ROOTS) and _first_segment(target) in BARE_ROOTS:
        return Place(None, target)
    raise Refused(Refusal.NO_SUCH_PATH)


def cut(target: bytes) -> bytes:
    """The target behind its mount, or as it is where there is none."""
    try:
        return locate(target).target
    except Refused:
        return target


def agent_number(digits: bytes) -> int | None:
    """1 to 2**63 - 1 in plain ASCII digits without a leading zero, or None."""
    if not digits.isdigit() or len(digits) > 19 or digits[0] == 0x30:
        return None
    number = int(digits)
    return number if number <= MAX_ID else None


def wants_text(target: bytes, accept: bytes) -> bool:
    """Discovery and the like, where kubectl shows a plain text body but not a Status."""
    if b"apidiscovery" in accept:
        return True
    info = request_info(b"GET", target)
    return info is not None and not info.is_resource_request and info.path.startswith(_TEXT_ROOTS)


def _first_segment(target: bytes) -> bytes:
    end = target.find(b"/", 1)
    path = target if end < 0 else target[:end]
    return path.partition(b"?")[0]
