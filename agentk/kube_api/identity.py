"""The identity of a request as header fields, from the typed field alone: added last, and nothing else may bring them."""

from __future__ import annotations

import re
from functools import lru_cache

from agentk.errors import OpenRefused
from kastunnel.link.frames import AsAgent, Code, Impersonate

MAX_GROUPS = 1_000  # far above any job; the API server's own head limit is 1 MiB
MAX_BYTES = 64 * 1024
_VALUE = re.compile(
    r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?"
)  # visible ASCII; blanks only inside, or a parser would cut them
_KEY_SAFE = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789!#$&'*+-.^_`|~")  # a header token's characters, but for %


Fields = tuple[tuple[bytes, bytes], ...]


def identity_fields(identity: AsAgent | Impersonate | object) -> Fields:
    """The Impersonate-* fields, none for the agent itself. Raises OpenRefused for what cannot be said exactly."""
    if type(identity) is AsAgent:
        return ()
    if type(identity) is not Impersonate:
        raise OpenRefused("the identity is missing or of an unknown kind", Code.UNSUPPORTED)
    return _impersonation(identity)


@lru_cache(maxsize=512)  # the requests of one job carry the same identity; hashing it costs a twentieth of writing it
def _impersonation(who: Impersonate) -> Fields:
    if not who.user:
        raise OpenRefused("the identity has no user")
    if len(who.groups) > MAX_GROUPS:
        raise OpenRefused(f"the identity has more than {MAX_GROUPS} groups")
    made = [(b"Impersonate-User", _value(who.user, "user"))]
    made += [
        (b"Impersonate-Group", _value(group, "group")) for group in who.groups
    ]  # one field each: "a,b" is one group
    if who.uid:
        made.append((b"Impersonate-Uid", _value(who.uid, "uid")))
    for key, values in who.extra:
        name = b"Impersonate-Extra-" + _extra_key(key)
        made += [(name, _value(value, "extra value")) for value in values]
    if sum(len(name) + len(value) + 4 for name, value in made) > MAX_BYTES:
        raise OpenRefused("the identity is too large")
    return tuple(made)


def _value(text: str, what: str) -> bytes:
    if not _VALUE.fullmatch(text):
        raise OpenRefused(f"the identity's {what} is empty or has a character that no header may carry")
    return text.encode("ascii")


def _extra_key(key: str) -> bytes:
    """Lower case, percent-encoded: the API server lowers the field's name and decodes it to the very key."""
    if not key:
        raise OpenRefused("the identity has an extra without a key")
    return "".join(chr(byte) if byte in _KEY_SAFE else f"%{byte:02x}" for byte in key.encode().lower()).encode("ascii")
