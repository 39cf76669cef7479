"""The throw-away CA and what it signs."""

from __future__ import annotations

import base64
import json
import ssl
import stat
from pathlib import Path

from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store

from kas.demo.practice_cluster import credentials


def test_the_certificate_is_good_for_localhost_and_signed_by_the_ca():
    own = credentials.made()
    ca = x509.load_pem_x509_certificate(own.ca)
    leaf = x509.load_pem_x509_certificate(own.chain)
    verifier = PolicyBuilder().store(Store([ca])).build_server_verifier(x509.DNSName("localhost"))
    verifier.verify(leaf, [])
    assert isinstance(own.server_context(), ssl.SSLContext)


def test_nothing_is_the_same_twice():
    first, second = credentials.made(), credentials.made()
    assert first.token != second.token
    assert first.ca != second.ca
    assert len(first.token) >= 40


def test_the_kubeconfig_has_all_that_it_takes(tmp_path: Path):
    own = credentials.made()
    path = tmp_path / "config"
    path.write_text("old")
    path.chmod(0o644)
    credentials.write_private(path, own.kubeconfig("https://127.0.0.1:1"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    document = json.loads(path.read_text())
    assert document["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:1"
    assert base64.b64decode(document["clusters"][0]["cluster"]["certificate-authority-data"]) == own.ca
    assert document["users"][0]["user"] == {"token": own.token}
