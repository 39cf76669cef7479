"""How to reach the API server, and with which credential: plain values, so that a request needs no await to have them."""

from __future__ import annotations

import ssl
from typing import NamedTuple
from urllib.parse import urlsplit

from agentk.errors import ConfigurationError
from kastunnel.toolkit.hosts import bracketed, host_port


class Endpoint(NamedTuple):
    """Where a connection goes and as whom TLS knows us. Compared by identity: a changed certificate is another endpoint."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    server_name: str | None

    def __str__(self) -> str:
        return host_port(self.host, self.port)


class Access(NamedTuple):
    """One state of the credential: replaced as a whole, never changed."""

    endpoint: Endpoint
    prefix: bytes  # of the target: the path in the kubeconfig's server, for example b"/k8s/clusters/c-1"; no slash at its end
    host: bytes  # the value of Host
    credential: tuple[tuple[bytes, bytes], ...]  # the Authorization field; none with a client certificate

    def __repr__(self) -> str:
        return f"<Access {self.endpoint}>"  # the credential is a secret


def access(server: str, authorization: str, tls: ssl.SSLContext | None, server_name: str | None) -> Access:
    """From a kubeconfig's ``server`` and the value of Authorization ("" for none). Raises ConfigurationError."""
    parts = urlsplit(server)
    try:
        port = parts.port
    except ValueError as error:
        raise ConfigurationError(f"the kubeconfig's server {server!r}: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username is not None:
        raise ConfigurationError(f"the kubeconfig's server {server!r}: use https://HOST:PORT")
    if not server.isascii() or not server.isprintable() or " " in server:
        raise ConfigurationError("the kubeconfig's server: use printable ASCII")
    if not authorization.isascii() or not all(" " <= character <= "~" for character in authorization):
        raise ConfigurationError("the kubeconfig's token has a character that no header may carry")
    host = bracketed(parts.hostname)
    secure = parts.scheme == "https"
    endpoint = Endpoint(
        parts.hostname,
        port if port is not None else (443 if secure else 80),
        tls if secure else None,
        (server_name or parts.hostname) if secure else None,
    )
    return Access(
        endpoint,
        parts.path.rstrip("/").encode(),
        (f"{host}:{port}" if port is not None else host).encode(),
        ((b"Authorization", authorization.encode()),) if authorization else (),
    )
