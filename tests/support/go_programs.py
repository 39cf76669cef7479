"""Real programs for tests, built from Go modules that a go.sum pins, and kept in the user's cache."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

BUILD_LIMIT_S = 40 * 60  # Kubernetes takes 10 minutes of two cores from nothing


class CannotBuild(Exception):
    """The programs are not there and cannot be built; the text says why."""


def cache_dir() -> Path:
    """Where built programs are kept between runs: $XDG_CACHE_HOME or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def required_version(module: Path, path: str) -> str:
    """The version of the module ``path`` in ``module``/go.mod, like ``v1.34.4``."""
    found = re.search(rf"^(?:require)?\s*{re.escape(path)} (v\S+)", (module / "go.mod").read_text(), re.MULTILINE)
    if found is None:
        raise CannotBuild(f"{module / 'go.mod'} does not require {path}")
    return found[1]


def build(module: Path, packages: Mapping[str, str], into: Path, ldflags: str) -> Path:
    """Build what is missing of ``packages`` (program name → Go package) into the folder ``into``; returns ``into``.

    Two runs at once build once. Raises CannotBuild where there is no Go or a module cannot be had.
    """
    if all((into / name).exists() for name in packages):
        return into
    go = shutil.which("go")
    if go is None:
        raise CannotBuild("there is no Go here to build it with")
    into.mkdir(parents=True, exist_ok=True)
    with (into / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name, package in packages.items():
            if not (into / name).exists():
                _build_one(go, module, package, into / name, ldflags)
    return into


def _build_one(go: str, module: Path, package: str, program: Path, ldflags: str) -> None:
    print(f"building {program.name} from {package} ...", flush=True)
    unfinished = program.with_name(f".{program.name}.unfinished")
    try:
        subprocess.run(
            [go, "build", "-mod=readonly", "-trimpath", "-ldflags", f"-s -w {ldflags}", "-o", unfinished, package],
            cwd=module,
            env={**os.environ, "CGO_ENABLED": "0"},
            check=True,
            capture_output=True,
            text=True,
            timeout=BUILD_LIMIT_S,
        )
    except subprocess.CalledProcessError as error:
        last_lines = "\n".join(error.stderr.strip().splitlines()[-3:])
        raise CannotBuild(f"go build {package} failed: {last_lines}") from None
    except subprocess.TimeoutExpired:
        raise CannotBuild(f"go build {package} took longer than {BUILD_LIMIT_S} s") from None
    unfinished.rename(program)
