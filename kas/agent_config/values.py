"""The values of ``.gitlab/agents/<name>/config.yaml``: what each text may say, and what was expected where it says something else."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from pydantic import BeforeValidator, ValidationInfo

from kas.agent_config.entries import Resource
from kas.names import check_project

MAX_NAME_CHARACTERS = 512
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_NAMESPACE_PATTERN = re.compile(r"[-a-z0-9*]{1,63}")
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_RESOURCE = re.compile(
    r"(?P<name>\*|[a-z0-9][-a-z0-9]*)(\.(?P<group>[a-z0-9][-.a-z0-9]*))?(/(?P<subresource>\*|[a-z0-9][-a-z0-9]*))?"
)
_VERBS = frozenset({"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "proxy", "*"})
_EXTRA_KEY = re.compile(r"[!-$&-@\[-~]+")  # visible, no upper case (the API server folds it), no % (it decodes that)


def identity_name(name: str, info: ValidationInfo) -> str:
    """A user name in an identity."""
    header_value(name)
    if name.startswith("system:") and not (info.context or {}).get("allow_system_identities", False):
        raise ValueError(
            "names that begin with 'system:' are refused: they are Kubernetes' own "
            "(the operator of kas can allow them: access.allow_system_identities)"
        )
    return name


def group_name(name: str, info: ValidationInfo) -> str:
    """A group in an identity."""
    if "," in name:
        raise ValueError("a group must not contain a comma: on the way to the API server it could be read as two")
    return identity_name(name, info)


def header_value(text: str) -> str:
    """Any other text in an identity."""
    if not text:
        raise ValueError("this must not be empty")
    if len(text) > MAX_NAME_CHARACTERS:
        raise ValueError(f"at most {MAX_NAME_CHARACTERS} characters were expected")
    if not (text.isascii() and text.isprintable()):
        raise ValueError("only visible ASCII characters were expected: this travels in an HTTP header")
    if text != text.strip():
        raise ValueError("no blank was expected at the beginning or end: HTTP would drop it")
    return text


def extra_key(key: str) -> str:
    """A key of an identity's extra values."""
    header_value(key)
    if not _EXTRA_KEY.fullmatch(key):
        raise ValueError("a key in lower case without blanks and '%' was expected, for example example.com/team")
    return key


def namespace(name: str) -> str:
    """A default namespace, or nothing."""
    if name and (len(name) > 63 or not _NAMESPACE.fullmatch(name)):
        raise ValueError(
            "a namespace was expected: at most 63 lower-case letters, digits and '-', no '-' at either end"
        )
    return name


def environment(pattern: str) -> str:
    """A pattern of environments."""
    if not pattern or len(pattern) > 255 or not pattern.isprintable():
        raise ValueError("the name of an environment was expected, with '*' for any characters")
    return pattern


def group_path(path: str) -> str:
    """The path of a group."""
    try:
        check_project(f"{path}/project")
    except ValueError:
        raise ValueError(
            "the path of a group was expected: GROUP or GROUP/SUBGROUP, without '/' at either end"
        ) from None
    return path


def ref(pattern: str) -> str:
    """A pattern of refs."""
    if not pattern or len(pattern) > 255 or not pattern.isprintable() or " " in pattern:
        raise ValueError("a branch was expected, or a full ref like refs/tags/v1, with '*' for any characters")
    return pattern


def issuer(name: str) -> str:
    """The name of an issuer."""
    if not name or len(name) > 63 or not _NAMESPACE.fullmatch(name):
        raise ValueError("the name of an issuer was expected, as in kas.yaml; without this key it is the agent's own")
    return name


def immutable_id(text: str) -> str:
    """The id of a project or group, which stays when it is renamed."""
    if not _ID.fullmatch(text):
        raise ValueError("an id was expected, as text: letters, digits, '-' and '_', like \"17\"")
    return text


def expiry(text: str) -> float:
    """Unix seconds. A date alone counts until its last second, in UTC."""
    try:
        if _DATE.fullmatch(text):
            return datetime.combine(date.fromisoformat(text) + timedelta(days=1), time(), UTC).timestamp()
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise ValueError("a date was expected, like 2027-03-31, or a time like 2027-03-31T18:00:00Z") from None
    if moment.tzinfo is None:
        raise ValueError("the time zone is missing: write Z at the end for UTC, or an offset like +02:00")
    return moment.timestamp()


def verb(verb: str) -> str:
    """A verb of Kubernetes."""
    if verb not in _VERBS:
        raise ValueError(f"one of {', '.join(sorted(_VERBS - {'*'}))} or '*' was expected")
    return verb


def resource(text: str) -> Resource:
    """A resource with its group and subresource."""
    form = _RESOURCE.fullmatch(text)
    if form is None:
        raise ValueError(
            "a resource was expected: pods, pods/exec, deployments.apps, deployments.apps/scale, '*', '*.apps' or 'pods/*'"
        )
    return Resource(form["name"], form["group"], form["subresource"] or "")


def namespace_pattern(pattern: str) -> str:
    """A pattern of namespaces."""
    if not _NAMESPACE_PATTERN.fullmatch(pattern):
        raise ValueError("a namespace was expected, with '*' for any characters")
    return pattern


def path_pattern(pattern: str) -> str:
    """A pattern of paths that lead to no resource."""
    if not pattern.startswith("/") or len(pattern) > 255 or not (pattern.isascii() and pattern.isprintable()):
        raise ValueError("a path was expected, like /metrics, with '*' for any characters")
    return pattern


def nothing_is_empty(empty: Any) -> BeforeValidator:
    """A key with nothing behind it means the same as no key. Only where that cannot widen access."""
    return BeforeValidator(lambda value: empty if value is None else value)
