"""Who asks: bearer tokens, impersonation, and the knob that forbids."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from multidict import CIMultiDictProxy

from kas.demo.practice_cluster.status import ApiError

AUTHENTICATED = "system:authenticated"
EXTRA_PREFIX = "impersonate-extra-"


@dataclass(frozen=True)
class User:
    """A name with its groups, as ``kubectl auth whoami`` shows them."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The ``userInfo`` of a SelfSubjectReview."""
        info: dict[str, Any] = {"username": self.name, "groups": list(self.groups)}
        if self.uid:
            info["uid"] = self.uid
        if self.extra:
            info["extra"] = {key: list(values) for key, values in sorted(self.extra.items())}
        return info


ADMIN = User("practice-admin", ("system:masters", AUTHENTICATED))


@dataclass(frozen=True)
class Attributes:
    """What somebody wants to do; of a path that is no resource, only ``verb`` and ``path``."""

    verb: str
    resource: str = ""
    group: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""


class Access:
    """Everybody may do everything, except what a rule in ``forbidden`` returns true for."""

    def __init__(self) -> None:
        self.forbidden: list[Callable[[User, Attributes], bool]] = []

    def allows(self, user: User, wanted: Attributes) -> bool:
        """Whether no rule forbids it."""
        return not any(rule(user, wanted) for rule in self.forbidden)

    def check(self, user: User, wanted: Attributes) -> None:
        """Raises ApiError 403 if a rule forbids it."""
        if self.allows(user, wanted):
            return
        if wanted.path:
            message = f'forbidden: User "{user.name}" cannot {wanted.verb} path "{wanted.path}"'
            raise ApiError(403, "Forbidden", message, {})
        resource = wanted.resource + (f"/{wanted.subresource}" if wanted.subresource else "")
        qualified = wanted.resource + (f".{wanted.group}" if wanted.group else "")
        subject = f'{qualified} "{wanted.name}"' if wanted.name else qualified
        where = f'in the namespace "{wanted.namespace}"' if wanted.namespace else "at the cluster scope"
        message = (
            f'{subject} is forbidden: User "{user.name}" cannot {wanted.verb} resource "{resource}" '
            f'in API group "{wanted.group}" {where}'
        )
        details = {"kind": wanted.resource, **({"name": wanted.name} if wanted.name else {})}
        raise ApiError(403, "Forbidden", message, details)


def effective_user(tokens: Mapping[str, User], headers: CIMultiDictProxy[str]) -> User:
    """The owner of the bearer token, or whom he impersonates. Raises ApiError 401, or 500 as Kubernetes does."""
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    user = tokens.get(token.strip())
    if scheme.lower() != "bearer" or user is None:
        raise ApiError(401, "Unauthorized", "Unauthorized")
    name = headers.get("Impersonate-User", "")
    groups = tuple(headers.getall("Impersonate-Group", ()))
    uid = headers.get("Impersonate-Uid", "")
    extra: dict[str, tuple[str, ...]] = {}
    for key, value in headers.items():
        if key.lower().startswith(EXTRA_PREFIX):
            decoded = unquote(key.lower().removeprefix(EXTRA_PREFIX))
            extra[decoded] = (*extra.get(decoded, ()), value)
    if not name:
        if groups or uid or extra:
            raise ApiError(500, "InternalError", "Internal error occurred: impersonation without impersonating a user")
        return user
    if AUTHENTICATED not in groups and name != "system:anonymous":
        groups = (*groups, AUTHENTICATED)
    return User(name, groups, uid, extra)
