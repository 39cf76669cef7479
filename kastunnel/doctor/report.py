"""Findings as text and as JSON. What other machines said is cut and made printable here, so that no check need think of it."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence

from kastunnel.doctor.findings import Check, Finding, State, examine, exit_code

MAX_CHARACTERS = 600  # of what is said; a certificate may carry a hundred names
WIDTH = 120
_STATE_WIDTH = max(map(len, State))


async def report(checks: Sequence[Check], say: Callable[[str], None]) -> int:
    """Go through the table and say each line as it is known. Returns the exit code."""
    width = max(len(check.name) for check in checks)
    found = []
    async for name, finding in examine(checks):
        found.append(finding)
        for line in lines(name, finding, width):
            say(line)
    say(summary(found))
    return exit_code(found)


async def as_data(checks: Sequence[Check]) -> tuple[list[dict[str, str]], int]:
    """The same for programs: a list of objects, and the exit code."""
    rows, found = [], []
    async for name, finding in examine(checks):
        found.append(finding)
        row = {"check": name, "state": finding.state.value, "said": printable(finding.said)}
        rows.append({**row, "remedy": printable(finding.remedy)} if finding.remedy else row)
    return rows, exit_code(found)


def lines(name: str, finding: Finding, width: int) -> list[str]:
    """``name  state  what was found``, and below it the remedy. ``width``: of the column of names."""
    margin = " " * (width + _STATE_WIDTH + 4)
    first = f"{name:<{width}}  {finding.state:<{_STATE_WIDTH}}  {printable(finding.said)}"
    wrapped = textwrap.wrap(first, WIDTH, subsequent_indent=margin, break_long_words=False, break_on_hyphens=False)
    if finding.remedy:
        remedy = f"{margin}→ {printable(finding.remedy)}"
        wrapped += textwrap.wrap(
            remedy, WIDTH, subsequent_indent=f"{margin}  ", break_long_words=False, break_on_hyphens=False
        )
    return wrapped


def summary(found: Sequence[Finding]) -> str:
    """The last line."""
    counts = {state: sum(each.state is state for each in found) for state in State}
    if counts[State.BROKEN]:
        return f"Broken: {counts[State.BROKEN]}, warnings: {counts[State.WARNING]}."
    return f"Warnings: {counts[State.WARNING]}." if counts[State.WARNING] else "All is well."


def printable(text: str) -> str:
    """One line without control characters, which terminals obey."""
    line = " ".join(text.split())
    cut = line if len(line) <= MAX_CHARACTERS else f"{line[:MAX_CHARACTERS]}…"
    return "".join(character if character.isprintable() else "?" for character in cut)
