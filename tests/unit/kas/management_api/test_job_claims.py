"""What a job may say of itself: every field's form, and every bound of a registration."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kas.management_api.job_claims import BadWish, NotClaimable, allowed_claims, environment_slug, read_wish
from kas.store import MayClaim, RegistrationRecord

MAY: MayClaim = {
    "environments": [{"pattern": "production", "tier": "production"}, {"pattern": "review/*", "tier": ""}],
    "refs": ["main", "release/*", "refs/tags/v*"],
    "protected": True,
}
NOTHING: MayClaim = {"environments": [], "refs": [], "protected": False}


def registration(may_claim: MayClaim) -> RegistrationRecord:
    claims: Any = {"project": "shop/web", "project_id": "17", "group_ids": ["5"]}
    return RegistrationRecord(1, "abcdefgh", claims, may_claim, 3600, 0, None, None, None)


def claimed(said: dict[str, Any], may_claim: MayClaim = MAY) -> dict[str, Any]:
    return dict(allowed_claims(read_wish(json.dumps(said).encode()), registration(may_claim)))


def test_every_claim_can_be_made_within_the_bounds() -> None:
    said = {
        "ref": "main",
        "ref_type": "branch",
        "protected": True,
        "environment": {"name": "production", "slug": "production", "tier": "production"},
        "pipeline_id": 900,
        "job_id": "jenkins-web-12",
        "username": "käthe",
        "user_id": 2,
        "ttl_s": 600,
    }
    assert read_wish(json.dumps(said).encode()).ttl_s == 600
    assert claimed(said) == {
        "project": "shop/web",
        "project_id": "17",
        "group_ids": ["5"],
        "ref": "main",
        "ref_type": "branch",
        "ref_protected": True,
        "environment": {"name": "production", "slug": "production", "tier": "production"},
        "pipeline_id": "900",
        "job_id": "jenkins-web-12",
        "username": "käthe",
        "user_id": "2",
    }


def test_what_is_not_said_is_not_claimed_whatever_may_be() -> None:
    project = {"project": "shop/web", "project_id": "17", "group_ids": ["5"]}
    assert claimed({}) == project
    assert claimed({}, NOTHING) == project
    assert claimed({"ref": None, "environment": None, "job_id": None}, NOTHING) == project
    assert claimed({"username": "ana", "job_id": 1}, NOTHING) == {**project, "username": "ana", "job_id": "1"}


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"ref": "develop"}, "ref"),
        ({"ref": "v1", "ref_type": "branch"}, "ref"),
        ({"ref": "main", "ref_type": "tag"}, "ref"),
        ({"ref": "refs/heads/main"}, "ref"),
        ({"ref": "x/tags/v1", "ref_type": "tag"}, "ref"),
        ({"environment": {"name": "staging"}}, "environment.name"),
        ({"environment": {"name": "Production"}}, "environment.name"),
        ({"environment": {"name": "production", "tier": "development"}}, "environment.tier"),
        ({"environment": {"name": "review/1", "tier": "production"}}, "environment.tier"),
        ({"environment": {"name": "review/1", "slug": "production"}}, "environment.slug"),
    ],
)
def test_what_the_registration_does_not_name_is_refused_with_the_field_and_the_remedy(said: Any, field: str) -> None:
    with pytest.raises(NotClaimable, match=f"^{re.escape(field)}: ") as caught:
        claimed(said)
    assert caught.value.remedy


@pytest.mark.parametrize("said", [{"ref": "main"}, {"environment": {"name": "production"}}])
def test_by_default_no_ref_and_no_environment_may_be_claimed(said: Any) -> None:
    with pytest.raises(NotClaimable):
        claimed(said, NOTHING)


def test_protected_must_be_allowed_and_is_said_of_a_ref() -> None:
    with pytest.raises(NotClaimable, match="^protected: "):
        claimed({"ref": "main", "protected": True}, {**MAY, "protected": False})
    assert claimed({"ref": "main", "protected": False}, {**MAY, "protected": False})["ref_protected"] is False
    with pytest.raises(BadWish, match="^ref: "):
        claimed({"protected": True})
    assert "ref_protected" not in claimed({"ref": "main"})


@pytest.mark.parametrize(("name", "kind"), [("main", "branch"), ("release/1/2", "branch"), ("v1", "tag")])
def test_refs_are_matched_as_in_an_agents_configuration(name: str, kind: str) -> None:
    assert claimed({"ref": name, "ref_type": kind})["ref"] == name


def test_the_tier_is_the_registrations_and_the_slug_is_made_here() -> None:
    assert claimed({"environment": {"name": "production"}})["environment"] == {
        "name": "production",
        "slug": "production",
        "tier": "production",
    }
    review = claimed({"environment": {"name": "review/Über 1"}})["environment"]
    assert review == {"name": "review/Über 1", "slug": environment_slug("review/Über 1")}
    assert claimed({"environment": review})["environment"] == review


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "the body: a JSON object was expected"),
        (b"[]", "the body: a JSON object was expected"),
        (b'"x"', "the body"),
        (b"\xff", "the body"),
        (b"[" * 100_000, "the body"),
        (b'{"ref": "a", "ref": "main"}', "a field stands there twice"),
        (b'{"environment": {"name": "a", "name": "b"}}', "a field stands there twice"),
        (b'{"project": "other/one"}', "project: there is no such field"),
        (b'{"project_id": "1"}', "project_id: there is no such field"),
        (b'{"roles": ["owner"]}', "roles: there is no such field"),
        (b'{"issuer": "github"}', "issuer: there is no such field"),
        (b'{"ref": ""}', "ref: a text"),
        (b'{"ref": "a\\nb"}', "ref: a text"),
        (b'{"ref": " main"}', "ref: a text"),
        (b'{"ref": 1}', "ref: a text"),
        (b'{"ref": "%s"}' % (b"x" * 256), "ref: a text"),
        (b'{"ref": "main", "ref_type": "commit"}', "ref_type: branch or tag"),
        (b'{"ref_type": "tag"}', "ref: it was expected"),
        (b'{"ref": "main", "protected": "true"}', "protected: true or false"),
        (b'{"ref": "main", "protected": 1}', "protected: true or false"),
        (b'{"environment": "production"}', "environment: an object"),
        (b'{"environment": {}}', "environment: an object"),
        (b'{"environment": {"name": null}}', "environment.name: a text"),
        (b'{"environment": {"name": "production", "slug": 1}}', "environment.slug: a text"),
        (b'{"environment": {"name": "production", "url": "x"}}', "environment: an object"),
        (b'{"job_id": 0}', "job_id: a number above 0"),
        (b'{"job_id": true}', "job_id: a number above 0"),
        (b'{"job_id": 1.5}', "job_id: a number above 0"),
        (b'{"pipeline_id": []}', "pipeline_id: a number above 0"),
        (b'{"user_id": ""}', "user_id: a text"),
        (b'{"username": "\\u0000"}', "username: a text"),
        (b'{"ttl_s": 0}', "ttl_s: a whole number"),
        (b'{"ttl_s": true}', "ttl_s: a whole number"),
        (b'{"ttl_s": 1e3}', "ttl_s: a whole number"),
        (b'{"ttl_s": "60"}', "ttl_s: a whole number"),
        (b'{"ttl_s": NaN}', "ttl_s: a whole number"),
    ],
)
def test_a_field_of_another_form_is_refused_by_name(body: bytes, said: str) -> None:
    with pytest.raises(BadWish) as caught:
        read_wish(body)
    assert said in str(caught.value)
    assert caught.value.remedy


@given(
    st.binary(max_size=60)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["ref", "environment", "name", "ttl_s", "protected"]), inner)
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_bytes_are_a_wish_or_refused(body: bytes) -> None:
    try:
        wish = read_wish(body)
    except BadWish:
        return
    assert set(wish.claims) <= {"ref", "ref_type", "protected", "environment"}


@given(st.lists(st.text(min_size=1, max_size=30), min_size=2, max_size=8, unique=True))
def test_no_two_environments_share_a_slug_and_each_can_stand_in_a_group(names: list[str]) -> None:
    slugs = [environment_slug(name) for name in names]
    assert len(set(slugs)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", slug) and len(slug) <= 24 for slug in slugs)


@given(st.text("ab*/", max_size=6), st.text("ab/", min_size=1, max_size=6), st.sampled_from(["branch", "tag"]))
def test_no_job_gets_a_ref_that_no_pattern_names(pattern: str, ref: str, kind: str) -> None:
    try:
        got = claimed({"ref": ref, "ref_type": kind}, {"environments": [], "refs": [pattern], "protected": False})
    except NotClaimable:
        return
    assert kind == "branch"  # no pattern here begins with refs/
    assert re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), got["ref"], re.DOTALL)
