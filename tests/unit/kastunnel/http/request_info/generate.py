"""Prints requests for the recorder: ``python generate.py 105000``. The same number gives the same requests.

Every row is another one. They follow the grammar of Kubernetes' paths closely enough to reach its branches, and leave it in the ways
in which a path can lie: encoded slashes and dots, doubled and trailing slashes, verbs as names, parameters twice, odd and empty.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "get", "CONNECT", "TRACE", "LIST"]
WEIGHTS = [40, 12, 8, 8, 12, 8, 3, 2, 2, 2, 3]
ROOTS = [
    "/api",
    "/apis",
    "/version",
    "/healthz/ping",
    "/openapi/v3",
    "/metrics",
    "/debug/pprof/heap",
    "/logs",
    "/",
    "//",
    "/API",
    "/apiss",
    "/%61pi",
]
GROUPS = ["apps", "batch", "networking.k8s.io", "a.b.c", "v1", "watch", "%61pps", "apps%2Fx", ".."]
VERSIONS = ["v1", "v1beta1", "v2alpha1", "watch", "proxy", "namespaces", "", "%76%31"]
RESOURCES = [
    "pods",
    "services",
    "nodes",
    "namespaces",
    "deployments",
    "secrets",
    "configmaps",
    "events",
    "watch",
    "proxy",
    "status",
    "finalize",
    "Pods",
    "po%64s",
    "pods%2Flog",
    "serviceaccounts",
    ".",
]
NAMES = [
    "a",
    "web-0",
    "http:web:80",
    "kube-system",
    "status",
    "finalize",
    "watch",
    "proxy",
    "pods",
    "%2e%2e",
    "..",
    "a%2Fb",
    "a%20b",
    "ä",
    "%C3%A4",
    "%ff",
    "*",
    "a;b",
    "a,b",
    "a=b",
    "a'b",
    "x" * 70,
    "%25",
    "%2525",
    "~",
    "a+b",
    "@",
]
SUBRESOURCES = [
    "log",
    "exec",
    "attach",
    "portforward",
    "proxy",
    "status",
    "scale",
    "finalize",
    "token",
    "eviction",
    "ephemeralcontainers",
    "binding",
    "LOG",
    "e%78ec",
    "resize",
]
NAMESPACES = ["default", "kube-system", "shop", "namespaces", "watch", "%64efault", "a%2Fb", ""]
VALUES = [
    "",
    "1",
    "true",
    "True",
    "TRUE",
    "t",
    "yes",
    "0",
    "false",
    "FALSE",
    "False",
    "f",
    "no",
    "%74rue",
    "true ",
    "+1",
    "null",
]
SELECTORS = [
    "metadata.name=a",
    "metadata.name==a",
    "metadata.name!=a",
    "metadata.name=a,status.phase=Running",
    "status.phase=Running,metadata.name=b",
    "metadata.name",
    "metadata.name=",
    "metadata.name=a%2Fb",
    "metadata.name=a%5C%2Cb",
    "metadata.name=..",
    "metadata.name=a,metadata.name=b",
    ",metadata.name=a",
    "a=%5C",
    "metadata.namespace=x,metadata.name=%C3%A4",
    "metadata.name%3Dc",
]
KEYS = [
    "watch",
    "fieldSelector",
    "limit",
    "timeoutSeconds",
    "labelSelector",
    "resourceVersion",
    "follow",
    "command",
    "dryRun",
    "%77atch",
    "Watch",
]


def requests(count: int) -> Iterator[str]:
    """``count`` lines ``METHOD target``, all different."""
    rng = random.Random(20_000)
    seen: set[str] = set()
    while len(seen) < count:
        line = f"{rng.choices(METHODS, WEIGHTS)[0]} {_path(rng)}{_query(rng)}"
        if line not in seen:
            seen.add(line)
            yield line


def _path(rng: random.Random) -> str:
    if rng.random() < 0.08:
        return _bent(
            rng, rng.choice(ROOTS) + "".join(f"/{rng.choice(NAMES + RESOURCES)}" for _ in range(rng.randrange(4)))
        )
    parts = ["api"] if rng.random() < 0.5 else ["apis", rng.choice(GROUPS)]
    parts.append(rng.choice(VERSIONS[:3]) if rng.random() < 0.9 else rng.choice(VERSIONS))
    if rng.random() < 0.15:
        parts.append(rng.choice(["watch", "proxy", "redirect"]))
    if rng.random() < 0.6:
        parts += ["namespaces", rng.choice(NAMESPACES)]
    if rng.random() < 0.93:
        parts.append(rng.choice(RESOURCES))
        if rng.random() < 0.65:
            parts.append(rng.choice(NAMES))
            if rng.random() < 0.55:
                parts.append(rng.choice(SUBRESOURCES))
                parts += rng.choices(NAMES + SUBRESOURCES, k=rng.choice([0, 0, 0, 1, 2]))
    return _bent(rng, "/" + "/".join(parts))


def _bent(rng: random.Random, path: str) -> str:
    bend = rng.random()
    at = rng.randrange(1, len(path) + 1)
    if "%" in path[max(0, at - 2) : at]:
        return path  # half an encoding is refused before anybody classifies it
    if bend < 0.05:
        return path + rng.choice(["/", "//", "/.", "/%2F"])
    if bend < 0.10:
        return path[:at] + rng.choice(["/", "//", "%2F", "%2f", ".", "%00", "%0a"]) + path[at:]
    if bend < 0.13 and path[at - 1].isalnum() and "%" not in path[max(0, at - 3) : at]:
        return f"{path[: at - 1]}%{ord(path[at - 1]):02x}{path[at:]}" if path[at - 1].isascii() else path
    return path


def _query(rng: random.Random) -> str:
    if rng.random() < 0.45:
        return ""
    pairs = []
    for _ in range(rng.choice([1, 1, 1, 2, 2, 3])):
        key = rng.choices(KEYS, [8, 6, 3, 3, 1, 1, 1, 1, 1, 1, 1])[0]
        kind = rng.random()
        if key == "fieldSelector" and kind < 0.85:
            value = rng.choice(SELECTORS)
        elif key in ("limit", "timeoutSeconds") and kind < 0.6:
            value = rng.choice(["5", "0", "-1", "x", "", "1.5", "9223372036854775808", "+7", "0x10", "1_0"])
        else:
            value = rng.choice(VALUES).replace(" ", "%20")
        pairs.append(f"{key}={value}" if rng.random() < 0.95 else key)
    return "?" + rng.choices(["&", ";", "&&"], [20, 1, 1])[0].join(pairs)


if __name__ == "__main__":
    for request in requests(int(sys.argv[1])):
        print(request)
