"""What a request means to Kubernetes: verb, resource, namespace and name, as its own authorisation reads them.

Equal to ``RequestInfoFactory.NewRequestInfo`` of k8s.io/apiserver 0.34 with the prefixes of kube-apiserver (``api`` without
groups, ``apis`` with), on the path decoded once. One thing is left out: a list whose ``labelSelector`` cannot be parsed still
gets its name from ``fieldSelector`` here; the API server refuses such a request with 400 anyway.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from kastunnel.http.target import decoded_path

_VERBS = {b"POST": "create", b"GET": "get", b"HEAD": "get", b"PUT": "update", b"PATCH": "patch", b"DELETE": "delete"}
_LONG_RUNNING_VERBS = frozenset({"watch", "proxy"})
_LONG_RUNNING_SUBRESOURCES = frozenset({"attach", "exec", "proxy", "log", "portforward"})
_INT_PARAMETERS = (b"timeoutSeconds", b"limit")

Kind = tuple[object, ...]


class RequestInfo(NamedTuple):
    """The attributes of one request. Text is UTF-8 with stray bytes as surrogates, so that no two paths look alike."""

    is_resource_request: bool
    path: str
    verb: str
    api_prefix: str = ""
    api_group: str = ""
    api_version: str = ""
    namespace: str = ""
    resource: str = ""
    subresource: str = ""
    name: str = ""
    parts: tuple[str, ...] = ()

    @property
    def kind(self) -> Kind:
        """Equal for requests that differ in the name of their resource alone."""
        return self[2:9] if self.is_resource_request else self[:3]

    @property
    def is_long_running(self) -> bool:
        """kube-apiserver lets it run without a time limit: watch, log, exec, attach, portforward, proxy, profiles."""
        if self.verb in _LONG_RUNNING_VERBS:
            return True
        if self.is_resource_request:
            return self.subresource in _LONG_RUNNING_SUBRESOURCES
        return self.path.startswith("/debug/pprof/")

    @property
    def is_proxy(self) -> bool:
        """The request goes to a pod, service or node behind the API server, so its body is not the API server's business."""
        return self.verb == "proxy" or (self.is_resource_request and self.subresource == "proxy")


def request_info(method: bytes, target: bytes) -> RequestInfo | None:
    """Classify a checked request. None where Kubernetes itself cannot (``/api/v1/watch`` without a resource)."""
    path = decoded_path(target).decode("utf-8", "surrogateescape")
    trimmed = path.strip("/")
    parts = trimmed.split("/") if trimmed else []
    grouped = 1 if parts and parts[0] == "apis" else 0
    if len(parts) < 3 + grouped or parts[0] not in ("api", "apis"):
        return RequestInfo(False, path, method.decode("latin-1").lower(), _begun(parts, grouped))
    group = parts[1] if grouped else ""
    version = parts[1 + grouped]
    rest = parts[2 + grouped :]
    if rest[0] == "proxy" or rest[0] == "watch":
        if len(rest) < 2:
            return None
        verb = rest[0]
        rest = rest[1:]
    else:
        verb = _VERBS.get(method, "")
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 1:
        namespace = rest[1]
        if len(rest) > 2 and rest[2] not in ("status", "finalize"):
            rest = rest[2:]
    name = rest[1] if len(rest) >= 2 else ""
    if not name:
        if verb == "get":
            verb, name = _list_or_watch(target)
        elif verb == "delete":
            verb = "deletecollection"
    # The verb before "list" and "watch" decides about subresources, but neither of those is "proxy".
    subresource = rest[2] if len(rest) >= 3 and verb != "proxy" else ""
    return RequestInfo(True, path, verb, parts[0], group, version, namespace, rest[0], subresource, name, tuple(rest))


def _begun(parts: list[str], grouped: int) -> str:
    """The API prefix of a path with a group that is too short for a resource."""
    return parts[0] if grouped and len(parts) >= 3 else ""


def _list_or_watch(target: bytes) -> tuple[str, str]:
    query = target.partition(b"?")[2]
    if not query or (b"%" not in query and b"watch" not in query and b"fieldSelector" not in query):
        return "list", ""
    parameters = _parameters(query)
    name: str | None = ""
    readable = all(_is_int(parameters.get(key)) for key in _INT_PARAMETERS)
    if readable and (selector := parameters.get(b"fieldSelector")):
        name = _exact_name(selector.decode("utf-8", "surrogateescape"))
        readable = name is not None
    watch = parameters.get(b"watch")
    if watch is None:
        return "list", name or ""
    # "0" and "false" are no; everything else is yes, also nothing. Options that cannot be read are compared more narrowly.
    text = watch.decode("utf-8", "replace")
    is_no = text == "0" or (text.casefold() if readable else text.lower()) == "false"
    return "list" if is_no else "watch", name or ""


def _parameters(query: bytes) -> dict[bytes, bytes]:
    """The first value of each parameter, as Go reads a query: a pair with ``;`` or bad encoding counts as absent."""
    found: dict[bytes, bytes] = {}
    for pair in query.split(b"&"):
        if not pair or b";" in pair:
            continue
        key, _, value = pair.partition(b"=")
        key = unquote_to_bytes(key.replace(b"+", b" "))
        if key not in found:
            found[key] = unquote_to_bytes(value.replace(b"+", b" "))
    return found


def _is_int(value: bytes | None) -> bool:
    """Absent, or what Go's ParseInt takes: a sign and ASCII digits within 64 bits."""
    if value is None:
        return True
    digits = value[1:] if value[:1] in (b"+", b"-") else value
    return digits.isdigit() and -(1 << 63) <= int(value[:80]) < 1 << 63


def _exact_name(selector: str) -> str | None:
    """The name that a field selector demands: the first term ``metadata.name=``. None if the selector cannot be read."""
    name: str | None = None
    for term in sorted(_terms(selector)):  # Kubernetes sorts them before it looks
        if not term:
            continue
        parsed = _term(term)
        if parsed is None:
            return None
        field, operator, value = parsed
        if name is None and field == "metadata.name" and operator != "!=":
            name = value
    if not name or name in (".", "..") or "/" in name or "%" in name:
        return ""
    return name


def _terms(selector: str) -> list[str]:
    """Split at commas that no backslash protects."""
    terms = []
    start = 0
    protected = False
    for at, character in enumerate(selector):
        if protected:
            protected = False
        elif character == "\\":
            protected = True
        elif character == ",":
            terms.append(selector[start:at])
            start = at + 1
    terms.append(selector[start:])
    return terms


def _term(term: str) -> tuple[str, str, str] | None:
    """Field, operator and value; None where the value is not escaped properly or no operator is found."""
    for at in range(len(term)):
        for operator in ("!=", "==", "="):
            if term.startswith(operator, at):
                value = _unescaped(term[at + len(operator) :])
                return None if value is None else (term[:at], operator, value)
    return None


def _unescaped(value: str) -> str | None:
    out = []
    characters = iter(value)
    for character in characters:
        if character == "\\":
            escaped = next(characters, "")
            if escaped not in ("\\", ",", "="):
                return None
            out.append(escaped)
        elif character in ",=":
            return None
        else:
            out.append(character)
    return "".join(out)
