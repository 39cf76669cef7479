"""The secrets that kas hands out: 256 random bits behind a word that names their kind (and that secret scanners can find).

Stored are eight characters to look them up by, and the SHA-256 of the whole: 208 secret bits stay, so no slow hash is needed.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from typing import NamedTuple

AGENT = "kasagent-"
JOB = "kasjob-"
PROJECT = "kasproject-"
_SECRET_BYTES = 32
_PREFIX_CHARACTERS = 8
_FORM = re.compile(rb"(kasagent-|kasjob-|kasproject-)([A-Za-z0-9_-]{43})")


class Fingerprint(NamedTuple):
    """What is stored of a token."""

    prefix: str
    sha256: bytes

    def matches(self, sha256: bytes) -> bool:
        """In constant time."""
        return hmac.compare_digest(self.sha256, sha256)


def new_token(kind: str) -> str:
    """A fresh secret; the caller shows it once and forgets it."""
    return kind + secrets.token_urlsafe(_SECRET_BYTES)


def new_secret(kind: str) -> tuple[str, Fingerprint]:
    """A fresh one, and what is stored of it."""
    token = new_token(kind)
    return token, _fingerprint(token.encode(), len(kind))


def fingerprint(token: bytes, kind: str) -> Fingerprint | None:
    """None: this cannot be a token of that kind, and no database need be asked."""
    form = _FORM.fullmatch(token)
    if form is None or form[1] != kind.encode():
        return None
    return _fingerprint(token, len(kind))


def _fingerprint(token: bytes, kind_length: int) -> Fingerprint:
    prefix = token[kind_length : kind_length + _PREFIX_CHARACTERS].decode()
    return Fingerprint(prefix, hashlib.sha256(token).digest())
