"""A throw-away CA, a certificate for localhost and a random token: made at each start, good for that run only."""

from __future__ import annotations

import base64
import json
import os
import secrets
import ssl
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALID_FOR = timedelta(days=30)
CLOCK_SKEW = timedelta(hours=1)
CONTEXT = "practice-cluster"


@dataclass(frozen=True)
class Credentials:
    """What the server proves itself with, and what its administrator does."""

    ca: bytes  # PEM
    chain: bytes  # PEM, the certificate and its private key
    token: str

    def server_context(self) -> ssl.SSLContext:
        """For the listener; HTTP/1.1 is all that is spoken."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.NamedTemporaryFile() as file:  # readable by us alone, and gone at once
            file.write(self.chain)
            file.flush()
            context.load_cert_chain(file.name)
        context.set_alpn_protocols(["http/1.1"])
        return context

    def kubeconfig(self, url: str) -> str:
        """An administrator's kubeconfig (JSON, which is YAML)."""
        ca = base64.b64encode(self.ca).decode()
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": CONTEXT, "cluster": {"server": url, "certificate-authority-data": ca}}],
                "users": [{"name": "practice-admin", "user": {"token": self.token}}],
                "contexts": [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": "practice-admin"}}],
                "current-context": CONTEXT,
            },
            indent=2,
        )


def made(now: datetime | None = None) -> Credentials:
    """New ones; the CA's private key is forgotten at once."""
    now = now or datetime.now(UTC)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = _name(f"practice cluster CA {secrets.token_hex(4)}")
    ca = (
        _builder(ca_name, ca_name, ca_key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    names = [x509.DNSName("localhost"), x509.IPAddress(IPv4Address("127.0.0.1"))]
    leaf = (
        _builder(_name("practice cluster"), ca_name, key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Credentials(ca.public_bytes(pem), leaf.public_bytes(pem) + private, secrets.token_urlsafe(32))


def write_private(path: Path, text: str) -> None:
    """Write a file that only we may read, whatever was there before."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + VALID_FOR)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, key_cert_sign: bool = False, digital_signature: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=key_cert_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
