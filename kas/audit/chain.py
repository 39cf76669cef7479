"""What makes the log tamper-evident. Pure.

Each line ends in ``"mac"``: HMAC-SHA256, under a key that is not kept beside the log, of the line before its mac and of the mac of the
record before. So a record that is changed, removed, inserted or moved breaks the chain from there on. Cutting off the end leaves an
intact chain: that is found by the newest head (number and mac of a record, signed) in the database.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from hashlib import sha256
from typing import NamedTuple

_MAC = b',"mac":"'
_MAC_CHARACTERS = 64
_TAIL = len(_MAC) + _MAC_CHARACTERS + 2  # ..."}


class Head(NamedTuple):
    """Up to which record a chain goes."""

    seq: int
    mac: str


class Chain:
    """Makes the lines of one chain, in order. Not thread-safe."""

    def __init__(self, key: bytes, instance: str, head: Head | None = None) -> None:
        """``head``: where it stopped before; None: it begins."""
        self._hmac = hmac.new(key, digestmod=sha256)  # copied for each record, which spares mixing in the key
        self.head = head or beginning(key, instance)

    def lines(self, records: Iterable[str]) -> bytes:
        """The next lines, with their ends. A record: JSON's ``"name":value`` pairs without number and mac.

        When a record cannot be had, its error is raised and the chain stands where it stood.
        """
        seq, mac = self.head.seq, self.head.mac.encode()
        made: list[bytes] = []
        for record in records:
            seq += 1
            body = b'{"seq":%d,%b' % (seq, record.encode())
            hashed = self._hmac.copy()
            hashed.update(b"%b\n%b" % (mac, body))
            mac = hashed.hexdigest().encode()
            made.append(b'%b%b%b"}\n' % (body, _MAC, mac))
        self.head = Head(seq, mac.decode())
        return b"".join(made)


def beginning(key: bytes, instance: str) -> Head:
    """The head of a chain without records."""
    return Head(0, _mac(key, "", f"kas audit {instance}".encode()))


def mac_of(line: bytes) -> str | None:
    """The mac that the line says; None: it is no record."""
    line = line.rstrip(b"\n")
    if len(line) < _TAIL or not line.endswith(b'"}') or line[-_TAIL : -_TAIL + len(_MAC)] != _MAC:
        return None
    return line[-_MAC_CHARACTERS - 2 : -2].decode("ascii", "replace")


def follows(key: bytes, before: str, line: bytes) -> bool:
    """Whether the line is an unchanged record that was written right after the one with the mac ``before``."""
    said = mac_of(line)
    body = line.rstrip(b"\n")[:-_TAIL]
    return said is not None and hmac.compare_digest(said.encode(), _mac(key, before, body).encode())


def sign(key: bytes, instance: str, head: Head) -> str:
    """The signature of a head, for the database."""
    return _mac(key, "head", f"{instance} {head.seq} {head.mac}".encode())


def is_signed(key: bytes, instance: str, head: Head, signature: str) -> bool:
    """Whether kas made this head."""
    return hmac.compare_digest(sign(key, instance, head).encode(), signature.encode())


def _mac(key: bytes, before: str, body: bytes) -> str:
    return hmac.digest(key, before.encode() + b"\n" + body, sha256).hex()
