"""What agentk says where dialling kas again does not help."""

from __future__ import annotations

import pytest

from agentk.uplink import remedy

TLS = "unavailable: failed to connect to all addresses; last error: UNKNOWN: ipv4:10.0.0.1:8150: "


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (
            TLS + "Tls handshake failed: CERTIFICATE_VERIFY_FAILED: unable to get local issuer certificate",
            "--ca-cert-file",
        ),
        (TLS + "Hostname Verification Check failed.", "--kas-address"),
        (TLS + "Tls handshake failed: WRONG_VERSION_NUMBER", "no TLS"),
        (TLS + "Cannot check peer: missing selected ALPN property.", "no HTTP/2"),
        ("unavailable: errors resolving kas.example.com:8150: Domain name not found", "unknown here"),
        (TLS + "Failed to connect to remote host: Connection refused", ""),
        ("the stream ended", ""),
    ],
)
def test_remedies(reason: str, said: str) -> None:
    if said:
        assert said in remedy(reason)
    else:
        assert remedy(reason) == ""
