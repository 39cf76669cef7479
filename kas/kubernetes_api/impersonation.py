"""A client's own Impersonate-* fields (``kubectl --as``) as a typed identity, where the operator allows them at all."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from kastunnel.link.frames import Impersonate

_EXTRA = b"impersonate-extra-"


def read_identity(found: list[tuple[bytes, bytes]]) -> Impersonate | None:
    """The identity that the fields ask for; None where they cannot be read without a doubt (then nothing may pass)."""
    user = uid = ""
    groups: list[str] = []
    extra: dict[str, list[str]] = {}
    for name, raw in found:
        key = name.lower()
        try:
            value = raw.decode()
            if key == b"impersonate-user" and not user:
                user = value
            elif key == b"impersonate-uid" and not uid:
                uid = value
            elif key == b"impersonate-group":
                groups.append(value)
            elif key.startswith(_EXTRA) and len(key) > len(_EXTRA):
                extra.setdefault(unquote_to_bytes(key[len(_EXTRA) :]).decode(), []).append(value)
            else:
                return None
        except UnicodeDecodeError:
            return None
    if not user:
        return None
    return Impersonate(user, tuple(groups), uid, tuple((key, tuple(values)) for key, values in extra.items()))
