"""What the kubectl door may be told. The operator's names and reasons are in kas/config/."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from kas.config import KubernetesApi


@dataclass(frozen=True, slots=True)
class DoorSettings:
    """Limits and options; a door's ``settings`` may be replaced while it runs, for requests from then on."""

    tls_handshake_s: float = 10.0
    head_s: float = 10.0
    """From the first byte of a request (on a new connection: from its start) to the end of the head."""
    keep_alive_idle_s: float = 75.0
    body_idle_s: float = 30.0
    response_head_s: float = 75.0
    timeout_slack_s: float = 15.0
    """Added to the ``timeout=`` of a request: the API server keeps that limit itself and says more than we can."""
    write_stall_s: float = 300.0
    linger_s: float = 2.0
    """For a client to read an answer that came before its body was read; closing at once would destroy the answer."""
    max_body_bytes: int = 8 * 1024 * 1024
    max_connections: int = 4096
    max_unauthenticated_connections: int = 512
    allowed_origins: frozenset[bytes] = frozenset()
    """Lower-case, as browsers send them: ``https://console.example.com``."""
    allow_user_impersonation: bool = False
    log_all_requests: bool = False
    slow_s: float = 5.0
    """A request whose answer begins later than this is worth a line in the log."""
    sweep_s: float = 0.5
    """How exactly time limits are kept: they are looked at this often, all together."""
    recheck_s: float = 2.0
    """How often the grants behind open requests are looked at again."""

    @classmethod
    def from_config(cls, config: KubernetesApi, *, log_all_requests: bool = False) -> Self:
        """The settings that kas.yaml asks for."""
        limits = config.limits
        return cls(
            tls_handshake_s=limits.tls_handshake_s,
            head_s=limits.head_s,
            keep_alive_idle_s=limits.keep_alive_idle_s,
            body_idle_s=limits.body_idle_s,
            response_head_s=limits.response_head_s,
            write_stall_s=limits.write_stall_s,
            max_body_bytes=limits.max_body_bytes,
            max_connections=config.max_connections,
            max_unauthenticated_connections=config.max_unauthenticated_connections,
            allowed_origins=frozenset(str(origin).rstrip("/").lower().encode() for origin in config.allowed_origins),
            allow_user_impersonation=config.allow_user_impersonation,
            log_all_requests=log_all_requests,
        )
