"""The stock kubectls of this machine, and a way to run one as a CI job does: with a kubeconfig and a home folder of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

COMMAND_LIMIT_S = 60


@cache
def installed() -> dict[str, Path]:
    """Minor version → program. Looked for on PATH, as kubectl and kubectl.1.NN, and beside gcloud, which brings several."""
    found: dict[str, Path] = {}
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    gcloud = shutil.which("gcloud")
    if gcloud:
        folders.append(Path(gcloud).resolve().parent)
    for folder in folders:
        for program in sorted(folder.glob("kubectl.1.*")):
            found.setdefault(program.name.removeprefix("kubectl."), program)
    plain = shutil.which("kubectl")
    if plain:
        found.setdefault(_minor_version(plain), Path(plain).resolve())
    return found


def kubectl_program(minor: str) -> Path:
    """The kubectl of this minor version (``1.27``); skips the test where there is none."""
    program = installed().get(minor)
    if program is None:
        pytest.skip(f"there is no kubectl {minor} here (found: {', '.join(sorted(installed())) or 'none'})")
    return program


def any_kubectl() -> Path:
    """The newest kubectl there is; skips the test where there is none."""
    if not installed():
        pytest.skip("there is no kubectl here")
    return installed()[max(installed(), key=lambda minor: [int(part) for part in minor.split(".")])]


def _minor_version(program: str) -> str:
    done = subprocess.run([program, "version", "--client"], capture_output=True, text=True, timeout=30, check=False)
    version = re.search(r"v(\d+\.\d+)\.", done.stdout)
    return version[1] if version else "0.0"


@dataclass(frozen=True)
class Kubectl:
    """One kubectl with one kubeconfig; ``home`` keeps its caches apart from everybody else's."""

    program: Path
    kubeconfig: Path
    home: Path
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *words: str, input: bytes | str | None = None, fails: bool = False) -> str:  # noqa: A002 - as subprocess
        """Standard output of a command that must succeed (``fails``: standard error of one that must not)."""
        done = self.result(*words, input=input)
        output = f"$ kubectl {' '.join(words)}\n{done.stdout.decode()}{done.stderr.decode()}"
        if fails:
            assert done.returncode != 0, f"this was to fail:\n{output}"
            return done.stderr.decode()
        assert done.returncode == 0, f"exit code {done.returncode}:\n{output}"
        return done.stdout.decode()

    def result(self, *words: str, input: bytes | str | None = None) -> subprocess.CompletedProcess[bytes]:  # noqa: A002
        """The outcome of a command, whatever it is; killed after a minute."""
        data = input.encode() if isinstance(input, str) else input
        return subprocess.run(
            [self.program, *words],
            input=data or b"",
            capture_output=True,
            env=self.environment_now(),
            timeout=COMMAND_LIMIT_S,
            check=False,
        )

    @contextmanager
    def running(self, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        """A command that runs while the block does, then is killed; its standard output and error are pipes."""
        with subprocess.Popen(
            [self.program, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment_now(),
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def with_kubeconfig(self, kubeconfig: Path) -> Kubectl:
        """The same kubectl with another kubeconfig."""
        return Kubectl(self.program, kubeconfig, self.home, self.environment)

    def environment_now(self) -> dict[str, str]:
        """What its processes get."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("KUBE", "XDG_"))}
        # A proxy of the machine is not for localhost.
        own = {"KUBECONFIG": str(self.kubeconfig), "HOME": str(self.home), "NO_PROXY": "localhost,127.0.0.1"}
        return {**kept, **own, **self.environment}
