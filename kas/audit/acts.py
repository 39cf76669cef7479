"""Administrative acts in the log: those that kas sees happen, and those that were done while it was down.

Which change was recorded last stands in a small file in the state directory, written after the record was left for the writer: after a
crash an act may be there twice (its ``change`` is the same), and only one of the last moment before a power cut can be missing.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol

from kas.audit.record import Value
from kas.store import Change
from kastunnel.toolkit.logs import fields

log = logging.getLogger(__name__)


class _Log(Protocol):
    @property
    def instance(self) -> str: ...

    def event(self, name: str, **values: Value) -> None: ...


class Acts:
    """Tells the log. ``begin`` before the first ``record``."""

    def __init__(self, log: _Log, state_dir: Path) -> None:
        self._log = log
        self._file = state_dir / f"audit-acts-{log.instance}"

    async def begin(self, newest: int, since: Callable[[int], Awaitable[Sequence[Change]]]) -> None:
        """Record what was done since the last time, up to the change ``newest``. Raises OSError and StoreUnavailable.

        ``since``: the changes after a number, oldest first, none where there are no more; old ones may be gone.
        """
        last = self._last()
        if last is not None and last > newest:
            self._tell_undone(newest, last)
        if last is None or last > newest:
            self._keep(newest)
            return
        while found := [change for change in await since(last) if change.seq <= newest]:
            for change in found:
                if change.seq > last + 1:
                    self._log.event("acts_lost", count=change.seq - last - 1)
                self.record(change)
                last = change.seq

    def _tell_undone(self, newest: int, last: int) -> None:
        """The database is an older one, or another: what was revoked or deleted since counts again, and only the log knows of it."""
        log.error(
            "the database is older than the audit log, as after a restore: what was done since is undone, revocations too;"
            " `kas audit query --changes-after %d` lists it: do it again",
            newest,
            extra=fields(change=str(newest), count=last - newest),
        )
        self._log.event("database_went_back", changes_after=newest, count=last - newest)

    def record(self, change: Change) -> None:
        """Of one change. Raises OSError."""
        self._log.event(
            change.kind.value,
            subject=change.subject,
            agent_id=change.agent_id,
            actor=change.actor,
            changed_at=change.at,
            change=change.seq,
        )
        self._keep(change.seq)

    def _last(self) -> int | None:
        try:
            return int(self._file.read_text("ascii"))
        except (FileNotFoundError, ValueError):
            return None

    def _keep(self, seq: int) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(f"{seq}\n", "ascii")
        os.replace(new, self._file)
