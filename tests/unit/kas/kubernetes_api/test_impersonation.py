"""A client's own identity, read without a doubt or not at all."""

from __future__ import annotations

import pytest

from kas.kubernetes_api.impersonation import read_identity
from kastunnel.link.frames import Impersonate


@pytest.mark.parametrize(
    ("fields", "identity"),
    [
        ([(b"Impersonate-User", b"u")], Impersonate("u")),
        ([(b"impersonate-group", b"a,b"), (b"IMPERSONATE-USER", "ü".encode()), (b"Impersonate-group", b"c")],
         Impersonate("ü", ("a,b", "c"))),
        ([(b"Impersonate-User", b"u"), (b"Impersonate-Extra-A%2Fb", b"1")], Impersonate("u", extra=(("a/b", ("1",)),))),
        ([(b"Impersonate-Group", b"g")], None),
        ([(b"Impersonate-User", b"")], None),
        ([(b"Impersonate-User", b"u"), (b"Impersonate-User", b"v")], None),
        ([(b"Impersonate_User", b"u")], None),
        ([(b"Impersonate-User", b"u"), (b"Impersonate-Else", b"v")], None),
        ([(b"Impersonate-User", b"\xff")], None),
        ([(b"Impersonate-User", b"u"), (b"Impersonate-Extra-", b"v")], None),
    ],
)  # fmt: skip
@pytest.mark.covers("I-05", "I-12")
def test_a_wish_is_read_without_a_doubt_or_not_at_all(
    fields: list[tuple[bytes, bytes]], identity: Impersonate | None
) -> None:
    assert read_identity(fields) == identity
