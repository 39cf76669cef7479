"""The Kubernetes objects that install agentk, for plain kubectl. Pure: the chart in deploy/charts/agentk makes the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.metadata import version
from typing import Any

import yaml

NAME = "agentk"
TOKEN_SECRET = "agentk-token"  # noqa: S105 - a name, no secret
CA_CONFIG_MAP = "agentk-ca"
REPLICAS = 2  # one goes on while the other's node is drained
_USER = 65532  # as distroless images call "nonroot"
_PROBE_PORT = 8080


class _Dumper(yaml.SafeDumper):
    """Text of several lines as a block, so that people can read a certificate for what it is."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        """Called by the dumper for each string."""
        return self.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _Dumper.represent_text)


class Role(StrEnum):
    """What agentk's own service account may do."""

    READ_ONLY = "read-only"
    NAMESPACE_DEPLOYER = "namespace-deployer"
    IMPERSONATOR = "impersonator"
    CLUSTER_ADMIN = "cluster-admin"


@dataclass(frozen=True)
class ManifestOptions:
    """What differs from one installation to another. Without a token the Secret is expected to be there."""

    agent: str
    kas_address: str
    namespace: str = NAME
    role: Role = Role.READ_ONLY
    deploy_namespaces: tuple[str, ...] = ()
    image: str | None = None
    token: str | None = field(default=None, repr=False)
    ca_certificate: str | None = None


Object = dict[str, Any]


def render(options: ManifestOptions) -> str:
    """YAML documents for ``kubectl apply -f -``."""
    head = f"# agentk for the agent {options.agent}, dialling {options.kas_address}\n"
    if options.token is None:
        head += f"# Its token is expected: kubectl -n {options.namespace} create secret generic {TOKEN_SECRET} --from-file=token=FILE\n"
    documents = yaml.dump_all(list(objects(options)), Dumper=_Dumper, sort_keys=False, width=1000)
    return f"{head}{documents}"


def objects(options: ManifestOptions) -> Iterator[Object]:
    """In the order in which they must be made."""
    yield _object(
        "v1",
        "Namespace",
        options.namespace,
        labels={"pod-security.kubernetes.io/enforce": "restricted"},
    )
    yield _object("v1", "ServiceAccount", NAME, options.namespace)
    if options.token is not None:
        yield _object("v1", "Secret", TOKEN_SECRET, options.namespace) | {
            "type": "Opaque",
            "stringData": {"token": options.token},
        }
    if options.ca_certificate is not None:
        yield _object("v1", "ConfigMap", CA_CONFIG_MAP, options.namespace) | {
            "data": {"ca.crt": options.ca_certificate}
        }
    yield from _rbac(options)
    yield _deployment(options)


def _rbac(options: ManifestOptions) -> Iterator[Object]:
    name = f"{NAME}-{options.namespace}-{options.role}"  # cluster-wide names: two installations in one cluster must not meet
    if options.role is Role.READ_ONLY:
        yield _binding("ClusterRoleBinding", name, "view", options)
    elif options.role is Role.CLUSTER_ADMIN:
        yield _binding("ClusterRoleBinding", name, "cluster-admin", options)
    elif options.role is Role.IMPERSONATOR:
        yield _object("rbac.authorization.k8s.io/v1", "ClusterRole", name) | {"rules": _impersonation_rules()}
        yield _binding("ClusterRoleBinding", name, name, options)
    else:
        for namespace in options.deploy_namespaces:
            yield _binding("RoleBinding", name, "edit", options, namespace)


def _impersonation_rules() -> list[Object]:
    return [
        {"apiGroups": [""], "resources": ["users", "groups"], "verbs": ["impersonate"]},
        # "*" stands for uids and for every key of userextras, which RBAC cannot name with a wildcard of its own.
        {"apiGroups": ["authentication.k8s.io"], "resources": ["*"], "verbs": ["impersonate"]},
    ]


def _binding(kind: str, name: str, role: str, options: ManifestOptions, namespace: str | None = None) -> Object:
    return _object("rbac.authorization.k8s.io/v1", kind, name, namespace) | {
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": options.namespace}],
    }


def _deployment(options: ManifestOptions) -> Object:
    return _object("apps/v1", "Deployment", NAME, options.namespace) | {
        "spec": {
            "replicas": REPLICAS,
            "selector": {"matchLabels": _selector()},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {"metadata": {"labels": _selector()}, "spec": _pod(options)},
        }
    }


def _pod(options: ManifestOptions) -> Object:
    return {
        "serviceAccountName": NAME,
        "terminationGracePeriodSeconds": 60,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": _selector()},
            }
        ],
        "containers": [_container(options)],
        "volumes": _volumes(options),
    }


def _container(options: ManifestOptions) -> Object:
    arguments = [
        f"--kas-address={options.kas_address}",
        "--token-file=/etc/agentk/secrets/token",
        f"--observability-listen=0.0.0.0:{_PROBE_PORT}",
    ]
    mounts = [{"name": "token", "mountPath": "/etc/agentk/secrets", "readOnly": True}]
    if options.ca_certificate is not None:
        arguments.append("--ca-cert-file=/etc/agentk/ca/ca.crt")
        mounts.append({"name": "ca", "mountPath": "/etc/agentk/ca", "readOnly": True})
    return {
        "name": NAME,
        "image": options.image or f"{NAME}:{version('kubernetes-agent-server')}",
        "args": arguments,
        "env": [_from_field("POD_NAME", "metadata.name"), _from_field("POD_NAMESPACE", "metadata.namespace")],
        "ports": [{"name": "observability", "containerPort": _PROBE_PORT}],
        "livenessProbe": _probe("/liveness", 10),
        "readinessProbe": _probe("/readiness", 5),
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
    }


def _volumes(options: ManifestOptions) -> list[Object]:
    volumes: list[Object] = [{"name": "token", "secret": {"secretName": TOKEN_SECRET, "defaultMode": 0o440}}]
    if options.ca_certificate is not None:
        volumes.append({"name": "ca", "configMap": {"name": CA_CONFIG_MAP}})
    return volumes


def _probe(path: str, period_s: int) -> Object:
    return {"httpGet": {"path": path, "port": "observability"}, "periodSeconds": period_s, "timeoutSeconds": 5}


def _from_field(name: str, path: str) -> Object:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _selector() -> dict[str, str]:
    return {"app.kubernetes.io/name": NAME, "app.kubernetes.io/instance": NAME}


def _object(
    api: str, kind: str, name: str, namespace: str | None = None, labels: dict[str, str] | None = None
) -> Object:
    metadata: Object = {"name": name}
    if namespace is not None:
        metadata["namespace"] = namespace
    metadata["labels"] = {**_selector(), **(labels or {})}
    return {"apiVersion": api, "kind": kind, "metadata": metadata}
