"""Prints lists and records for people and for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from kas.clock import system_clock

_WIDE = 10_000  # columns where there is no terminal: nothing is cut for a pipe or a file


def print_json(value: Any) -> None:
    """Indented, with times as ISO 8601 in UTC."""
    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")


def print_table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], nothing: str) -> None:
    """``columns``: key of a row → heading. ``nothing``: the sentence for an empty list."""
    from rich.console import Console
    from rich.table import Table

    if not rows:
        print(nothing)
        return
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 3, 0, 0))
    for heading in columns.values():
        table.add_column(heading.upper(), overflow="fold")
    for row in rows:
        table.add_row(*(shown(row[key]) for key in columns))
    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = _WIDE
    console.print(table)


def print_record(record: Mapping[str, Any], labels: Mapping[str, str]) -> None:
    """One ``label: value`` a line."""
    width = max(len(label) for label in labels.values()) + 2
    for key, label in labels.items():
        print(f"{label + ':':<{width}}{shown(record[key])}")


def shown(value: Any) -> str:
    """A value for people."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


class Ending(Protocol):
    """What expires and may be revoked."""

    @property
    def revoked_at(self) -> int | None:
        """Unix seconds."""

    def is_active(self, now: float) -> bool:
        """Neither has happened yet."""


def status(record: Ending) -> str:
    """Active, revoked or expired."""
    if record.revoked_at is not None:
        return "revoked"
    return "active" if record.is_active(system_clock()) else "expired"


def iso(seconds: int | None) -> str | None:
    """Unix seconds as ISO 8601 in UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
