"""The certificate that a door should show, read without making or renewing anything."""

from __future__ import annotations

import re
import ssl
from typing import NamedTuple

from kas.certificates import read_pair
from kas.config import Config
from kas.errors import ConfigurationError
from kas.pki import Description, KeyPair, describe

_FIRST = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


class Shown(NamedTuple):
    """``source``: the file, for people. ``der``: the certificate itself."""

    source: str
    about: Description
    der: bytes
    is_own: bool


def shown_by(config: Config, door: str) -> Shown | str | None:
    """What is on disk for ``door``; words for why it cannot be used; None: kas's own CA has not made it yet."""
    tls = getattr(config, door).tls
    try:
        if tls is not None:
            return _shown(str(tls.certificate_file), read_pair(tls, door).chain, is_own=False)
        path = config.pki_dir / "leaf.pem"
        return _shown(str(path), path.read_bytes(), is_own=True) if path.exists() else None
    except ConfigurationError as error:
        return str(error)
    except (OSError, ValueError) as error:
        return f"{config.pki_dir}: {getattr(error, 'strerror', None) or 'damaged'}"


def _shown(source: str, pem: bytes, *, is_own: bool) -> Shown:
    first = _FIRST.search(pem)
    if first is None:
        raise ValueError("no certificate")
    return Shown(source, describe(KeyPair(b"", first[0])), ssl.PEM_cert_to_DER_cert(first[0].decode("ascii")), is_own)


def client_ca(config: Config, door: str) -> bytes | None:
    """What clients of ``door`` are told to trust, PEM; None: what their machines trust. Raises OSError."""
    tls = getattr(config, door).tls
    path = config.pki_dir / "ca.crt" if tls is None else tls.ca_file
    return None if path is None else bytes(path.read_bytes())
