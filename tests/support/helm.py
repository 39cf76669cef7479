"""helm itself, from PATH or built from its Go module."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.go_programs import CannotBuild, build, cache_dir, required_version

MODULE = Path(__file__).parents[1] / "deploy" / "helm"
COMMAND_LIMIT_S = 120


def helm_program() -> Path:
    """helm, built where it is not installed (a minute); skips the test where it cannot be built."""
    installed = shutil.which("helm")
    if installed:
        return Path(installed)
    version = required_version(MODULE, "helm.sh/helm/v3")
    kubernetes = required_version(MODULE, "k8s.io/client-go")  # v0.34.2 goes with Kubernetes 1.34
    minor = kubernetes.removeprefix("v0.").partition(".")[0]
    package = "helm.sh/helm/v3"
    # Without these helm believes itself to render for Kubernetes 1.20.
    settings = {
        f"{package}/internal/version.version": version,
        **{f"{package}/pkg/{room}.k8sVersionMajor": "1" for room in ("chartutil", "lint/rules")},
        **{f"{package}/pkg/{room}.k8sVersionMinor": minor for room in ("chartutil", "lint/rules")},
    }
    ldflags = " ".join(f"-X {name}={value}" for name, value in settings.items())
    folder = cache_dir() / "helm-for-tests" / version
    try:
        return build(MODULE, {"helm": "helm.sh/helm/v3/cmd/helm"}, folder, ldflags) / "helm"
    except CannotBuild as error:
        pytest.skip(f"helm: {error}")


def helm(*words: str, code: int = 0, environment: dict[str, str] | None = None) -> str:
    """Standard output of a helm command that must end with ``code``; for a failure, what it said instead."""
    done = subprocess.run(
        [helm_program(), *words],
        capture_output=True,
        text=True,
        timeout=COMMAND_LIMIT_S,
        check=False,
        env=environment,
    )
    assert done.returncode == code, f"helm {' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout if code == 0 else done.stderr
