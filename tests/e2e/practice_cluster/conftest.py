"""Stock kubectls that talk to the practice cluster directly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.kubectls import Kubectl, kubectl_program

HELLO = Path(__file__).parents[3] / "examples" / "hello"
VERSIONS = ("1.27", "1.30", "1.33")


@pytest.fixture(params=VERSIONS)
def kubectl(request: pytest.FixtureRequest, cluster: Path, tmp_path: Path) -> Kubectl:
    """A kubectl of each version, as administrator."""
    return Kubectl(kubectl_program(request.param), cluster, tmp_path)


@pytest.fixture
def namespace(kubectl: Kubectl, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the test's own, gone with everything in it afterwards."""
    name = "test-" + kubectl.program.name.rpartition(".")[2] + "-" + format(abs(hash(request.node.name)), "x")[:10]
    kubectl.run("create", "namespace", name)
    yield name
    kubectl.run("delete", "namespace", name)
    assert name not in kubectl.run("get", "namespaces")


@pytest.fixture
def run(kubectl: Kubectl, namespace: str) -> Callable[..., str]:
    """``kubectl.run`` in the test's namespace."""

    def run(*words: str, input: bytes | str | None = None, fails: bool = False) -> str:  # noqa: A002 - as subprocess
        return kubectl.run("--namespace", namespace, *words, input=input, fails=fails)

    return run


@pytest.fixture
def pod(run: Callable[..., str]) -> str:
    """The name of a ready pod of the example."""
    run("apply", "-k", str(HELLO))
    run("rollout", "status", "deployment/hello", "--timeout=20s")
    return run("get", "pods", "-o", "jsonpath={.items[0].metadata.name}")
