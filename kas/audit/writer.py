"""Writes the log from a thread of its own. The event loop makes the lines and never waits.

Records of requests become lines on the event loop, some at a time: the code for it is then in the processor's caches, and what they are
made of is not far. One by one, between all else that a request needs, that cost four times as much; in the thread it cost twice, and the
event loop had to wait for the interpreter (docs/performance.md). Writing and waiting for the disk are the thread's.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from kas.audit.chain import Chain, Head
from kas.audit.files import GrowingFile, LogFile, listed, own, tail
from kas.audit.record import EventRecord, Renderer, RequestRecord, Value
from kas.clock import Clock
from kas.metrics import AuditMetrics
from kastunnel.toolkit.logs import fields

log = logging.getLogger(__name__)

Later = Callable[[float, Callable[[], None]], asyncio.TimerHandle]

BATCH = 128  # records that become lines at once: half a millisecond
PAUSE_S = 0.02  # the longest that a record waits for others to become a line
WRITE_S = 0.05  # the longest that a line waits to be written: what a crash of kas may cost. Each time the thread takes the interpreter
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


class Batch(NamedTuple):
    """Lines that are written at once."""

    data: bytes
    size: int  # lines
    head: Head  # of the last


class AuditLog:
    """One chain. ``start`` it; ``stop`` writes what waits. ``add`` from the event loop only."""

    def __init__(self, key: bytes, instance: str, settings: AuditSettings, metrics: AuditMetrics, clock: Clock) -> None:
        self.instance = instance
        self.key = key
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._later: Later | None = None
        self._timer: asyncio.TimerHandle | None = None  # of the records that are to become lines
        self._fresh: list[RequestRecord | EventRecord] = []  # to become lines
        self._waiting: deque[Batch] = deque()  # to be written
        self._made = 0  # lines, ever
        self._done = 0  # of these, written; counted in the thread
        self._lost = 0  # ever; counted on the event loop's thread
        self._lost_told = 0  # of these, how many the log says; in the thread
        self._renderer = Renderer()
        self._chain = Chain(key, instance)
        self._making = threading.Lock()  # renderer and chain: the thread speaks of the log itself, now and then
        self._file: GrowingFile | None = None
        self._files: list[LogFile] = []  # of this chain, the open one last
        self._leaving: deque[tuple[int, Path]] = deque()  # old files; each goes when that record is written
        self._opened_at = 0.0
        self._is_started = False
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
        fresh = self._fresh
        fresh.append(record)
        if len(fresh) >= BATCH or self._later is None or isinstance(record, EventRecord):
            self.render()
        elif len(fresh) == 1:
            self._timer = self._later(PAUSE_S, self.render)

    def render(self) -> None:
        """Make lines of what was added."""
        if not self._is_started:
            return
        if self._timer is not None:  # or it would have the next batch made before its time
            self._timer.cancel()
            self._timer = None
        fresh, self._fresh = self._fresh, []
        if not fresh:
            return
        self._make_or_lose(fresh)

    def _make_or_lose(self, records: Sequence[RequestRecord | EventRecord]) -> None:
        try:
            self._make(records)
        except Exception:  # an error of ours must be as loud as a full disk, and stop as little
            if len(records) > 1:  # one of them: the others must not be lost with it
                for record in records:
                    self._make_or_lose([record])
                return
            if not self.is_failing:
                log.exception("an audit record cannot be made")
            self.is_failing = True  # until the thread has written that it is lost
            self._lost += 1
            self._metrics.lost.value += 1

    def _make(self, records: Sequence[RequestRecord | EventRecord]) -> int:
        """Lines that wait to be written; the number of the last. From either thread."""
        with self._making:
            data = self._chain.lines(map(self._renderer.fields, records))
            self._made += len(records)
            self._waiting.append(Batch(data, len(records), self._chain.head))
            return self._chain.head.seq

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
        return self._made - self._done + len(self._fresh)

    def start(self, later: Later | None = None) -> None:
        """Go on where the chain stopped. Raises OSError for a folder that cannot be used.

        ``later``: the event loop's ``call_later``; without it each record becomes a line at once.
        """
        self._later = later
        self._settings.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        files = listed(self._settings.folder, self.instance)
        self._files = own(files, self.key)
        if self._files:
            self._continue(self._files[-1])
        else:
            self._open_next()
        self._is_started = True
        self.render()
        for file in files:
            if file not in self._files:
                log.error("audit log has a file that kas did not write", extra=fields(file=str(file.path)))
                self.event("audit_strange_file", file=file.path.name)
        self._thread.start()

    def stop(self) -> None:
        """Write what waits (an event makes lines of all before it); blocks for a moment, and says how much was lost. Idempotent."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=STOP_S)
        if count := self._made - self._done:
            log.error("audit records are lost: they could not be written", extra=fields(count=count))
            self._metrics.lost.value += count
            if not self._thread.is_alive():
                self._waiting.clear()
                self._done = self._made

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
        first = self.written.seq + 1
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
            pause = WRITE_S
            try:
                self._write_waiting()
                now = time.monotonic()
                if self._settings.syncs and self._file is not None and (is_last or now - synced_at >= SYNC_S):
                    synced_at = now
                    self._file.sync()
                self._recovered()
            except OSError as error:
                self._failed(str(error))
                pause = RETRY_S
            except Exception:  # an error of ours must be as loud as a full disk, and stop as little
                if not self.is_failing:
                    log.exception("audit records cannot be written")
                self._failed("see above")
                pause = RETRY_S
            if is_last:
                return
            self._stopping.wait(pause)

    def _write_waiting(self) -> None:
        """All that waits; on OSError the rest waits on."""
        while True:
            while self._waiting:
                self._write(self._waiting[0])
                self._waiting.popleft()
            lost = self._lost - self._lost_told
            if not lost:
                return
            self._say("records_lost", {"count": lost})
            self._lost_told += lost

    def _write(self, batch: Batch) -> None:
        if self._file is None or (self._is_full() and not self._leaving):  # one after the other
            self._rotate()
        if self._file is None:
            return
        self._file.write(batch.data)
        self._done += batch.size
        self.written = batch.head
        self._metrics.written.value += batch.size
        while self._leaving and self._leaving[0][0] <= batch.head.seq:
            self._leaving.popleft()[1].unlink(missing_ok=True)
        if self._settings.to_stdout:
            self._copy(batch.data)

    def _is_full(self) -> bool:
        file, settings = self._file, self._settings
        if file is None or file.size == 0:
            return False
        return file.size >= settings.max_file_bytes or self._clock() - self._opened_at >= settings.max_file_age_s

    def _rotate(self) -> None:
        """Begin a new file, and say of each old one beyond the limit that it goes before it goes."""
        self._open_next()
        while len(self._files) > max(1, self._settings.max_files):
            old, following = self._files[:2]
            head = tail(old.path).head if old.path.is_file() else None
            last_mac = "" if head is None else head.mac
            seq = self._say("audit_removed", {"first": old.first, "last": following.first - 1, "last_mac": last_mac})
            self._leaving.append((seq, old.path))
            del self._files[0]

    def _say(self, name: str, values: dict[str, Value]) -> int:
        """Something of the log itself, behind all that waits; its number."""
        return self._make([EventRecord(name, self._clock(), values)])

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
