"""The practice cluster: a small API server in Python for the demo and for quick tests. It is not Kubernetes.

It serves just enough that stock kubectl 1.27 to 1.33 runs the demo's commands unchanged: discovery, OpenAPI, tables,
the usual verbs on a dozen kinds, deployments whose pods are **local processes**, logs, exec, attach and port-forward.
A pod is not isolated: its processes run with the rights of whoever started the cluster, see his files, and an image
is only a label. So it listens on localhost alone, and only its random token is let in.

``PracticeCluster`` is the way in; README.md beside this file says what is served, and what is not.
"""

from __future__ import annotations

from kas.demo.practice_cluster.cluster import PracticeCluster
from kas.demo.practice_cluster.identity import Attributes, User
from kas.demo.practice_cluster.requests import RequestRecord

__all__ = ["Attributes", "PracticeCluster", "RequestRecord", "User"]
