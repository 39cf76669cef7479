"""The command: build, up, down. State lies in $KAS_KUBERNETES_STATE, else in the user's cache."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from tests.kubernetes.testbed.build import kubernetes_programs
from tests.kubernetes.testbed.cluster import Cluster, missing_for_control_plane
from tests.kubernetes.testbed.node import missing_for_node
from tests.kubernetes.testbed.processes import StartFailed
from tests.support.go_programs import CannotBuild, cache_dir


def states_dir() -> Path:
    """The folder with one folder per cluster."""
    named = os.environ.get("KAS_KUBERNETES_STATE")
    return Path(named) if named else cache_dir() / "kubernetes-testbed" / "states"


def main() -> None:
    """Run the command of the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.kubernetes.testbed", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build", help="build Kubernetes' programs, unless they are there; prints their folder")
    up = commands.add_parser("up", help="start a cluster; prints the path of the administrator's kubeconfig last")
    up.add_argument("--no-node", action="store_true", help="API server and controllers alone; works without root")
    down = commands.add_parser("down", help="stop a cluster, in whatever state it is")
    for command in (up, down):
        command.add_argument("name", nargs="?", default="default", help="several can run at once (default: default)")
    down.add_argument("--all", action="store_true", help="every cluster whose state is found")
    words = parser.parse_args()
    try:
        _run(words)
    except (CannotBuild, StartFailed) as error:
        raise SystemExit(f"error: {error}") from None


def _run(words: argparse.Namespace) -> None:
    if words.command == "down":
        names = [path.name for path in states_dir().glob("*")] if words.all else [words.name]
        for name in names:
            Cluster(states_dir() / name, Path()).down()
        return
    programs = kubernetes_programs()
    if words.command == "build":
        print(programs)
        return
    missing = missing_for_control_plane() or (None if words.no_node else missing_for_node())
    if missing:
        raise SystemExit(f"error: {missing}")
    cluster = Cluster(states_dir() / words.name, programs)
    cluster.down()
    print(cluster.up(node=not words.no_node))


if __name__ == "__main__":
    main()
