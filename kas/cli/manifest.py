"""The Kubernetes objects that install agentk, for plain kubectl. Pure: the chart in deploy/charts/agentk makes the same."""

from __future__ import annotations

import hashlib
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
_DRAIN_S = 20  # how long running requests may go on after SIGTERM
_IMAGE = "localhost/agentk"  # built with deploy/docker/agentk.Dockerfile
_RBAC = "rbac.authorization.k8s.io"
_READ = ["get", "list", "watch"]
_WRITE = [*_READ, "create", "update", "patch", "delete", "deletecollection"]
# The same as deploy/rbac/namespace-deployer.yaml, which says why; a test compares the two.
_DEPLOYER_RULES: tuple[tuple[str, list[str], list[str]], ...] = (
    ("", ["configmaps", "secrets", "services", "persistentvolumeclaims", "pods"], _WRITE),
    ("", ["endpoints", "events", "pods/log", "pods/status", "replicationcontrollers"], _READ),
    ("", ["pods/exec", "pods/attach", "pods/portforward"], ["get", "create"]),
    (
        "apps",
        [
            *("deployments", "statefulsets", "daemonsets", "replicasets"),
            *("deployments/scale", "statefulsets/scale", "replicasets/scale"),
        ],
        _WRITE,
    ),
    (
        "apps",
        ["controllerrevisions", "deployments/status", "statefulsets/status", "daemonsets/status", "replicasets/status"],
        _READ,
    ),
    ("batch", ["jobs", "cronjobs"], _WRITE),
    ("networking.k8s.io", ["ingresses", "networkpolicies"], _WRITE),
    ("autoscaling", ["horizontalpodautoscalers"], _WRITE),
    ("policy", ["poddisruptionbudgets"], _WRITE),
)


class _Dumper(yaml.SafeDumper):
    """For people: text of several lines as a block, and everything written out where it stands."""

    def ignore_aliases(self, data: Any) -> bool:
        """No anchors, whatever stands twice."""
        return True

    def represent_text(self, text: str) -> yaml.ScalarNode:
        """Called by the dumper for each string."""
        return self.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _Dumper.represent_text)


class Role(StrEnum):
    """What agentk's own service account may do."""

    NONE = "none"
    READ_ONLY = "read-only"
    NAMESPACE_DEPLOYER = "namespace-deployer"
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
    yield _object("policy/v1", "PodDisruptionBudget", NAME, options.namespace) | {
        # While kas is away no replica is ready; that must not keep nodes from being drained.
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": _selector()},
        }
    }


def _rbac(options: ManifestOptions) -> Iterator[Object]:
    name = f"{options.namespace}-{NAME}"  # cluster-wide names carry the namespace: two installations must not meet
    if options.role is Role.READ_ONLY:
        yield _binding("ClusterRoleBinding", f"{name}-read-only", "ClusterRole", "view", options)
    elif options.role is Role.CLUSTER_ADMIN:
        yield _binding("ClusterRoleBinding", f"{name}-cluster-admin", "ClusterRole", "cluster-admin", options)
    elif options.role is Role.NAMESPACE_DEPLOYER:
        deployer = f"{name}-deployer"
        rules = [{"apiGroups": [group], "resources": what, "verbs": verbs} for group, what, verbs in _DEPLOYER_RULES]
        for namespace in options.deploy_namespaces:
            yield _object(f"{_RBAC}/v1", "Role", deployer, namespace) | {"rules": rules}
            yield _binding("RoleBinding", deployer, "Role", deployer, options, namespace)


def _binding(
    kind: str, name: str, role_kind: str, role: str, options: ManifestOptions, namespace: str | None = None
) -> Object:
    return _object(f"{_RBAC}/v1", kind, name, namespace) | {
        "roleRef": {"apiGroup": _RBAC, "kind": role_kind, "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": options.namespace}],
    }


def _deployment(options: ManifestOptions) -> Object:
    return _object("apps/v1", "Deployment", NAME, options.namespace) | {
        "spec": {
            "replicas": REPLICAS,
            "selector": {"matchLabels": _selector()},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {
                "metadata": {"labels": _selector(), "annotations": _annotations(options)},
                "spec": _pod(options),
            },
        }
    }


def _annotations(options: ManifestOptions) -> dict[str, str]:
    ca = hashlib.sha256((options.ca_certificate or "").encode()).hexdigest()
    # agentk reads the token again at every dial; a new CA needs a new pod.
    return {"kubectl.kubernetes.io/default-container": NAME, "checksum/ca": ca}


def _pod(options: ManifestOptions) -> Object:
    return {
        "serviceAccountName": NAME,
        "terminationGracePeriodSeconds": _DRAIN_S + 10,
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
    arguments = [f"--observability-listen=0.0.0.0:{_PROBE_PORT}", f"--drain-timeout={_DRAIN_S}"]
    # Variables, so that `kubectl exec deployment/agentk -- agentk doctor` knows them too.
    variables = [
        _from_field("POD_NAME", "metadata.name"),
        _from_field("POD_NAMESPACE", "metadata.namespace"),
        {"name": "AGENTK_KAS_ADDRESS", "value": options.kas_address},
        {"name": "AGENTK_TOKEN_FILE", "value": "/etc/agentk/secrets/token"},
    ]
    mounts: list[Object] = [
        {"name": "token", "mountPath": "/etc/agentk/secrets", "readOnly": True},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - in the container
    ]
    if options.ca_certificate is not None:
        variables.append({"name": "AGENTK_CA_CERT_FILE", "value": "/etc/agentk/ca/ca.crt"})
        mounts.append({"name": "ca", "mountPath": "/etc/agentk/ca", "readOnly": True})
    return {
        "name": NAME,
        "image": options.image or f"{_IMAGE}:{version('kubernetes-agent-server')}",
        "args": arguments,
        "env": variables,
        "ports": [{"name": "observability", "containerPort": _PROBE_PORT}],
        "livenessProbe": _probe("/liveness", 10, failures=6),
        "readinessProbe": _probe("/readiness", 5, failures=3),
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
    }


def _volumes(options: ManifestOptions) -> list[Object]:
    volumes: list[Object] = [
        {"name": "token", "secret": {"secretName": TOKEN_SECRET, "defaultMode": 0o440}},
        {"name": "tmp", "emptyDir": {"sizeLimit": "16Mi"}},
    ]
    if options.ca_certificate is not None:
        volumes.append({"name": "ca", "configMap": {"name": CA_CONFIG_MAP}})
    return volumes


def _probe(path: str, period_s: int, failures: int) -> Object:
    return {
        "httpGet": {"path": path, "port": "observability"},
        "periodSeconds": period_s,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


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
