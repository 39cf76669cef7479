"""The catalogue of faults and attacks as data, and which of its rows the tests show."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).parent / "catalogue.toml"
EXCUSES = Path(__file__).parents[2] / "docs" / "fault-coverage.md"
RINGS = ("unit", "integration", "e2e", "network", "load")


@dataclass(frozen=True)
class Row:
    """One stimulus and what is expected; ``advisory`` names the published case behind it, where there is one."""

    id: str
    group: str
    ring: str
    stimulus: str
    expected: str
    advisory: str = ""


@dataclass(frozen=True)
class Catalogue:
    """All rows in the order of the file."""

    rows: tuple[Row, ...]
    groups: Mapping[str, str]


def load(file: Path = FILE) -> Catalogue:
    """The catalogue."""
    document = tomllib.loads(file.read_text())
    rows = tuple(Row(**row) for row in document["rows"])
    return Catalogue(rows, document["groups"])


def excuses(file: Path = EXCUSES) -> dict[str, str]:
    """Rows that have no test yet, and why: the table of docs/fault-coverage.md."""
    return dict(re.findall(r"^\| ([A-Z]+-?\d+) \| (.+) \|$", file.read_text(), re.MULTILINE))


@dataclass(frozen=True)
class Coverage:
    """The catalogue against the marks of the tests (row id → the tests that show it) and the excuses (row id → why not yet)."""

    catalogue: Catalogue
    tests: Mapping[str, frozenset[str]]
    excuses: Mapping[str, str]

    @classmethod
    def of(cls, catalogue: Catalogue, marks: Iterable[tuple[str, str]], excuses: Mapping[str, str]) -> Coverage:
        """From pairs of row id and test name."""
        tests: dict[str, set[str]] = {}
        for row_id, test in marks:
            tests.setdefault(row_id, set()).add(test)
        return cls(catalogue, {row_id: frozenset(names) for row_id, names in tests.items()}, excuses)

    @property
    def problems(self) -> list[str]:
        """What is not in order, for people."""
        known = {row.id for row in self.catalogue.rows}
        said = [
            f"unknown row {row_id}, named by {', '.join(sorted(tests))}"
            for row_id, tests in sorted(self.tests.items())
            if row_id not in known
        ]
        said += [f"unknown row {row_id} in the document" for row_id in sorted(self.excuses.keys() - known)]
        said += [
            f"{row_id} has a test: its line is out of date"
            for row_id in sorted(self.excuses.keys() & self.tests.keys())
        ]
        said += [
            f"{row.id} has neither test nor line: {row.stimulus}  →  {row.expected}"
            for row in self.catalogue.rows
            if row.id not in self.tests and row.id not in self.excuses
        ]
        return said

    def report(self) -> str:
        """For people: a line per group, then each row with the number of its tests."""
        lines = []
        for group, title in self.catalogue.groups.items():
            rows = [row for row in self.catalogue.rows if row.group == group]
            covered = [row for row in rows if row.id in self.tests]
            lines.append(f"{group}  {len(covered):3d} of {len(rows):3d}  {title}")
            lines += [f"     {row.id}: {len(self.tests[row.id])}" for row in covered]
            lines += [f"     {row.id}: not yet: {self.excuses[row.id]}" for row in rows if row.id in self.excuses]
        total = sum(row.id in self.tests for row in self.catalogue.rows)
        lines.append(
            f"in all {total} of {len(self.catalogue.rows)} rows have a test, {len(self.excuses)} a reason why not yet"
        )
        return "\n".join(lines)
