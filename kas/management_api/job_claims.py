"""What a job says of itself when it asks for a token with its project's secret, held against what the registration allows. Pure.

A slug and a tier become groups in clusters. So neither is the job's to choose: the tier is the registration's, the slug is made here.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from kas.patterns import matches
from kas.store.records import JobClaims, JobEnvironment, RegistrationRecord

MAX_CHARACTERS = 255
_PLAIN_SLUG = re.compile(r"[a-z]([a-z0-9]|-(?=[a-z0-9])){0,23}")
_FOLDERS = {"branch": "refs/heads/", "tag": "refs/tags/"}


class BadWish(Exception):
    """A field is not what it must be."""

    def __init__(self, field: str, expected: str) -> None:
        super().__init__(f"{field}: {expected}")
        self.remedy = f"mend {field}" if field != "the body" else "see docs/issuers.md"


class NotClaimable(Exception):
    """The registration does not let a job claim this."""

    def __init__(self, field: str, reason: str, remedy: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.remedy = remedy


class Wish(NamedTuple):
    """What the job asks for. ``claims`` are what it says, of the right form but not yet allowed."""

    claims: Mapping[str, Any]
    ttl_s: int | None


def read_wish(body: bytes) -> Wish:
    """Read the JSON of a request. Raises BadWish, which names the field; a field that is null is not there."""
    said = {name: value for name, value in _object(body).items() if value is not None}
    for name in said:
        if name not in _FIELDS:
            raise BadWish(name, f"there is no such field; known are {', '.join(_FIELDS)}")
    read = {name: _FIELDS[name](name, value) for name, value in said.items()}
    if "ref" in read:
        read.setdefault("ref_type", "branch")
    elif "ref_type" in read or read.get("protected"):
        raise BadWish("ref", "it was expected with ref_type and with protected")
    return Wish(read, read.pop("ttl_s", None))


def allowed_claims(wish: Wish, registration: RegistrationRecord) -> JobClaims:
    """The claims of the token. Raises NotClaimable for what the registration does not allow."""
    may, said = registration.may_claim, wish.claims
    claims = registration.claims.copy()
    if "ref" in said:
        if not _matches_ref(may["refs"], said["ref"], said["ref_type"]):
            what = f"{said['ref_type']} {said['ref']!r} may not be claimed with this secret"
            raise NotClaimable("ref", what, "register the project with --ref PATTERN (tags: 'refs/tags/PATTERN')")
        claims["ref"], claims["ref_type"] = said["ref"], said["ref_type"]
    if "protected" in said:
        if said["protected"] and not may["protected"]:
            raise NotClaimable(
                "protected", "may not be claimed with this secret", "register the project with --protected"
            )
        claims["ref_protected"] = said["protected"]
    if "environment" in said:
        claims["environment"] = _allowed_environment(said["environment"], registration)
    for name in ("pipeline_id", "job_id", "username", "user_id"):
        if name in said:
            claims[name] = said[name]
    return claims


def environment_slug(name: str) -> str:
    """A short name for groups: the name itself where it is one, else with a hash, so that no two environments share one."""
    if _PLAIN_SLUG.fullmatch(name):
        return name
    readable = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:15].rstrip("-")
    return f"{readable or 'env'}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _allowed_environment(said: Mapping[str, str], registration: RegistrationRecord) -> JobEnvironment:
    name = said["name"]
    allowed = next((one for one in registration.may_claim["environments"] if matches(one["pattern"], name)), None)
    if allowed is None:
        what = f"{name!r} may not be claimed with this secret"
        raise NotClaimable("environment.name", what, "register the project with --environment PATTERN[=TIER]")
    made = {"name": name, "slug": environment_slug(name), "tier": allowed["tier"]}
    for key in ("slug", "tier"):
        if key in said and said[key] != made[key]:
            what = f"it is {made[key]!r} for {name!r}" if made[key] else f"{name!r} has none"
            raise NotClaimable(f"environment.{key}", what, "leave it out: kas knows it")
    environment: JobEnvironment = {"name": name, "slug": made["slug"]}
    if made["tier"]:
        environment["tier"] = made["tier"]
    return environment


def _matches_ref(patterns: list[str], ref: str, ref_type: str) -> bool:
    full = _FOLDERS[ref_type] + ref
    return any(
        matches(pattern, full) if pattern.startswith("refs/") else ref_type == "branch" and matches(pattern, ref)
        for pattern in patterns
    )


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body.decode(), object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError):
        raise BadWish("the body", "a JSON object was expected") from None
    if not isinstance(value, dict):
        raise BadWish("the body", "a JSON object was expected")
    return value


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadWish("the body", "a field stands there twice")
    return found


def _text(field: str, value: Any) -> str:
    if (
        not isinstance(value, str)
        or not 0 < len(value) <= MAX_CHARACTERS
        or not value.isprintable()
        or value != value.strip()
    ):
        raise BadWish(field, f"a text of 1 to {MAX_CHARACTERS} printable characters was expected")
    return value


def _id(field: str, value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 63:
        return str(value)
    if not isinstance(value, str):
        raise BadWish(field, "a number above 0, or a text, was expected")
    return _text(field, value)


def _kind(field: str, value: Any) -> str:
    if value not in ("branch", "tag"):
        raise BadWish(field, "branch or tag was expected")
    return str(value)


def _truth(field: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise BadWish(field, "true or false was expected")
    return value


def _seconds(field: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 1 << 31:
        raise BadWish(field, "a whole number of seconds above 0 was expected")
    return value


def _environment(field: str, value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or "name" not in value or not value.keys() <= {"name", "slug", "tier"}:
        raise BadWish(field, "an object with name, and perhaps slug and tier, was expected")
    return {key: _text(f"{field}.{key}", one) for key, one in value.items() if one is not None or key == "name"}


_FIELDS: Mapping[str, Callable[[str, Any], Any]] = {
    "ref": _text,
    "ref_type": _kind,
    "protected": _truth,
    "environment": _environment,
    "pipeline_id": _id,
    "job_id": _id,
    "username": _text,
    "user_id": _id,
    "ttl_s": _seconds,
}
