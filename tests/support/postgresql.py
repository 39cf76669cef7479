"""A real PostgreSQL, of Debian's package, with a password, in a folder of its own."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
from pathlib import Path

from tests.support.ports import free_ports

LIMIT_S = 60
USER = "kas"


def missing() -> str:
    """Why it cannot be run here; empty if it can."""
    if _programs() is None:
        return "not installed: postgresql (on Debian and Ubuntu: apt-get install postgresql)"
    return (
        ""
        if os.getuid() != 0 or _account() is not None
        else "PostgreSQL does not run as root, and there is no user postgres"
    )


def _programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    on_path = shutil.which("pg_ctl")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


def _account() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return None


class PostgreSQL:
    """One server. ``start`` and ``stop`` at will; ``folder`` must be empty, and every folder above it open to all."""

    def __init__(self, folder: Path) -> None:
        programs = _programs()
        assert programs is not None
        self._programs = programs
        self._account = _account() if os.getuid() == 0 else None
        self._data = folder / "data"
        (self.port,) = free_ports(1)
        self.password = secrets.token_urlsafe(20)
        word = folder / "password"
        word.touch(mode=0o600)
        word.write_text(self.password)
        if self._account is not None:
            for path in (folder, word):
                os.chown(path, self._account.pw_uid, self._account.pw_gid)
        self._run(
            "initdb", "--auth=scram-sha-256", f"--pwfile={word}", f"--username={USER}", "--no-sync", "-D", self._data
        )
        with (self._data / "postgresql.conf").open("a") as config:
            config.write(
                f"port = {self.port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\nfsync = off\n"
            )

    @property
    def url(self) -> str:
        """Of the database that is always there, without the password."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Returns when it accepts connections."""
        self._run("pg_ctl", "start", "-w", "-D", self._data, "-l", self._data / "log")

    def stop(self, how: str = "fast") -> None:
        """``fast`` ends sessions first, ``immediate`` is a crash. Idempotent."""
        if (self._data / "postmaster.pid").exists():
            self._run("pg_ctl", "stop", "-w", "-D", self._data, "-m", how)

    def dump(self) -> str:
        """Everything in it, as SQL."""
        environment = {**os.environ, "PGPASSWORD": self.password}
        command = [self._programs / "pg_dumpall", "--host=127.0.0.1", f"--port={self.port}", f"--username={USER}"]
        return subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=LIMIT_S, check=True
        ).stdout

    def _run(self, program: str, *words: str | Path) -> None:
        who = self._account
        user = {} if who is None else {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": ()}
        done = subprocess.run(
            [self._programs / program, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # the server keeps it open
            stderr=subprocess.DEVNULL,
            cwd="/",
            timeout=LIMIT_S,
            check=False,
            **user,  # type: ignore[call-overload]
        )
        assert done.returncode == 0, f"{program} ended with {done.returncode}"
