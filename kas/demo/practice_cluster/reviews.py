"""``auth can-i`` and ``auth whoami``: the reviews that are answered and not stored."""

from __future__ import annotations

from typing import Any

from kas.demo.practice_cluster.identity import Access, Attributes, User
from kas.demo.practice_cluster.kinds import Kind
from kas.demo.practice_cluster.objects import Object

REVIEWS = {"SelfSubjectAccessReview", "SelfSubjectReview"}


def answered(kind: Kind, review: Object, user: User, access: Access, now: str) -> Object:
    """``review`` with its status."""
    status: dict[str, Any]
    if kind.name == "SelfSubjectReview":
        status = {"userInfo": user.as_json()}
    else:
        allowed = access.allows(user, _attributes(review.get("spec", {})))
        status = {"allowed": allowed, "reason": "the practice cluster forbids nothing unless told to"}
        if not allowed:
            status = {"allowed": False, "reason": "forbidden by a rule of the practice cluster"}
    metadata = {**review.get("metadata", {}), "creationTimestamp": now}
    return {**review, "kind": kind.name, "apiVersion": kind.api_version, "metadata": metadata, "status": status}


def _attributes(spec: Object) -> Attributes:
    if wanted := spec.get("nonResourceAttributes"):
        return Attributes(wanted.get("verb", ""), path=wanted.get("path", ""))
    wanted = spec.get("resourceAttributes", {})
    names = ("verb", "resource", "group", "subresource", "namespace", "name")
    return Attributes(**{name: wanted.get(name, "") for name in names})
