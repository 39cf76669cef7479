"""Writes the log from a thread of its own. The event loop appends to a queue and never waits."""

from __future__ import annotations

import logging
import sys
import threading
from collections import deque
from pathlib import Path
from typing import NamedTuple

from kas.audit.chain import Chain, Head
from kas.audit.files import GrowingFile, last_head, listed
from kas.audit.record import EventRecord, Renderer, RequestRecord, Value
from kas.clock import Clock
from kas.metrics import AuditMetrics
from kastunnel.toolkit.logs import fields

log = logging.getLogger(__name__)

PAUSE_S = 0.02
BATCH = 64  # records between two writes; a write lets the event loop have the interpreter
SYNC_S = 1.0
RETRY_S = 1.0


class AuditSettings(NamedTuple):
    """What the operator may choose. Reasons are in kas/config/audit.py."""

    folder: Path
    to_stdout: bool = False
    max_file_bytes: int = 64 * 1024 * 1024
    max_file_age_s: float = 24 * 3600
    max_files: int = 90
    syncs: bool = True
    refuses: bool = False
    max_waiting: int = 20_000


class AuditLog:
    """One chain. ``start`` it; ``stop`` writes what waits. ``add`` from the event loop only."""

    def __init__(self, key: bytes, instance: str, settings: AuditSettings, metrics: AuditMetrics, clock: Clock) -> None:
        self.instance = instance
        self.key = key
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._waiting: deque[RequestRecord | EventRecord] = deque()
        self._lost = 0  # ever; counted on the event loop's thread
        self._lost_told = 0  # of these, how many the log says; in the thread
        self._renderer = Renderer()
        self._chain = Chain(key, instance)
        self._file: GrowingFile | None = None
        self._opened_at = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._stdout_works = True
        self.is_failing = False
        self.written = self._chain.head  # of what is in the file; replaced, never changed, by the thread

    def add(self, record: RequestRecord | EventRecord) -> None:
        """Leave a record for the thread; counted as lost where too many wait."""
        if len(self._waiting) >= self._settings.max_waiting:
            self._lost += 1
            self._metrics.lost.value += 1
            return
        self._waiting.append(record)

    def event(self, name: str, **values: str | float | bool | None) -> None:
        """A record of something that is not a request."""
        self.add(EventRecord(name, self._clock(), values))

    @property
    def refuses(self) -> bool:
        """Whether requests must be refused: the operator wants no request without a record, and one could not be written."""
        return self._settings.refuses and (self.is_failing or len(self._waiting) >= self._settings.max_waiting)

    @property
    def waiting(self) -> int:
        """Records that are not written yet."""
        return len(self._waiting)

    def start(self) -> None:
        """Go on where the chain stopped. Raises OSError for a folder that cannot be used."""
        self._settings.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        files = listed(self._settings.folder, self.instance)
        if files:
            self._continue(files[-1].first, files[-1].path)
        else:
            self._open_next()
        self._thread.start()

    def stop(self) -> None:
        """Write what waits; blocks for a moment. Idempotent."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def _continue(self, first: int, path: Path) -> None:
        head, torn = last_head(path)
        self._file = GrowingFile(self._settings.folder, self.instance, first)
        self._opened_at = self._clock()
        if torn:
            self._file.cut(torn)
            self.event("audit_repaired", lost_bytes=torn)
        if head is None and first > 1:
            log.error("audit log begins in the middle", extra=fields(file=str(path)))
        self._chain = Chain(
            self.key, self.instance, head or (Head(first - 1, self._chain.head.mac) if first > 1 else None)
        )
        self.written = self._chain.head

    def _open_next(self) -> None:
        before, self._file = self._file, None
        if before is not None:
            before.close()
        self._file = GrowingFile(self._settings.folder, self.instance, self._chain.head.seq + 1)
        self._opened_at = self._clock()

    # In the thread

    def _run(self) -> None:
        unsynced = 0.0
        while True:
            is_last = self._stopping.is_set()
            try:
                while self._waiting or self._lost > self._lost_told:
                    self._write_batch()
                if (
                    self._settings.syncs
                    and self._file is not None
                    and (is_last or (unsynced := unsynced + PAUSE_S) >= SYNC_S)
                ):
                    unsynced = 0.0
                    self._file.sync()
                self._recovered()
            except OSError as error:
                self._failed(error)
                if is_last:
                    return
                self._stopping.wait(RETRY_S)
                continue
            if is_last:
                return
            self._stopping.wait(PAUSE_S)

    def _write_batch(self) -> None:
        """Up to BATCH records; on OSError they wait on, and the chain stands where it stood."""
        if self._file is None or self._is_full():
            self._rotate()
        file, chain = self._file, Chain(self.key, self.instance, self._chain.head)
        if file is None:
            return
        lost = self._lost - self._lost_told
        records: list[RequestRecord | EventRecord] = [
            self._waiting[index] for index in range(min(BATCH, len(self._waiting)))
        ]
        if lost:
            records.append(EventRecord("records_lost", self._clock(), {"count": lost}))
        data = b"".join(chain.line(self._renderer.fields(record)) for record in records)
        file.write(data)
        self._chain = chain
        self.written = chain.head
        self._lost_told += lost
        for _ in range(len(records) - bool(lost)):
            self._waiting.popleft()
        self._metrics.written.value += len(records)
        if self._settings.to_stdout:
            self._copy(data)

    def _is_full(self) -> bool:
        file, settings = self._file, self._settings
        if file is None or file.size == 0:
            return False
        return file.size >= settings.max_file_bytes or self._clock() - self._opened_at >= settings.max_file_age_s

    def _rotate(self) -> None:
        """Begin a new file, and say of each old one beyond the limit that it goes before it goes."""
        self._open_next()
        files = listed(self._settings.folder, self.instance)
        for index in range(len(files) - self._settings.max_files):
            old = files[index]
            head, _ = last_head(old.path)
            values: dict[str, Value] = {
                "first": old.first,
                "last": files[index + 1].first - 1,
                "last_mac": "" if head is None else head.mac,
            }
            if self._file is not None:
                self._file.write(
                    self._chain.line(self._renderer.fields(EventRecord("audit_removed", self._clock(), values)))
                )
            self.written = self._chain.head
            old.path.unlink()

    def _copy(self, data: bytes) -> None:
        try:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        except (OSError, ValueError) as error:
            if self._stdout_works:
                log.error("audit records cannot be copied to standard output", extra=fields(error=str(error)))
            self._stdout_works = False

    def _failed(self, error: OSError) -> None:
        if not self.is_failing:
            log.error("audit log cannot be written", extra=fields(error=str(error), file=str(self._settings.folder)))
        self.is_failing = True

    def _recovered(self) -> None:
        if self.is_failing:
            log.warning("audit log can be written again")
        self.is_failing = False
