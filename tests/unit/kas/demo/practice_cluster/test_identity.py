"""Tokens, impersonation and the knob that forbids."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from kas.demo.practice_cluster.identity import ADMIN, Access, Attributes, User, effective_user
from kas.demo.practice_cluster.status import ApiError

TOKENS = {"secret": ADMIN}


def headers(*pairs: tuple[str, str]) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict(pairs))


@pytest.mark.parametrize("value", ["", "Bearer", "Bearer wrong", "Basic secret", "secret"])
def test_without_the_token_nobody_is_let_in(value: str):
    with pytest.raises(ApiError) as error:
        effective_user(TOKENS, headers(("Authorization", value)))
    assert error.value.code == 401


def test_the_token_is_the_administrators():
    assert effective_user(TOKENS, headers(("authorization", "bearer secret"))) is ADMIN


def test_impersonation_with_everything():
    user = effective_user(
        TOKENS,
        headers(
            ("Authorization", "Bearer secret"),
            ("Impersonate-User", "ci:job:7"),
            ("Impersonate-Group", "a"),
            ("Impersonate-Group", "b"),
            ("Impersonate-Uid", "u"),
            ("Impersonate-Extra-Agent.Example.Com%2Fid", "1"),
            ("Impersonate-Extra-Agent.Example.Com%2Fid", "2"),
        ),
    )
    extra = {"agent.example.com/id": ("1", "2")}
    assert user == User("ci:job:7", ("a", "b", "system:authenticated"), "u", extra)
    assert user.as_json()["extra"] == {"agent.example.com/id": ["1", "2"]}


def test_groups_without_a_user_are_an_error():
    with pytest.raises(ApiError) as error:
        effective_user(TOKENS, headers(("Authorization", "Bearer secret"), ("Impersonate-Group", "a")))
    assert error.value.code == 500


def test_everything_is_allowed_until_it_is_forbidden(access: Access):
    wanted = Attributes("list", "pods", namespace="here")
    access.check(ADMIN, wanted)
    access.forbidden.append(lambda user, attributes: user.name == "bob" and attributes.verb == "list")
    access.check(ADMIN, wanted)
    with pytest.raises(ApiError) as error:
        access.check(User("bob"), wanted)
    assert error.value.message == (
        'pods is forbidden: User "bob" cannot list resource "pods" in API group "" in the namespace "here"'
    )


def test_forbidden_objects_subresources_and_paths_are_named(access: Access):
    access.forbidden.append(lambda *_: True)
    with pytest.raises(ApiError, match='pods "a" is forbidden: .* resource "pods/exec" .* at the cluster scope'):
        access.check(ADMIN, Attributes("create", "pods", subresource="exec", name="a"))
    with pytest.raises(ApiError, match='cannot get path "/version"'):
        access.check(ADMIN, Attributes("get", path="/version"))
