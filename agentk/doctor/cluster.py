"""The checks of `agentk doctor` about its API server: the way there, the credential, and what it allows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

import aiohttp

from agentk.errors import AgentkError
from agentk.kube_api.access import Access
from agentk.kube_api.credentials import Credentials
from kastunnel.doctor.clocks import skew
from kastunnel.doctor.findings import Check, Finding, broken, ok, skipped, warning
from kastunnel.doctor.road import Road, Words
from kastunnel.toolkit.answers import whole_body
from kastunnel.toolkit.hosts import host_port

ANSWER_S = 10.0
MAX_ANSWER_BYTES = 1024 * 1024
AUTHORIZATION = "/apis/authorization.k8s.io/v1"
_CLUSTER = Words(
    "the cluster's `server` in the kubeconfig",
    "the cluster's certificate-authority in the kubeconfig",
    "the API server",
)


class Right(NamedTuple):
    """What a SelfSubjectAccessReview asks about."""

    verb: str
    resource: str
    group: str = ""
    subresource: str = ""


# Kubernetes documentation, "User impersonation": which right stands behind which header.
IDENTITIES = (
    Right("impersonate", "users"),
    Right("impersonate", "groups"),
    Right("impersonate", "serviceaccounts"),
    Right("impersonate", "uids", "authentication.k8s.io"),
    Right("impersonate", "userextras", "authentication.k8s.io", "agent.gitlab.com/id"),
)
NEEDED = {"users", "groups"}  # by every identity that impersonates; the others by some
_GRANT = (
    "deploy/rbac/impersonate-*.yaml, or the chart's rbac.impersonate, grants it; where jobs act as agentk itself nothing is needed "
    "(--access-as agent)"
)
EXEC = (Right("get", "pods", subresource="exec"), Right("create", "pods", subresource="exec"))


class Answer(NamedTuple):
    """``status`` 0: there was none, and ``document`` says why."""

    status: int
    document: Any
    date: str = ""


class Cluster:
    """``checks`` in order. Asks as agentk itself, directly: no proxy leads to an API server."""

    def __init__(self, credentials: Credentials, access_as: str, namespace: str, now: Callable[[], datetime]) -> None:
        """``access_as``: agent, ci_job or impersonate, as the agent's configuration says; "" where that is not known.

        ``namespace``: where jobs exec; "" for everywhere.
        """
        self._namespace = namespace
        self._credentials = credentials
        self._access_as = access_as
        self._now = now
        self._road: Road | None = None
        self._date = ""
        self._impersonates: bool | None = None

    def checks(self) -> tuple[Check, ...]:
        """The road is known only when the credential is."""
        hops = ("DNS", "TCP", "TLS")
        found = [Check("API server: credential", self._credential)]
        for hop in hops:
            found.append(Check(f"API server: {hop}", self._hop(hop.lower()), (found[-1].name,)))
        return (
            *found,
            Check("API server: version", self._version, (found[-1].name,)),
            Check("API server: clock", self._clock, ("API server: version",)),
            Check("API server: token", self._accepted, ("API server: version",)),
            Check("RBAC: impersonate", self._impersonate, ("API server: token",)),
            Check("RBAC: exec", self._exec, ("API server: token",)),
        )

    @property
    def _access(self) -> Access:
        return self._credentials.access

    async def _credential(self) -> Finding:
        try:
            await self._credentials.load()
        except AgentkError as error:
            return broken(
                str(error), "in a pod: automountServiceAccountToken; elsewhere: correct --kubeconfig or --context"
            )
        endpoint = self._access.endpoint
        self._road = Road(
            "API server",
            endpoint.host,
            endpoint.port,
            _CLUSTER,
            trust=lambda: endpoint.tls,
            now=self._now,
            server_name=endpoint.server_name,
        )
        return ok(f"{self._credentials.source}, for {endpoint}")

    def _hop(self, name: str) -> Callable[[], Any]:
        async def look() -> Finding:
            found: Finding = await getattr(self._road, name)()
            return found

        return look

    async def _version(self) -> Finding:
        answer = await self._ask("GET", "/version")
        self._date = answer.date
        if answer.status == 200 and isinstance(answer.document, dict) and "gitVersion" in answer.document:
            return ok(f"Kubernetes {answer.document['gitVersion']}")
        if answer.status == 401:
            return _unauthorized()
        if answer.status == 403:
            return warning(
                "the API server does not tell its version to agentk (403)",
                "bind system:discovery to it, as every cluster does",
            )
        return _odd(answer)

    async def _clock(self) -> Finding:
        return skew("the API server", self._date, self._now())

    async def _accepted(self) -> Finding:
        """A review of oneself is open to everybody who is somebody."""
        answer = await self._review(Right("get", "pods"))
        if answer.status == 401:
            return _unauthorized()
        if answer.status == 403:
            return broken(
                f"the credential is nobody's, or may not ask about itself: {_message(answer)}",
                "bind system:basic-user to it, as every cluster does for authenticated users",
            )
        return ok("the credential is accepted") if _allowed(answer) is not None else _odd(answer)

    async def _impersonate(self) -> Finding:
        if self._access_as == "agent":
            return skipped("--access-as agent: jobs act as agentk itself")
        may, missing = [], []
        named, untold = await self._named()
        for right in IDENTITIES:
            allowed = _allowed(await self._review(right))
            if allowed:
                may.append(f"{right.resource}")
            elif right.resource in named:
                may.append(f"{right.resource} (only {', '.join(named[right.resource][:5])})")
            else:
                missing.append(right.resource)
        self._impersonates = not NEEDED & set(missing)
        lacks = broken if self._access_as else warning
        if not may:
            return lacks(
                f"agentk may impersonate nobody: `access_as: ci_job` and `impersonate` get 403{untold}", _GRANT
            )
        if not self._impersonates:
            return lacks(f"agentk may impersonate {', '.join(may)}, but not {', '.join(missing)}{untold}", _GRANT)
        more = f"; not {', '.join(missing)}, which only some configurations need" if missing else ""
        return ok(f"agentk may impersonate {', '.join(may)}{more}")

    async def _named(self) -> tuple[dict[str, list[str]], str]:
        """Resource → the names that may be impersonated, from rules with resourceNames; and words for the case that none are told."""
        answer = await self._ask(
            "POST",
            f"{AUTHORIZATION}/selfsubjectrulesreviews",
            {"spec": {"namespace": "default"}},
            "SelfSubjectRulesReview",
        )
        rules = _status(answer).get("resourceRules")
        if not isinstance(rules, list):
            return {}, f" (of rights to certain names alone the API server does not tell: {_message(answer)})"
        found: dict[str, list[str]] = {}
        for rule in rules:
            if {"impersonate", "*"} & set(_texts(rule, "verbs")):
                for resource in _texts(rule, "resources"):
                    found.setdefault(resource.partition("/")[0], []).extend(_texts(rule, "resourceNames"))
        return {resource: names for resource, names in found.items() if names}, ""

    async def _exec(self) -> Finding:
        if self._access_as not in ("", "agent") or (self._impersonates and not self._access_as):
            return skipped("jobs act under identities of their own: their roles decide (kas explain)")
        missing = [right.verb for right in EXEC if not _allowed(await self._review(right, self._namespace))]
        if not missing:
            return ok("jobs that act as agentk may exec with every kubectl (get and create on pods/exec)")
        where = f"the namespace {self._namespace}" if self._namespace else "every namespace"
        return warning(
            f"agentk itself may not {' nor '.join(missing)} pods/exec in {where}",
            "for `kubectl exec` under `access_as: agent` grant create (older kubectls) and get (kubectl from 1.31 on): "
            "deploy/rbac/namespace-deployer.yaml; where that is wanted in one namespace, name it: --namespace",
        )

    # ---- how ----------------------------------------------------------------------------------------------------------

    async def _review(self, right: Right, namespace: str = "") -> Answer:
        attributes = {name: value for name, value in (*right._asdict().items(), ("namespace", namespace)) if value}
        return await self._ask(
            "POST",
            f"{AUTHORIZATION}/selfsubjectaccessreviews",
            {"spec": {"resourceAttributes": attributes}},
            "SelfSubjectAccessReview",
        )

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None = None, kind: str = "") -> Answer:
        access, endpoint = self._access, self._access.endpoint
        url = f"{'https' if endpoint.tls else 'http'}://{host_port(endpoint.host, endpoint.port)}{access.prefix.decode()}{path}"
        headers = {name.decode(): value.decode() for name, value in access.credential}
        document = None if body is None else {"apiVersion": "authorization.k8s.io/v1", "kind": kind, **body}
        try:
            async with (
                asyncio.timeout(ANSWER_S),
                aiohttp.ClientSession(headers={"Accept": "application/json", "User-Agent": "agentk-doctor"}) as session,
                session.request(
                    method,
                    url,
                    headers=headers,
                    json=document,
                    ssl=endpoint.tls or True,
                    server_hostname=endpoint.server_name,
                    allow_redirects=False,
                ) as answer,
            ):
                raw = await whole_body(answer, MAX_ANSWER_BYTES)
                return Answer(answer.status, _read(raw), answer.headers.get("Date", ""))
        except TimeoutError:
            return Answer(0, f"no answer within {ANSWER_S:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Answer(0, str(error) or type(error).__name__)


def _texts(rule: Any, key: str) -> list[str]:
    found = rule.get(key) if isinstance(rule, dict) else None
    return [text for text in found if isinstance(text, str)] if isinstance(found, list) else []


def _read(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def _status(answer: Answer) -> dict[str, Any]:
    """What a review says; empty where this is none."""
    status = answer.document.get("status") if answer.status == 201 and isinstance(answer.document, dict) else None
    return status if isinstance(status, dict) else {}


def _allowed(answer: Answer) -> bool | None:
    """None: the API server did not say."""
    allowed = _status(answer).get("allowed")
    return allowed if isinstance(allowed, bool) else None


def _message(answer: Answer) -> str:
    found = answer.document.get("message") if isinstance(answer.document, dict) else answer.document
    return str(found or f"status {answer.status}")


def _unauthorized() -> Finding:
    return broken(
        "the API server does not know agentk's credential (401)",
        "the token has expired or its ServiceAccount was made anew: restart the pod, or renew the kubeconfig",
    )


def _odd(answer: Answer) -> Finding:
    return broken(
        f"this does not answer like an API server: {_message(answer)}",
        "is `server` in the kubeconfig the API server itself?",
    )
