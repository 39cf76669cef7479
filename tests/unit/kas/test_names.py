from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kas.names import check_agent_name, check_project


@pytest.mark.covers("C-04")
@pytest.mark.parametrize("name", ["a", "0", "prod-1", "a" * 63, "a--b"])
def test_an_agent_name_is_a_dns_label(name: str):
    assert check_agent_name(name) == name


@pytest.mark.covers("C-04")
@pytest.mark.parametrize(
    "name", ["", "-", "a-", "-a", "A", "a_b", "a.b", "a" * 64, "ä", "a\n", "a b", "..", "a/b", "٣"]
)
def test_anything_else_is_refused(name: str):
    with pytest.raises(ValueError, match="is not an agent name"):
        check_agent_name(name)


@given(st.text())
def test_only_what_the_pattern_allows_is_an_agent_name(text: str):
    allowed = re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", text) is not None and len(text) <= 63
    if allowed:
        assert check_agent_name(text) == text
    else:
        with pytest.raises(ValueError) as caught:
            check_agent_name(text)
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("path", ["g/p", "group/sub.group/my_project-1", "_g/P", "a/b/c/d"])
def test_a_project_is_a_path_of_a_group_and_more(path: str):
    assert check_project(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "p",
        "/",
        "/p",
        "g/",
        "g//p",
        "g/../p",
        "../p",
        "g/.p",
        "g/-p",
        "g/p.git",
        "g/p.",
        "g/p.atom",
        "g/p\n",
        "g/ä",
        "g/p q",
        "g/" + "p" * 1024,
    ],
)
def test_a_project_never_leaves_a_folder(path: str):
    with pytest.raises(ValueError, match="is not a project"):
        check_project(path)
