"""Writes the log from a thread of its own. The event loop appends to a queue and never waits.

Records of requests are rendered on the event loop, some at a time: the renderer's own code is then in the processor's caches, and what they
are made of is not far. One by one, between all else that a request needs, that cost four times as much, and in the thread twice
(docs/performance.md). Chaining, writing and waiting for the disk are the thread's.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from kas.audit.chain import Chain
from kas.audit.files import GrowingFile, LogFile, listed, own, tail
from kas.audit.record import EventRecord, Renderer, RequestRecord, Value
from kas.clock import Clock
from kas.metrics import AuditMetrics
from kastunnel.toolkit.logs import fields

log = logging.getLogger(__name__)

Later = Callable[[float, Callable[[], None]], object]

PAUSE_S = 0.02
BATCH = 64  # records that are rendered, or written, at once: a third of a millisecond; then others have the interpreter
SYNC_S = 1.0
RETRY_S = 1.0
STOP_S = 10.0


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
        self._later: Later | None = None
        self._fresh: list[RequestRecord] = []  # to be rendered
        self._waiting: deque[str] = deque()  # rendered records
        self._lost = 0  # ever; counted on the event loop's thread
        self._lost_told = 0  # of these, how many the log says; in the thread
        self._renderer = Renderer()  # of who adds
        self._own_renderer = Renderer()  # of the thread
        self._chain = Chain(key, instance)
        self._file: GrowingFile | None = None
        self._files: list[LogFile] = []  # of this chain, the open one last
        self._opened_at = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._stdout_works = True
        self.is_failing = False
        self.written = self._chain.head  # of what is in the file; replaced, never changed, by the thread

    def add(self, record: RequestRecord | EventRecord) -> None:
        """Leave a record for the thread; counted as lost where too many wait."""
        if self.waiting >= self._settings.max_waiting:
            self._lost += 1
            self._metrics.lost.value += 1
            return
        if isinstance(record, EventRecord):
            self.render()
            self._waiting.append(self._renderer.fields(record))
            return
        fresh = self._fresh
        fresh.append(record)
        if len(fresh) >= BATCH or self._later is None:
            self.render()
        elif len(fresh) == 1:
            self._later(PAUSE_S, self.render)

    def render(self) -> None:
        """Give the thread what was added."""
        fresh, self._fresh = self._fresh, []
        self._waiting.extend(map(self._renderer.fields, fresh))

    def event(self, name: str, **values: str | float | bool | None) -> None:
        """A record of something that is not a request."""
        self.add(EventRecord(name, self._clock(), values))

    @property
    def refuses(self) -> bool:
        """Whether requests must be refused: the operator wants no request without a record, and one could not be written."""
        # From half of what may wait: the requests that are open have records to come.
        return self._settings.refuses and (self.is_failing or self.waiting >= self._settings.max_waiting // 2)

    @property
    def waiting(self) -> int:
        """Records that are not written yet."""
        return len(self._waiting) + len(self._fresh)

    def start(self, later: Later | None = None) -> None:
        """Go on where the chain stopped. Raises OSError for a folder that cannot be used.

        ``later``: the event loop's ``call_later``; without it each record is rendered at once.
        """
        self._later = later
        self._settings.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        files = listed(self._settings.folder, self.instance)
        self._files = own(files, self.key)
        if self._files:
            self._continue(self._files[-1])
        else:
            self._open_next()
        for file in files:
            if file not in self._files:
                log.error("audit log has a file that kas did not write", extra=fields(file=str(file.path)))
                self.event("audit_strange_file", file=file.path.name)
        self._thread.start()

    def stop(self) -> None:
        """Write what was rendered (an event renders all before it); blocks for a moment, and says how much was lost. Idempotent."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=STOP_S)
        if self._waiting:
            log.error("audit records are lost: they could not be written", extra=fields(count=len(self._waiting)))
            self._metrics.lost.value += len(self._waiting)
            if not self._thread.is_alive():
                self._waiting.clear()

    def _continue(self, file: LogFile) -> None:
        found = tail(file.path)
        self._file = GrowingFile(self._settings.folder, self.instance, file.first, is_new=False)
        self._opened_at = self._clock()
        if found.torn:
            self._file.cut(found.torn)
            self.event("audit_repaired", lost_bytes=found.torn)
        if found.damaged:
            log.error("audit log is damaged", extra=fields(file=str(file.path), line=found.damaged))
            self.event("audit_damaged", file=file.path.name, line=found.damaged)
        head = found.head
        if head is None and len(self._files) > 1:  # it was opened and never written to
            head = tail(self._files[-2].path).head
        self._chain = Chain(self.key, self.instance, head)
        self.written = self._chain.head

    def _open_next(self) -> None:
        before, self._file = self._file, None
        if before is not None:
            if self._settings.syncs:
                before.sync()
            before.close()
        first = self._chain.head.seq + 1
        self._file = GrowingFile(self._settings.folder, self.instance, first)
        self._files.append(LogFile(self.instance, first, self._file.path))
        if self._settings.syncs:
            self._file.sync_name()
        self._opened_at = self._clock()

    # In the thread

    def _run(self) -> None:
        synced_at = time.monotonic()
        while True:
            is_last = self._stopping.is_set()
            try:
                while self._waiting or self._lost > self._lost_told:
                    self._write_batch()
                now = time.monotonic()
                if self._settings.syncs and self._file is not None and (is_last or now - synced_at >= SYNC_S):
                    synced_at = now
                    self._file.sync()
                self._recovered()
                pause = PAUSE_S
            except OSError as error:
                self._failed(str(error))
                pause = RETRY_S
            except Exception:  # an error of ours must be as loud as a full disk, and stop as little
                if not self.is_failing:
                    log.exception("audit records cannot be made")
                self._failed("see above")
                pause = RETRY_S
            if is_last:
                return
            self._stopping.wait(pause)

    def _write_batch(self) -> None:
        """Up to BATCH records; on OSError they wait on, and the chain stands where it stood."""
        if self._file is None or self._is_full():
            self._rotate()
        file, chain = self._file, Chain(self.key, self.instance, self._chain.head)
        if file is None:
            return
        lost = self._lost - self._lost_told
        records = [self._waiting[index] for index in range(min(BATCH, len(self._waiting)))]
        if lost:
            records.append(self._own("records_lost", {"count": lost}))
        data = b"".join(map(chain.line, records))
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
        while len(self._files) > max(1, self._settings.max_files) and self._file is not None:
            old, following = self._files[:2]
            head = tail(old.path).head if old.path.is_file() else None
            values: dict[str, Value] = {
                "first": old.first,
                "last": following.first - 1,
                "last_mac": "" if head is None else head.mac,
            }
            chain = Chain(self.key, self.instance, self._chain.head)  # on OSError the chain stands where it stood
            self._file.write(chain.line(self._own("audit_removed", values)))
            self._chain = chain
            self.written = self._chain.head
            old.path.unlink(missing_ok=True)
            del self._files[0]

    def _own(self, name: str, values: dict[str, Value]) -> str:
        """A record of the log about itself."""
        return self._own_renderer.fields(EventRecord(name, self._clock(), values))

    def _copy(self, data: bytes) -> None:
        try:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        except (OSError, ValueError, AttributeError) as error:  # no attribute: it was closed before we began
            if self._stdout_works:
                log.error("audit records cannot be copied to standard output", extra=fields(error=str(error)))
            self._stdout_works = False

    def _failed(self, reason: str) -> None:
        if not self.is_failing:
            log.error("audit log cannot be written", extra=fields(error=reason, file=str(self._settings.folder)))
        self.is_failing = True

    def _recovered(self) -> None:
        if self.is_failing:
            log.warning("audit log can be written again")
        self.is_failing = False
