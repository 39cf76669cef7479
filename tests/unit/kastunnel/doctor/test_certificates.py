from __future__ import annotations

import ssl
from datetime import UTC, datetime

import pytest

from kastunnel.doctor.certificates import authorities, described, trusting

SAID = {
    "subject": ((("organizationName", "Example"),), (("commonName", "kas.example.com"),)),
    "issuer": ((("organizationName", "Example CA"),),),
    "subjectAltName": (("DNS", "kas.example.com"), ("IP Address", "10.0.0.1"), ("URI", "x:y")),
    "notBefore": "Jan  1 00:00:00 2026 GMT",
    "notAfter": "Mar  1 12:00:00 2026 GMT",
}


def test_a_certificate_is_told_by_subject_names_issuer_and_dates() -> None:
    found = described(SAID)
    assert found.not_after == datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert str(found) == (
        "the certificate of kas.example.com (names: kas.example.com, 10.0.0.1), issued by Example CA, valid 2026-01-01 to 2026-03-01"
    )


def test_one_without_any_name_and_one_with_many_are_told_too() -> None:
    assert "of nobody (names: none)" in str(described({**SAID, "subject": (), "subjectAltName": ()}))
    many = tuple(("DNS", f"n{number}") for number in range(100))
    assert "n5 and 94 more)" in str(described({**SAID, "subjectAltName": many}))


def test_what_is_no_ca_is_refused_and_the_machines_many_have_no_name() -> None:
    with pytest.raises(ssl.SSLError):
        trusting(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "h2")
    assert authorities(trusting(None, "h2")) == ""
