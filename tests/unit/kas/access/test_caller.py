from __future__ import annotations

from kas.access.caller import Caller


def test_groups_come_innermost_first_and_the_project_is_none_of_them():
    assert list(Caller(issuer="kas", project="a/b/c/d").groups()) == ["a/b/c", "a/b", "a"]
    assert list(Caller(issuer="kas", project="alone").groups()) == []
    assert list(Caller(issuer="kas", project="/odd").groups()) == []


def test_a_caller_is_named_by_project_and_job():
    assert str(Caller(issuer="kas", project="g/p", job_id="7")) == "g/p job 7"
    assert str(Caller(issuer="kas", project="g/p")) == "g/p"


def test_a_full_ref_tells_branches_from_tags_and_is_empty_where_that_is_not_known():
    assert Caller(issuer="kas", project="g/p", ref="main", ref_type="branch").full_ref == "refs/heads/main"
    assert Caller(issuer="kas", project="g/p", ref="main", ref_type="tag").full_ref == "refs/tags/main"
    assert Caller(issuer="kas", project="g/p", ref="main").full_ref == ""
    assert Caller(issuer="kas", project="g/p", ref_type="branch").full_ref == ""
