"""Runs rows on two sides at once and says where they differ."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from difflib import unified_diff
from typing import NamedTuple

from tests.matrix.rows import Row
from tests.matrix.sides import Seen, Side

# Commands that end differently on purpose; docs/kubectl.md explains them to users.
DOCUMENTED: dict[str, str] = {
    "get --raw /nowhere": "at its root kas serves the API's own paths only, since kubectl up to 1.33 drops the path of the server's URL",
}


TRIES = 3


class Outcome(NamedTuple):
    """Of one row. ``difference`` is empty where both sides did the same, at last in the try of that number."""

    row: str
    difference: str
    tries: int
    direct_s: float
    kas_s: float


def compare(rows: Iterable[Row], direct: Side, kas: Side) -> list[Outcome]:
    """Each row on both sides at the same time.

    Some commands do not do the same twice, whatever is in between: whether `run --rm --stdin` shows what a short command says is a race
    in kubectl. So a difference counts if it comes in each of TRIES tries; the table tells how many were needed.
    """
    return [_compared(row, direct, kas) for row in rows]


def _compared(row: Row, direct: Side, kas: Side) -> Outcome:
    for tries in range(1, TRIES + 1):
        took = [0.0, 0.0]
        sides = (direct, kas)
        threads = [threading.Thread(target=_run, args=(row, side, took, place)) for place, side in enumerate(sides)]
        for side in sides:
            side.seen.clear()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = Outcome(row.name, difference(direct.seen, kas.seen), tries, *took)
        if not found.difference:
            break
    return found


def _run(row: Row, side: Side, took: list[float], place: int) -> None:
    begun = time.monotonic()
    try:
        row.run(side)
    except Exception:
        side.note("broken off", side.plain(traceback.format_exc(limit=-2)))
    took[place] = time.monotonic() - begun


def difference(direct: Sequence[Seen], kas: Sequence[Seen]) -> str:
    """A unified difference of the two records; a row that was broken off is one as well."""
    texts = [_text(seen) for seen in (direct, kas)]
    if texts[0] != texts[1]:
        return "\n".join(unified_diff(*texts, "direct", "kas", lineterm="", n=3))
    broken = [seen for seen in direct if seen.command == "broken off"]
    return "\n".join(f"broken off on both sides: {seen.stdout}" for seen in broken)


def _text(seen: Sequence[Seen]) -> list[str]:
    said = [one for one in seen if one.command not in DOCUMENTED]
    return "\n".join(f"$ {one.command}\n{one.stdout}{one.stderr}[{one.code}]" for one in said).splitlines()


def table(columns: Mapping[str, Sequence[Outcome]]) -> str:
    """Rows by kubectls, in Markdown."""
    rows = list(dict.fromkeys(outcome.row for outcomes in columns.values() for outcome in outcomes))
    found = {(name, outcome.row): outcome for name, outcomes in columns.items() for outcome in outcomes}
    lines = ["| command | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for row in rows:
        cells = [_cell(found.get((name, row))) for name in columns]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(outcome: Outcome | None) -> str:
    if outcome is None:
        return ""
    said = "different" if outcome.difference else "equal"
    return said if outcome.tries == 1 else f"{said} ({outcome.tries} tries)"
