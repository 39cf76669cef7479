"""What `kas explain` asks, as it comes over the socket, and the request that its words stand for."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from kas.access.caller import OWN_ISSUER, Caller, Environment
from kas.names import check_project
from kastunnel.http.classify import RequestInfo, request_info

_GROUPS = {
    **dict.fromkeys(("deployments", "statefulsets", "daemonsets", "replicasets", "controllerrevisions"), "apps"),
    **dict.fromkeys(("jobs", "cronjobs"), "batch"),
    **dict.fromkeys(("ingresses", "networkpolicies", "ingressclasses"), "networking.k8s.io"),
    **dict.fromkeys(("roles", "rolebindings", "clusterroles", "clusterrolebindings"), "rbac.authorization.k8s.io"),
    "horizontalpodautoscalers": "autoscaling",
    "poddisruptionbudgets": "policy",
    "storageclasses": "storage.k8s.io",
    "customresourcedefinitions": "apiextensions.k8s.io",
}


class DescribedCaller(BaseModel):
    """A job in words, where there is no token."""

    model_config = ConfigDict(extra="forbid", strict=True)

    issuer: str = OWN_ISSUER
    project: Annotated[str, AfterValidator(check_project)]
    project_id: str = ""
    group_ids: list[str] = []
    ref: str = ""
    ref_type: str = ""
    ref_protected: bool = False
    is_fork: bool = False
    environment: str = ""
    pipeline_id: str = ""
    job_id: str = ""
    username: str = ""
    roles: list[str] = []

    def caller(self, *, is_public: bool, speaks_gitlab: bool) -> Caller:
        """As if its issuer had said so."""
        said: dict[str, Any] = self.model_dump()
        name = said.pop("environment")
        environment = Environment(name, name, name) if name else None
        said |= {"group_ids": tuple(self.group_ids), "roles": tuple(self.roles), "environment": environment}
        return Caller(**said, is_public_issuer=is_public, speaks_gitlab=speaks_gitlab)


class Question(BaseModel):
    """One question. Either a token or a described caller; perhaps a request, by method and path or by verb and resource."""

    model_config = ConfigDict(extra="forbid", strict=True)

    agent: str = Field(min_length=1, max_length=1200)
    token: str = Field("", max_length=16 * 1024)
    caller: DescribedCaller | None = None
    method: str = Field("", max_length=16)
    path: str = Field("", max_length=8192)
    verb: str = Field("", max_length=32)
    resource: str = Field("", max_length=512)
    namespace: str = Field("", max_length=63)

    @model_validator(mode="after")
    def _one_of_each(self) -> Question:
        if bool(self.token) == (self.caller is not None):
            raise ValueError("either a token or a caller was expected")
        if bool(self.path) != bool(self.method) or (self.path and self.verb) or bool(self.verb) != bool(self.resource):
            raise ValueError("a request is a method and a path, or a verb and a resource")
        return self

    @property
    def request(self) -> RequestInfo | None:
        """What the words stand for; None: no request was given. Raises ValueError for a path that Kubernetes cannot classify."""
        if self.path:
            if not self.path.startswith("/") or not self.path.isascii():
                raise ValueError("a path of the API server was expected, like /api/v1/namespaces/shop/pods")
            info = request_info(self.method.upper().encode(), self.path.encode())
            if info is None:
                raise ValueError("Kubernetes itself cannot say what this path means")
            return info
        if not self.verb:
            return None
        if self.resource.startswith("/"):
            return RequestInfo(False, self.resource, self.verb)
        kind, _, name = self.resource.partition("/")
        subresource = ""
        if name in _SUBRESOURCES or "/" in name:
            subresource, _, name = name.partition("/")
        plain, _, group = kind.partition(".")
        return RequestInfo(
            True,
            "",
            self.verb,
            "",
            group or _GROUPS.get(plain, ""),
            "",
            self.namespace,
            plain,
            subresource,
            name,
            (plain,),
        )


_SUBRESOURCES = frozenset(
    {
        "log",
        "exec",
        "attach",
        "portforward",
        "proxy",
        "status",
        "scale",
        "token",
        "eviction",
        "ephemeralcontainers",
        "binding",
        "finalize",
    }
)
