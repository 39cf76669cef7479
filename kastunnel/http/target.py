"""Raw request targets: what is refused, and the decoded path that Kubernetes classifies.

Targets are never normalised: a target that would change under normalisation is refused, every other is forwarded byte for
byte (``%2F``, ``//``, ``;`` and ``:`` included), so that the API server reads what was judged here.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from kastunnel.http.errors import BadMessage, Kind

METHODS = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE"})
"""The methods that reach an API server; case-sensitive."""

_plain = re.compile(rb"/[!\"$&-\[\]-~]*").fullmatch  # and without %
_well_formed = re.compile(rb"/(?:[!\"$&-\[\]-~]|%[0-9A-Fa-f]{2})*").fullmatch
_separators = re.compile(rb"[/\\]").split


def check_method(method: bytes) -> None:
    """BadMessage (405) for a method that never reaches an API server."""
    if method not in METHODS:
        raise BadMessage(Kind.METHOD)


def check_target(target: bytes) -> None:
    """BadMessage (400) unless ``target`` is in origin form, well-formed, and without dot segments however encoded.

    Dots are looked for as they stand, after one decoding (what Kubernetes sees) and after a second (what a service behind
    its proxy may see).
    """
    if _plain(target) is not None:
        if b"/." in target:
            _check_dots(target.partition(b"?")[0])
        return
    if _well_formed(target) is None:
        raise BadMessage(Kind.TARGET)
    path = target.partition(b"?")[0]
    if b"%" not in path:
        _check_dots(path)
        return
    if b"%00" in path:
        raise BadMessage(Kind.TARGET, "NUL")
    once = unquote_to_bytes(path)
    _check_dots(once)
    if b"%" in once:
        _check_dots(unquote_to_bytes(once))


def _check_dots(path: bytes) -> None:
    for segment in _separators(path):
        if segment == b"." or segment == b"..":
            raise BadMessage(Kind.TARGET, "dot segment")


def decoded_path(target: bytes) -> bytes:
    """The path of a checked target, percent-decoded once, as the API server classifies it."""
    path = target.partition(b"?")[0]
    return unquote_to_bytes(path) if b"%" in path else path


def has_encoded_slash(target: bytes) -> bool:
    """A slash hides in a segment (``%2F``): it is a separator to Kubernetes, but not to everybody."""
    path = target.partition(b"?")[0]
    return b"%2f" in path or b"%2F" in path
