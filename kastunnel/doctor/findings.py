"""Findings, and the one loop that goes through a table of checks: what lies behind a broken hop is skipped, with the reason."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from enum import StrEnum
from typing import NamedTuple

LIMIT_S = 30.0  # for one check; each hop has shorter limits of its own
WARNINGS = 3
BROKEN = 1


class State(StrEnum):
    """What a check found."""

    OK = "ok"
    WARNING = "warning"
    BROKEN = "broken"
    SKIPPED = "skipped"


class Finding(NamedTuple):
    """``said``: what was found, without secrets. ``remedy``: what to do about it; empty where nothing is to be done."""

    state: State
    said: str
    remedy: str = ""


class Check(NamedTuple):
    """``look`` is called once, unless one of ``after``, the hops that lead here, is broken or was skipped for that."""

    name: str
    look: Callable[[], Awaitable[Finding]]
    after: tuple[str, ...] = ()


def ok(said: str) -> Finding:
    """All is well."""
    return Finding(State.OK, said)


def warning(said: str, remedy: str) -> Finding:
    """It works, but not for long, or not as it should."""
    return Finding(State.WARNING, said, remedy)


def broken(said: str, remedy: str) -> Finding:
    """It does not work."""
    return Finding(State.BROKEN, said, remedy)


def skipped(said: str) -> Finding:
    """There is nothing to look at here; what comes after is looked at all the same."""
    return Finding(State.SKIPPED, said)


async def examine(checks: Sequence[Check]) -> AsyncIterator[tuple[str, Finding]]:
    """Name and finding of each check in the order of the table, as they become known."""
    causes: dict[str, str] = {}  # a check behind which nothing can be seen → the broken one that is to blame
    for check in checks:
        cause = next((causes[name] for name in check.after if name in causes), None)
        if cause is not None:
            causes[check.name] = cause
            yield check.name, skipped(f"not looked at: {cause} is broken")
            continue
        try:
            async with asyncio.timeout(LIMIT_S):
                found = await check.look()
        except TimeoutError:
            found = broken(f"no answer within {LIMIT_S:g} s", "look at what stands between here and there")
        if found.state is State.BROKEN:
            causes[check.name] = check.name
        yield check.name, found


def exit_code(found: Sequence[Finding]) -> int:
    """0 well, 3 warnings, 1 broken."""
    states = {each.state for each in found}
    return BROKEN if State.BROKEN in states else WARNINGS if State.WARNING in states else 0
