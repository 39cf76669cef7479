"""`agentk doctor` and `kas doctor` as an operator runs them: the real command, read by its JSON."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.product import PROGRAMS

LIMIT_S = 100


class Row(NamedTuple):
    """One finding."""

    state: str
    said: str
    remedy: str


class Examined(NamedTuple):
    """The exit code and the findings by their checks."""

    code: int
    rows: dict[str, Row]

    @property
    def broken(self) -> list[str]:
        """The checks that found something broken."""
        return [name for name, row in self.rows.items() if row.state == "broken"]

    @property
    def warnings(self) -> list[str]:
        """The checks that warn."""
        return [name for name, row in self.rows.items() if row.state == "warning"]


def examined(program: str, *words: Any, environment: Mapping[str, str] | None = None) -> Examined:
    """Run ``program doctor WORDS --json``. Every finding that is not well must come with a remedy."""
    done = run(program, *words, "--json", environment=environment)
    try:
        found = json.loads(done.stdout)
    except ValueError:
        raise AssertionError(f"{done.returncode}: {done.stdout}{done.stderr}") from None
    assert done.stderr == ""
    rows = {row["check"]: Row(row["state"], row["said"], row.get("remedy", "")) for row in found}
    assert len(rows) == len(found)
    assert all(row.remedy for row in rows.values() if row.state in ("warning", "broken"))
    return Examined(done.returncode, rows)


def run(program: str, *words: Any, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The same as text."""
    left_out = ("KAS_", "AGENTK_", "KUBE", "GRPC_", "SSL_")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(left_out) and not name.lower().endswith("_proxy")
    }
    return subprocess.run(
        [PROGRAMS / program, "doctor", *map(str, words)],
        capture_output=True,
        text=True,
        env={**kept, **(environment or {})},
        stdin=subprocess.DEVNULL,
        timeout=LIMIT_S,
        check=False,
        cwd=Path("/"),
    )
