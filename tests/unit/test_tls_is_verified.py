"""No hop goes without looking at the other end's certificate, but where it is said why."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
UNVERIFIED = re.compile(
    r"check_hostname\s*=\s*False|CERT_NONE|verify_ssl\s*=\s*False|ssl\s*=\s*False|_create_unverified|insecure_channel"
)
# File → why it may.
REVIEWED = {
    "agentk/kube_api/credentials.py": "a kubeconfig that says insecure-skip-tls-verify, which is warned about",
    "kastunnel/doctor/certificates.py": "doctor looks at a certificate that is not trusted, to say whose it is; nothing is sent",
    "kastunnel/transport/grpc.py": "a kas address that says grpc:// on purpose, which is warned about",
}


@pytest.mark.covers("T32")
def test_nothing_but_what_was_reviewed_goes_unverified() -> None:
    found = {
        str(path.relative_to(TOP))
        for room in ("kas", "agentk", "kastunnel")
        for path in (TOP / room).rglob("*.py")
        if UNVERIFIED.search(path.read_text())
    }
    assert found == set(REVIEWED)
