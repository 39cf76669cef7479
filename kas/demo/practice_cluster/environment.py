"""What a container's process is started with: its command, its variables, its ports."""

from __future__ import annotations

import base64
import os
import re
import socket
import sys
from pathlib import Path
from typing import Any

from kas.demo.practice_cluster.kinds import kind_of
from kas.demo.practice_cluster.objects import Object, Store

HTTPD = Path(__file__).parent / "programs" / "httpd.py"
LOCAL_ADDRESS = "127.0.0.1"
NODE_NAME = "practice-node"


class MissingReference(Exception):
    """The container wants something that is not there (yet)."""


def install_programs(folder: Path) -> None:
    """Put the few programs of the demo's image, which this machine may lack, into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "httpd"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I "{HTTPD}" "$@"\n')
    script.chmod(0o755)


def free_ports(pod: Object) -> dict[int, int]:
    """Container port → a free local port, for every port that the pod declares."""
    ports: dict[int, int] = {}
    for container in pod["spec"]["containers"]:
        for port in container.get("ports") or []:
            with socket.socket() as listener:
                listener.bind((LOCAL_ADDRESS, 0))
                ports[port["containerPort"]] = listener.getsockname()[1]
    return ports


def command_of(container: Object, environment: dict[str, str]) -> list[str]:
    """The program and its arguments; the image is only a label, so without a command it is a server that says hello."""
    if not container.get("command"):
        return [sys.executable, "-I", str(HTTPD), "--hello"]
    return [_expanded(part, environment) for part in [*container["command"], *(container.get("args") or [])]]


def environment_of(
    store: Store, pod: Object, container: Object, folder: Path, programs: Path, ports: dict[int, int]
) -> dict[str, str]:
    """The variables of a container's process. Raises MissingReference."""
    environment = {
        "PATH": f"{programs}:{os.environ.get('PATH', os.defpath)}",
        "HOME": str(folder),
        "HOSTNAME": pod["metadata"]["name"],
        "LANG": os.environ.get("LANG", "C.UTF-8"),
        "PRACTICE_CLUSTER_PORTS": ",".join(f"{port}={local}" for port, local in ports.items()),
    }
    namespace = pod["metadata"]["namespace"]
    for source in container.get("envFrom") or []:
        prefix = source.get("prefix", "")
        for field in ("configMapRef", "secretRef"):
            if reference := source.get(field):
                values = _values(store, namespace, field, reference)
                environment.update({prefix + key: value for key, value in values.items()})
    for variable in container.get("env") or []:
        value = variable.get("value", "")
        if source := variable.get("valueFrom"):
            value = _from(store, pod, source)
        environment[variable["name"]] = _expanded(value, environment)
    return environment


def _from(store: Store, pod: Object, source: Object) -> str:
    if reference := source.get("fieldRef"):
        return _of_pod(pod, reference["fieldPath"])
    for field in ("configMapKeyRef", "secretKeyRef"):
        if reference := source.get(field):
            values = _values(store, pod["metadata"]["namespace"], field, reference)
            if reference["key"] in values or reference.get("optional"):
                return values.get(reference["key"], "")
            raise MissingReference(f"couldn't find key {reference['key']} in {field} {reference['name']}")
    return ""  # resourceFieldRef: there are no limits here


def _values(store: Store, namespace: str, field: str, reference: Object) -> dict[str, str]:
    is_secret = field.startswith("secret")
    kind = kind_of("secrets" if is_secret else "configmaps")
    item = store.find(kind, namespace, reference["name"])
    if item is None:
        if reference.get("optional"):
            return {}
        raise MissingReference(f'{kind.singular} "{reference["name"]}" not found')
    data: dict[str, str] = item.get("data") or {}
    return {key: base64.b64decode(value).decode(errors="replace") for key, value in data.items()} if is_secret else data


def _of_pod(pod: Object, path: str) -> str:
    if match := re.fullmatch(r"metadata\.(labels|annotations)\['([^']+)'\]", path):
        return str((pod["metadata"].get(match[1]) or {}).get(match[2], ""))
    if path in {"status.podIP", "status.hostIP"}:
        return LOCAL_ADDRESS
    value: Any = pod
    for name in path.split("."):
        value = value.get(name, "") if isinstance(value, dict) else ""
    return str(value)


def _expanded(text: str, environment: dict[str, str]) -> str:
    """``$(NAME)`` replaced by a variable's value, ``$$`` by ``$``; an unknown name stays as it is."""
    return re.sub(
        r"\$(?:\$|\(([-._A-Za-z0-9]+)\))",
        lambda match: "$" if match[1] is None else environment.get(match[1], match[0]),
        text,
    )
