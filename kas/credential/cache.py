"""Keeps a job token between two runs of kubectl: in a file that only this user may read, replaced at once or not at all."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

MAX_BYTES = 32 * 1024
PREFIX = ".kas-credential-"
FORGOTTEN_S = 8 * 24 * 3600  # longer than any job token lives: the job is over, its files are not needed


class Kept(NamedTuple):
    """A job token; ``expires_at`` is in unix seconds by this machine's clock."""

    token: str
    expires_at: int
    life_s: int

    @property
    def renew_at(self) -> float:
        """When five minutes are left, or a fifth of a life shorter than 25: whoever uses it then still finishes."""
        return self.expires_at - min(300.0, self.life_s / 5)


def folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Where: in the user's runtime directory, which goes with the machine's session; else beside the kubeconfig."""
    runtime = environment.get("XDG_RUNTIME_DIR", "")
    if runtime.startswith("/") and Path(runtime).is_dir():
        return Path(runtime)
    first = next(filter(None, environment.get("KUBECONFIG", "").split(os.pathsep)), "")
    return Path(first).absolute().parent if first else Path.home() / ".kube"


class Cache:
    """One token's file. Nothing here fails: without a cache there is an exchange for each run."""

    def __init__(self, place: Path, *key: str) -> None:
        """``key``: what the token is for and whose; secrets among it are not to be read from the file's name."""
        name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:40]
        self._path = place / f"{PREFIX}{name}"

    def read(self) -> Kept | None:
        """What is kept; None for a file that is not ours alone, or is not what we wrote."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb") as file:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
                    return None
                value = json.loads(file.read(MAX_BYTES))
            kept = Kept(value["token"], value["expires_at"], value["life_s"])
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None
        is_sound = isinstance(kept.token, str) and type(kept.expires_at) is int and type(kept.life_s) is int
        return kept if is_sound and kept.token.isascii() and kept.token.isprintable() else None

    def write(self, kept: Kept) -> None:
        """Put it in place of what was there, and remove what jobs of long ago have left."""
        import tempfile

        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(prefix=PREFIX, dir=self._path.parent)  # 0600
        except OSError:
            return
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                json.dump(kept._asdict(), file)
            os.replace(name, self._path)
            self._tidy(Path(self._path).stat().st_mtime - FORGOTTEN_S)
        except OSError:
            Path(name).unlink(missing_ok=True)

    def _tidy(self, before: float) -> None:
        for file in self._path.parent.glob(f"{PREFIX}*"):
            status = file.lstat()
            if status.st_uid == os.geteuid() and status.st_mtime < before:
                file.unlink()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep out other runs for the same token, so that ten kubectls at once exchange one ID token."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
            descriptor = os.open(self._path.with_name(f"{self._path.name}.lock"), flags, 0o600)
        except OSError:
            yield
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
