"""Hosts and ports in text: IPv6 addresses stand in brackets (RFC 3986 section 3.2.2)."""

from __future__ import annotations


def bracketed(host: str) -> str:
    """The host as it stands in a URL."""
    return f"[{host}]" if ":" in host else host


def host_port(host: str, port: int) -> str:
    """``host:port``, or ``[address]:port``."""
    return f"{bracketed(host)}:{port}"
