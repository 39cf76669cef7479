"""The catalogue of faults and attacks as data, and which of its rows the tests show."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).parent / "catalogue.toml"
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
    """All rows in the order of the file; ``due`` are the groups whose rows must all have a test."""

    rows: tuple[Row, ...]
    groups: Mapping[str, str]
    due: frozenset[str]


def load(file: Path = FILE) -> Catalogue:
    """The catalogue."""
    document = tomllib.loads(file.read_text())
    rows = tuple(Row(**row) for row in document["rows"])
    return Catalogue(rows, document["groups"], frozenset(document["due"]))


@dataclass(frozen=True)
class Coverage:
    """The catalogue against the marks of the tests: row id → the tests that show it."""

    catalogue: Catalogue
    tests: Mapping[str, frozenset[str]]

    @classmethod
    def of(cls, catalogue: Catalogue, marks: Iterable[tuple[str, str]]) -> Coverage:
        """From pairs of row id and test name."""
        tests: dict[str, set[str]] = {}
        for row_id, test in marks:
            tests.setdefault(row_id, set()).add(test)
        return cls(catalogue, {row_id: frozenset(names) for row_id, names in tests.items()})

    @property
    def unknown(self) -> Mapping[str, frozenset[str]]:
        """Marks that name no row."""
        known = {row.id for row in self.catalogue.rows}
        return {row_id: tests for row_id, tests in sorted(self.tests.items()) if row_id not in known}

    @property
    def missing(self) -> list[Row]:
        """Rows that are due and have no test."""
        return [row for row in self.catalogue.rows if row.group in self.catalogue.due and row.id not in self.tests]

    def report(self) -> str:
        """For people: a line per group, then each row with the number of its tests."""
        lines = []
        for group, title in self.catalogue.groups.items():
            rows = [row for row in self.catalogue.rows if row.group == group]
            covered = [row for row in rows if row.id in self.tests]
            due = "  due now" if group in self.catalogue.due else ""
            lines.append(f"{group}  {len(covered):3d} of {len(rows):3d}  {title}{due}")
            lines += [f"     {row.id}: {len(self.tests[row.id])}" for row in covered]
        total = sum(row.id in self.tests for row in self.catalogue.rows)
        return "\n".join([*lines, f"in all {total} of {len(self.catalogue.rows)} rows have a test"])
