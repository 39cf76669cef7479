"""Whose certificate it is, and what is wrong with it, in words."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

SOON_DAYS = 14
# X509_V_ERR_… of OpenSSL's x509_vfy.h
NOT_YET, EXPIRED, WRONG_NAME, WRONG_ADDRESS = 9, 10, 62, 64
_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME; the ssl module has no name for it
_SHOWN_NAMES = 6


class Certificate(NamedTuple):
    """What a certificate says about itself."""

    subject: str
    issuer: str
    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime

    def __str__(self) -> str:
        more = len(self.names) - _SHOWN_NAMES
        names = ", ".join(self.names[:_SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")
        return (
            f"the certificate of {self.subject} (names: {names or 'none'}), "
            f"issued by {self.issuer}, valid {self.not_before:%Y-%m-%d} to {self.not_after:%Y-%m-%d}"
        )


def described(said: Mapping[str, Any]) -> Certificate:
    """From ``SSLSocket.getpeercert()``."""
    names = tuple(str(value) for kind, value in said.get("subjectAltName", ()) if kind in ("DNS", "IP Address"))
    return Certificate(
        _name(said.get("subject", ())),
        _name(said.get("issuer", ())),
        names,
        _time(said["notBefore"]),
        _time(said["notAfter"]),
    )


def _name(relative: Any) -> str:
    """The common name, else the organisation, else everything."""
    parts = {key: value for one in relative for key, value in one}
    return str(parts.get("commonName") or parts.get("organizationName") or ", ".join(parts.values()) or "nobody")


def _time(text: str) -> datetime:
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(text), UTC)


def authorities(trusted: ssl.SSLContext) -> str:
    """The names of the CAs that were loaded from a file; "" for the machine's many."""
    names = [_name(one.get("subject", ())) for one in trusted.get_ca_certs()]
    return ", ".join(dict.fromkeys(names)) if 0 < len(names) <= _SHOWN_NAMES else ""


def curious() -> ssl.SSLContext:
    """Takes any certificate: to see whose it is. Nothing may be said over such a connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def believing(certificate: bytes) -> ssl.SSLContext:
    """Takes this one certificate (DER), whatever its dates and names: for the ssl module describes only what it has verified."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=certificate)
    context.verify_flags = ssl.VerifyFlags(ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME)
    return context


def trusting(ca: bytes | None, alpn: str) -> ssl.SSLContext:
    """As gRPC and kubectl trust kas: ``ca``, PEM, or what the machine trusts. Raises ssl.SSLError."""
    context = ssl.create_default_context(cadata=None if ca is None else ca.decode("ascii", "replace"))
    # As these do: a CA without key identifiers and a single intermediate are believed.
    context.verify_flags = (context.verify_flags & ~ssl.VERIFY_X509_STRICT) | ssl.VERIFY_X509_PARTIAL_CHAIN
    context.set_alpn_protocols([alpn])
    return context
