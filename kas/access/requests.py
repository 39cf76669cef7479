"""What an entry's ``allow`` says about one request. Pure.

Requests are judged by what they do, not by how they are sent: exec, attach and port-forward are ``create`` whatever the HTTP method
(a WebSocket begins with GET), and what goes through the API server to a pod, service or node is ``proxy``.
"""

from __future__ import annotations

from typing import NamedTuple

from kas.agent_config.entries import Allow, Resource
from kas.patterns import matches_any
from kastunnel.http.classify import RequestInfo

_SESSIONS = frozenset({"exec", "attach", "portforward"})
_DISCOVERY = ("/api", "/apis", "/version", "/openapi", "/healthz", "/livez", "/readyz")
_SELF_REVIEWS = frozenset({"selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews"})


class Action(NamedTuple):
    """What a request does. ``path`` is set, and nothing behind it, where it leads to no resource."""

    verb: str
    path: str = ""
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"{self.verb} {self.path}"
        kind = Resource(self.resource, self.group or None, self.subresource)
        return f"{self.verb} {kind}" + (f" in namespace {self.namespace}" if self.namespace else "")


def action_of(info: RequestInfo) -> Action:
    """What the request does."""
    if not info.is_resource_request:
        return Action(info.verb, info.path)
    verb = info.verb
    if info.is_proxy:
        verb = "proxy"
    elif info.subresource in _SESSIONS:
        verb = "create"
    return Action(verb, "", info.api_group, info.resource, info.subresource, info.namespace, info.name)


def allows(allow: tuple[Allow, ...], action: Action) -> bool:
    """Whether one of the items lets the request through."""
    return is_basic(action) or any(_lets_through(one, action) for one in allow)


def is_basic(action: Action) -> bool:
    """Discovery, health and asking about oneself: what Kubernetes lets every authenticated user do, and every client begins with."""
    if action.path:
        path = action.path
        return action.verb in ("get", "head") and any(
            path == root or path.startswith(f"{root}/") for root in _DISCOVERY
        )
    return (
        action.verb == "create"
        and action.resource in _SELF_REVIEWS
        and not action.subresource
        and action.group
        in (
            "authorization.k8s.io",
            "authentication.k8s.io",
        )
    )


def _lets_through(one: Allow, action: Action) -> bool:
    if action.verb not in one.verbs and "*" not in one.verbs:
        return False
    if action.path:
        return matches_any(one.paths, action.path)
    if one.namespaces and not (action.namespace and matches_any(one.namespaces, action.namespace)):
        return False
    return any(_fits(resource, action) for resource in one.resources)


def _fits(resource: Resource, action: Action) -> bool:
    if resource.name not in ("*", action.resource) or resource.group not in (None, action.group):
        return False
    if resource.name == "*" and not resource.subresource:
        return True
    return resource.subresource in ("*", action.subresource) if action.subresource else not resource.subresource
