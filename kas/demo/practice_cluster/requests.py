"""What was asked of the cluster: the path taken apart, and the record that tests look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from aiohttp.web import BaseRequest

from kas.demo.practice_cluster import status
from kas.demo.practice_cluster.identity import Attributes, User
from kas.demo.practice_cluster.kinds import Kind, kinds

VERBS = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
TRUE = {"1", "t", "T", "TRUE", "true", "True"}  # as Go's ParseBool


@dataclass(frozen=True)
class RequestRecord:
    """One request as it arrived, for tests; the bearer token itself is not kept."""

    method: str
    path: str  # as sent, without the query
    query: str  # as sent
    headers: tuple[tuple[str, str], ...]  # in the order and spelling in which they arrived
    user: User | None  # None: not authenticated

    def header(self, name: str) -> list[str]:
        """The values of a header, in order."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def as_json(self) -> dict[str, Any]:
        """For the path that shows the records to other processes."""
        return {
            "method": self.method,
            "path": self.path,
            "query": self.query,
            "headers": [list(pair) for pair in self.headers],
            "user": self.user.as_json() if self.user else None,
        }


def recorded(request: BaseRequest, user: User | None) -> RequestRecord:
    """The record of ``request``."""
    path, _, query = request.raw_path.partition("?")
    headers = []
    for raw_name, raw_value in request.raw_headers:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        if name.lower() == "authorization":
            value = value.partition(" ")[0] + " (not kept)"
        headers.append((name, value))
    return RequestRecord(request.method, path, query, tuple(headers), user)


@dataclass(frozen=True)
class Target:
    """The resource that a path names."""

    kind: Kind
    namespace: str = ""
    name: str = ""
    subresource: str = ""


@dataclass(frozen=True)
class Asked:
    """A request taken apart."""

    method: str
    path: str
    pairs: tuple[tuple[str, str], ...]
    target: Target | None

    @property
    def query(self) -> dict[str, str]:
        """The parameters; of repeated ones the first, as Go's ``Get`` takes it."""
        return dict(reversed(self.pairs))

    def all(self, name: str) -> list[str]:
        """The values of a repeated parameter, in order."""
        return [value for key, value in self.pairs if key == name]

    def flag(self, name: str) -> bool:
        """Whether a parameter is true."""
        return self.query.get(name, "") in TRUE

    @property
    def is_watch(self) -> bool:
        """Whether changes are wanted instead of the list."""
        return self.method == "GET" and self.query.get("watch", "false").lower() not in {"false", "0"}

    def attributes(self) -> Attributes:
        """What to authorise."""
        verb = VERBS.get(self.method, self.method.lower())
        if self.target is None:
            return Attributes(verb, path=self.path)
        if self.is_watch:
            verb = "watch"
        elif not self.target.name:
            verb = {"get": "list", "delete": "deletecollection"}.get(verb, verb)
        kind = self.target.kind
        return Attributes(
            verb, kind.resource, kind.group, self.target.subresource, self.target.namespace, self.target.name
        )


def asked(request: BaseRequest) -> Asked:
    """Take a request apart. Raises ApiError 404 for a path below the API's roots that names no resource."""
    parts = urlsplit(request.raw_path)
    path = unquote(parts.path)
    pairs = tuple(parse_qsl(parts.query, keep_blank_values=True))
    return Asked(request.method, path, pairs, target_of(path))


def target_of(path: str) -> Target | None:
    """The resource at ``path``; None if it is no resource path. Raises ApiError 404."""
    segments = path.strip("/").split("/")
    match segments:
        case ["api", version, _, *_]:
            group, rest = "", segments[2:]
        case ["apis", group, version, _, *_]:
            rest = segments[3:]
        case _:
            return None
    namespace = ""
    if len(rest) > 2 and rest[0] == "namespaces" and not (len(rest) == 3 and rest[2] in {"status", "finalize"}):
        namespace, rest = rest[1], rest[2:]
    kind = kinds().get((group, version, rest[0]))
    if kind is None or len(rest) > 3 or (namespace and not kind.namespaced):
        raise status.no_such_resource()
    name, subresource = [*rest[1:], "", ""][:2]
    if subresource and subresource not in kind.subresources:
        raise status.no_such_resource()
    return Target(kind, namespace, name, subresource)
