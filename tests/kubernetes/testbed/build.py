"""The programs of Kubernetes, built once per version."""

from __future__ import annotations

from pathlib import Path

from tests.support.go_programs import build, cache_dir, required_version

MODULE = Path(__file__).parent / "programs"
PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet")


def kubernetes_programs() -> Path:
    """The folder with Kubernetes' programs, built if they are missing. Raises CannotBuild with the reason."""
    version = required_version(MODULE, "k8s.io/kubernetes")
    major, minor, _ = version.removeprefix("v").split(".", 2)
    # `kubectl version` asks the server, and kubelet tells its own to the API server: both must be real numbers.
    package = "k8s.io/component-base/version"
    ldflags = f"-X {package}.gitVersion={version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}"
    into = cache_dir() / "kubernetes-testbed" / version / "bin"
    return build(MODULE, {name: f"k8s.io/kubernetes/cmd/{name}" for name in PROGRAMS}, into, ldflags)
