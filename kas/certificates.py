"""The certificate of each door, from given files or from kas's own CA, replaced while connections stand."""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from kas.clock import Clock
from kas.config import Config, Tls
from kas.errors import ConfigurationError
from kas.pki import KeyPair, OwnCa, describe
from kas.preflight import read_secret

DOORS = ("agent_api", "observability", "management_api", "kubernetes_api")
MAX_CERTIFICATE_BYTES = 1024 * 1024


class CertificateSource:
    """The certificate of one door. What it gives out is that of the last load that went well."""

    def __init__(self, door: str, pair: KeyPair) -> None:
        self.door = door
        self._pair = pair
        self._description = describe(pair)
        self._contexts: list[ssl.SSLContext] = []

    def __repr__(self) -> str:
        return f"<CertificateSource {self.door} until {self.not_after:%Y-%m-%d} names={','.join(self.names)}>"

    @property
    def key_pair(self) -> KeyPair:
        """For gRPC: ask again at each handshake, or when ``reload`` says that it changed."""
        return self._pair

    @property
    def not_after(self) -> datetime:
        """When it expires."""
        return self._description.not_after

    @property
    def names(self) -> tuple[str, ...]:
        """Host names and addresses that it carries."""
        return self._description.names

    def ssl_context(self) -> ssl.SSLContext:
        """A server's context for HTTP/1.1, TLS 1.2 or newer. It belongs to the caller; a reload changes its certificate in place,
        for new connections only.
        """
        context = _context(self._pair, self.door)
        self._contexts.append(context)
        return context

    def use(self, pair: KeyPair) -> bool:
        """Take this one, which was checked before, from now on. False: it is the same as before."""
        if pair == self._pair:
            return False
        self._pair, self._description = pair, describe(pair)
        for context in self._contexts:
            _load(context, pair)
        return True


class Certificates:
    """All doors' certificates. Construct it once; call ``reload`` on SIGHUP, and every hour so that own ones are renewed."""

    def __init__(self, config: Config, clock: Clock) -> None:
        """Make or read them all. Raises ConfigurationError, one line per mistake."""
        self._clock = clock
        self._config = config
        pairs, self._own_bundle = self._collect(config)
        self._sources = {door: CertificateSource(door, pair) for door, pair in pairs.items()}

    def __getitem__(self, door: str) -> CertificateSource:
        """The source of a door. The observability door has none unless its ``tls`` is set: it speaks plain HTTP then."""
        return self._sources[door]

    def reload(self, config: Config | None = None) -> list[str]:
        """Read files and renew own certificates; the doors whose certificate changed.

        Raises ConfigurationError if any of them cannot be used; then all the old ones stay in force.
        """
        config = config or self._config
        pairs, bundle = self._collect(config)
        self._config, self._own_bundle = config, bundle
        return [door for door, pair in pairs.items() if door in self._sources and self._sources[door].use(pair)]

    def client_ca(self, door: str) -> bytes | None:
        """What a client of this door must trust, PEM; None: what its own machine trusts."""
        tls = _tls(self._config, door)
        if tls is None:
            return self._own_bundle
        return None if tls.ca_file is None else _read_certificates(tls.ca_file, f"{door}.tls.ca_file")

    def doubts(self) -> list[str]:
        """What will make clients refuse a certificate, one sentence each; for a warning at the start and after a reload."""
        now = datetime.fromtimestamp(self._clock(), UTC)
        return [doubt for source in self._sources.values() for doubt in _doubts(source, self._config, now)]

    def _collect(self, config: Config) -> tuple[Mapping[str, KeyPair], bytes | None]:
        pairs: dict[str, KeyPair] = {}
        mistakes: list[str] = []
        own = OwnCa(config.pki_dir, config.certificate_names, self._clock)
        needs_own = False
        for door in DOORS:
            tls = _tls(config, door)
            try:
                if tls is not None:
                    pairs[door] = read_pair(tls, door)
                elif door != "observability":
                    needs_own = True
                    pairs[door] = own.ensure()
            except ConfigurationError as error:
                if str(error) not in mistakes:  # the own CA's trouble is told once, not for each door
                    mistakes.append(str(error))
        if mistakes:
            raise ConfigurationError("\n".join(mistakes))
        return pairs, own.bundle() if needs_own else None


def read_pair(tls: Tls, door: str) -> KeyPair:
    """The given files, checked as far as a server can. Raises ConfigurationError."""
    chain = _read_certificates(tls.certificate_file, f"{door}.tls.certificate_file")
    key = read_secret(tls.key_file, f"{door}.tls.key_file").encode() + b"\n"
    if b"ENCRYPTED" in key:
        raise ConfigurationError(f"{door}.tls.key_file: {tls.key_file} has a passphrase; kas needs a key without one")
    pair = KeyPair(key, chain)
    _context(pair, door, f"{door}.tls: {tls.certificate_file} and {tls.key_file}")
    return pair


def _read_certificates(path: Path, option: str) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_CERTIFICATE_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"{option}: {path} cannot be read: {error.strerror}") from error
    try:
        describe(KeyPair(b"", content))
    except ValueError:
        raise ConfigurationError(
            f"{option}: {path} holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)"
        ) from None
    return content


def _context(pair: KeyPair, door: str, what: str = "") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        _load(context, pair)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigurationError(
                f"{what or door} do not belong together: the key is not that of the first certificate"
            ) from error
        raise ConfigurationError(
            f"{what or door} cannot be used: {error.reason or 'this is not a key and a certificate'}"
        ) from error
    return context


def _load(context: ssl.SSLContext, pair: KeyPair) -> None:
    with _as_file(pair.key + pair.chain) as path:
        context.load_cert_chain(path)


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """For OpenSSL, which reads keys from files only: in memory where the system can, so that no copy of the key meets a disk."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("kas-certificate", os.MFD_CLOEXEC)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            yield f"/proc/self/fd/{descriptor}"
    else:
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            yield file.name


def _tls(config: Config, door: str) -> Tls | None:
    tls: Tls | None = getattr(config, door).tls
    return tls


def _doubts(source: CertificateSource, config: Config, now: datetime) -> Iterator[str]:
    if source.not_after <= now:
        yield f"{source.door}: the certificate expired on {source.not_after:%Y-%m-%d}: clients will refuse it; renew it and send SIGHUP"
    url = getattr(getattr(config, source.door), "external_url", None)
    if url is not None and not covers(source.names, url.host):
        yield f"{source.door}: the certificate is not for {url.host} of external_url (it is for {', '.join(source.names) or 'no name'})"


def covers(names: tuple[str, ...], host: str) -> bool:
    """Whether a certificate for ``names`` is good for ``host``."""
    return host in names or ("." in host and f"*.{host.partition('.')[2]}" in names)
