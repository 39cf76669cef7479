"""Raw targets: forwarded as they are or refused, never rewritten."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kastunnel.http.errors import BadMessage
from kastunnel.http.target import check_target, decoded_path, has_encoded_slash


@pytest.mark.parametrize(
    "target",
    [
        b"/",
        b"//",
        b"/a//b;c:d",
        b"/a%2Fb",
        b"/.a/b./...",
        b"/a?b=/../",
        b"/a?b=%00",
        b"/a%20b",
        b"/a%3B..%3Bb",
        b"/?",
        b"/a%25zz",
    ],
)
def test_accepted(target: bytes) -> None:
    check_target(target)


@pytest.mark.parametrize(
    "target", [b"/a/%2e", b"/%2E%2e", b"/a%2F..", b"/..%2f", b"/%252e%252e", b"/%25%32%65", b"/a\\..\\b", b"/..%5c"]
)
def test_dot_segments_are_found_however_encoded(target: bytes) -> None:
    with pytest.raises(BadMessage):
        check_target(target)


def test_the_decoded_path_is_what_kubernetes_classifies() -> None:
    assert (
        decoded_path(b"/api/v1/namespaces%2Fkube-system%2Fsecrets?x=%2F") == b"/api/v1/namespaces/kube-system/secrets"
    )
    assert has_encoded_slash(b"/a%2fb")
    assert not has_encoded_slash(b"/a?b=%2F")


@given(
    st.lists(
        st.sampled_from(
            [b"/", b".", b"..", b"%2e", b"%2E", b"%2f", b"%5c", b"\\", b"%25", b"2e", b"a", b"?", b"%", b"#", b" "]
        )
    )
)
def test_no_accepted_target_changes_under_normalisation(pieces: list[bytes]) -> None:
    target = b"/" + b"".join(pieces)
    try:
        check_target(target)
    except BadMessage:
        return
    path = target.partition(b"?")[0]
    for _ in range(2):
        path = unquote_to_bytes(path)
        assert not {b".", b".."} & set(path.split(b"/"))
