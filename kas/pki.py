"""kas's own certificate authority: made at the first start, renewed before anything expires, crash-safe on disk.

In its folder: ``ca.pem`` (key and certificate of the CA), ``ca.crt`` (what clients trust: every CA of ours that is still valid),
``leaf.pem`` (key, certificate and chain of the doors). Each file is replaced whole, so a crash leaves the old or the new one.
A new CA is signed by itself and by its predecessor, so who trusts only the old ``ca.crt`` goes on until that one expires.
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kas.clock import Clock
from kas.errors import ConfigurationError

CA_LIFE = timedelta(
    days=3652
)  # ten years: it stands in kubeconfigs and clusters, where replacing it is work for people
CA_OVERLAP = timedelta(days=365)  # its successor appears a year before: time to hand out the new ca.crt
LEAF_LIFE = timedelta(days=90)
LEAF_RENEWED_AT = 2 / 3  # of its life; a month is left to notice that renewal fails
BACKDATED = timedelta(hours=1)  # clocks of clusters and jobs run late
_PRIVATE = 0o600
_PUBLIC = 0o644


@dataclass(frozen=True)
class KeyPair:
    """PEM bytes of a private key, and of a certificate with its chain."""

    key: bytes
    chain: bytes

    def __repr__(self) -> str:
        return f"<KeyPair {describe(self).subject}>"


@dataclass(frozen=True)
class Description:
    """What a certificate says about itself."""

    subject: str
    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime


@dataclass(frozen=True)
class _Authority:
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    by_predecessor: x509.Certificate | None  # this CA again, signed by the one before


class OwnCa:
    """The CA in ``folder``, with one leaf certificate for ``names``. Several processes may use one folder at once."""

    def __init__(self, folder: Path, names: Sequence[str], clock: Clock) -> None:
        self._folder = folder
        self._names = tuple(names)
        self._clock = clock

    def ensure(self) -> KeyPair:
        """Make what is missing, renew what is due, and return the leaf. Cheap when nothing is to be done.

        Raises ConfigurationError if the folder cannot be used or holds something damaged.
        """
        now = datetime.fromtimestamp(self._clock(), UTC)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _alone(self._folder / "lock"):
                return self._leaf(self._authority(now), now)
        except OSError as error:
            raise ConfigurationError(
                f"state_dir: {self._folder} cannot be used: {error.strerror}; it must belong to the user that runs kas"
            ) from error

    def bundle(self) -> bytes:
        """What clients must trust, PEM. Only after ``ensure``."""
        return self._bundle_path.read_bytes()

    @property
    def _bundle_path(self) -> Path:
        return self._folder / "ca.crt"

    def _authority(self, now: datetime) -> _Authority:
        path = self._folder / "ca.pem"
        current = _read_authority(path) if path.exists() else None
        if current is None or current.certificate.not_valid_after_utc - now < CA_OVERLAP:
            current = _new_authority(current, now)
            self._publish(current, now)  # first: a CA that signs is a CA that clients can know
            _write_authority(path, current)
        self._publish(current, now)
        return current

    def _publish(self, authority: _Authority, now: datetime) -> None:
        known = _certificates(self._bundle_path) if self._bundle_path.exists() else []
        kept = [one for one in known if one.not_valid_after_utc > now and one != authority.certificate]
        bundle = b"".join(_pem(one) for one in [authority.certificate, *kept])
        if not self._bundle_path.exists() or self._bundle_path.read_bytes() != bundle:
            _replace(self._bundle_path, bundle, _PUBLIC)

    def _leaf(self, authority: _Authority, now: datetime) -> KeyPair:
        path = self._folder / "leaf.pem"
        content = path.read_bytes() if path.exists() else b""
        if not self._is_current(content, authority, now):
            content = _new_leaf(authority, self._names, now)
            _replace(path, content, _PRIVATE)
        return _split(content)

    def _is_current(self, content: bytes, authority: _Authority, now: datetime) -> bool:
        try:
            pair = _split(content)
            leaf = x509.load_pem_x509_certificate(pair.chain)
            leaf.verify_directly_issued_by(authority.certificate)
            if leaf.public_key() != serialization.load_pem_private_key(pair.key, None).public_key():
                return False
        except Exception:  # noqa: BLE001 - damaged in whatever way: it is simply made anew
            return False
        life = leaf.not_valid_after_utc - leaf.not_valid_before_utc
        due = leaf.not_valid_before_utc + life * LEAF_RENEWED_AT
        return leaf.not_valid_before_utc <= now < due and set(_names_of(leaf)) == set(self._names)


def describe(pair: KeyPair) -> Description:
    """What the first certificate of the chain says. Raises ValueError if it is none."""
    certificate = x509.load_pem_x509_certificate(pair.chain)
    return Description(
        certificate.subject.rfc4514_string(),
        _names_of(certificate),
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
    )


def _new_authority(predecessor: _Authority | None, now: datetime) -> _Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, f"kas CA {now:%Y-%m-%d} {x509.random_serial_number():x}"[:32])]
    )
    own = _builder(subject, subject, key.public_key(), now, now + CA_LIFE)
    certificate = _as_authority(own, key, key.public_key(), path_length=1).sign(key, hashes.SHA256())
    if predecessor is None or predecessor.certificate.not_valid_after_utc <= now:
        return _Authority(key, certificate, None)
    old = predecessor.certificate
    crossed = _builder(subject, old.subject, key.public_key(), now, old.not_valid_after_utc)
    crossed = _as_authority(crossed, key, predecessor.key.public_key(), path_length=0)
    return _Authority(key, certificate, crossed.sign(predecessor.key, hashes.SHA256()))


def _as_authority(
    builder: x509.CertificateBuilder,
    key: ec.EllipticCurvePrivateKey,
    issuer: ec.EllipticCurvePublicKey,
    path_length: int,
) -> x509.CertificateBuilder:
    return (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer), critical=False)
    )


def _new_leaf(authority: _Authority, names: Sequence[str], now: datetime) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kas")])
    ends = min(now + LEAF_LIFE, authority.certificate.not_valid_after_utc)
    builder = (
        _builder(subject, authority.certificate.subject, key.public_key(), now, ends)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
    )
    leaf = builder.sign(authority.key, hashes.SHA256())
    return _key_pem(key) + _pem(leaf) + (_pem(authority.by_predecessor) if authority.by_predecessor else b"")


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, ends: datetime
) -> x509.CertificateBuilder:
    return x509.CertificateBuilder(
        issuer_name=issuer,
        subject_name=subject,
        public_key=key,
        serial_number=x509.random_serial_number(),
        not_valid_before=now - BACKDATED,
        not_valid_after=ends,
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(name.value) for name in names if isinstance(name, (x509.DNSName, x509.IPAddress)))


def _read_authority(path: Path) -> _Authority:
    content = path.read_bytes()
    if path.stat().st_mode & stat.S_IROTH:
        raise ConfigurationError(f"state_dir: every user may read the CA's key: chmod o-r {path}")
    try:
        key = serialization.load_pem_private_key(content, None)
        certificates = x509.load_pem_x509_certificates(content)
    except ValueError:
        key, certificates = None, []
    if (
        not isinstance(key, ec.EllipticCurvePrivateKey)
        or not certificates
        or certificates[0].public_key() != key.public_key()
    ):
        raise ConfigurationError(
            f"state_dir: {path} is damaged: restore it from a backup; or remove {path.parent}, start kas, and give agents and jobs "
            "the new ca.crt"
        )
    return _Authority(key, certificates[0], certificates[1] if len(certificates) > 1 else None)


def _write_authority(path: Path, authority: _Authority) -> None:
    crossed = _pem(authority.by_predecessor) if authority.by_predecessor else b""
    _replace(path, _key_pem(authority.key) + _pem(authority.certificate) + crossed, _PRIVATE)


def _certificates(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except ValueError:
        return []  # damaged: what we know is written again


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _split(content: bytes) -> KeyPair:
    key, _, chain = content.partition(b"-----BEGIN CERTIFICATE-----")
    return KeyPair(key, b"-----BEGIN CERTIFICATE-----" + chain)


def _replace(path: Path, content: bytes, mode: int) -> None:
    """The file is the old or the new one at any moment, also after a power cut."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """No other process makes certificates in this folder meanwhile."""
    with path.open("a") as file:
        os.chmod(path, _PRIVATE)
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
