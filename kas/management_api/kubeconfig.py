"""The kubeconfig of a job: a context for each agent that it may use. Pure."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import yaml

from kas.access.grants import Grant

_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def render_kubeconfig(grants: Sequence[Grant], token: str, server: str, ca: bytes | None) -> str:
    """YAML with a context ``group/project:name`` for each grant, in their order, and no current one: the job chooses.

    ``server``: the kubectl door's external URL; each agent has a path of its own below it, because kubectl keeps what it discovers
    by host and path. ``ca``: PEM of what the door's certificate is signed by; None where clients trust it already.
    """
    clusters, contexts, users = [], [], []
    trust = {} if ca is None else {"certificate-authority-data": base64.b64encode(ca).decode("ascii")}
    for grant in grants:
        name = f"agent:{grant.agent.id}"
        clusters.append({"name": name, "cluster": {"server": f"{server}/agents/{grant.agent.id}", **trust}})
        users.append({"name": name, "user": {"token": f"ci:{grant.agent.id}:{token}"}})
        context = {"cluster": name, "user": name}
        if grant.default_namespace:
            context["namespace"] = grant.default_namespace
        contexts.append({"name": str(grant.agent), "context": context})
    config = {"apiVersion": "v1", "kind": "Config", "clusters": clusters, "contexts": contexts, "users": users}
    text: str = yaml.dump(config, Dumper=_DUMPER, sort_keys=False, width=1 << 20)
    return (_HINT if grants else _NOTHING) + text


_HINT = (
    "# Keep this private: it holds the token of a job. Choose with: kubectl config use-context GROUP/PROJECT:AGENT\n"
)
_NOTHING = "# This job may use no agent: no agent's ci_access names its project, or not for this environment or ref.\n"
