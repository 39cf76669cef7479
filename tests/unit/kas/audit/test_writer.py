"""The log as it is written: in order, over restarts and full disks, whatever else lies in its folder."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import pytest

from kas.audit.chain import Chain, sign
from kas.audit.files import GrowingFile, listed
from kas.audit.verifying import SignedHead, records, verify
from kas.audit.writer import BATCH, AuditLog, AuditSettings
from kas.metrics import AuditMetrics
from tests.unit.kas.audit.samples import request

KEY = b"k" * 64


class Timers:
    """An event loop's ``call_later``, whose time never comes by itself."""

    def __init__(self) -> None:
        self.set: list[Callable[[], None] | None] = []

    def __call__(self, delay_s: float, call: Callable[[], None]) -> Timer:
        self.set.append(call)
        return Timer(self, len(self.set) - 1)

    def ring(self) -> None:
        """All that were set and not cancelled."""
        for index, call in enumerate(self.set):
            if call is not None:
                self.set[index] = None
                call()


class Timer(NamedTuple):
    of: Timers
    index: int

    def cancel(self) -> None:
        self.of.set[self.index] = None


class Log:
    """An audit log in a folder, restarted at will."""

    def __init__(self, folder: Path, **options) -> None:
        self.folder = folder
        self.options = options
        self.now = 1_800_000_000.0
        self.metrics = AuditMetrics()
        self.log = self.new()

    def new(self) -> AuditLog:
        settings = AuditSettings(self.folder, syncs=False, **self.options)
        return AuditLog(KEY, "0123abcd", settings, self.metrics, lambda: self.now)

    def restart(self) -> None:
        self.log.stop()
        self.log = self.new()
        self.log.start()

    def until(self, predicate: Callable[[], object]) -> None:
        deadline = time.monotonic() + 10
        while not predicate():
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def findings(self) -> list[str]:
        head = self.log.written
        return [
            str(one)
            for one in verify(self.folder, KEY, [SignedHead("0123abcd", head, sign(KEY, "0123abcd", head))]).findings
        ]

    def said(self, name: str) -> list[object]:
        return [record.get(name) for record in records(self.folder)]


@pytest.fixture
def log(tmp_path):
    made = Log(tmp_path / "audit")
    yield made
    made.log.stop()


def test_records_are_written_in_order_and_verify(log):
    log.log.start()
    for number in range(500):
        log.log.add(request(request_id=f"r{number}"))
    log.log.stop()
    assert log.said("request_id") == [f"r{number}" for number in range(500)]
    assert log.said("seq") == list(range(1, 501))
    assert log.findings() == []
    assert log.metrics.written.value == 500
    (file,) = listed(log.folder)
    assert file.path.stat().st_mode & 0o777 == 0o600


def test_the_chain_goes_on_after_a_restart(log):
    log.log.start()
    log.log.event("one")
    log.restart()
    log.log.event("two")
    log.log.stop()
    assert log.said("event") == ["one", "two"]
    assert log.findings() == []


def test_a_record_that_was_torn_by_a_crash_is_cut_off_and_told(log):
    log.log.start()
    log.log.event("one")
    log.log.stop()
    (file,) = listed(log.folder)
    with file.path.open("ab") as torn:
        torn.write(b'{"seq":2,"time":"2027')
    log.log = log.new()
    log.log.start()
    log.log.event("two")
    log.log.stop()
    assert log.said("event") == ["one", "audit_repaired", "two"]
    assert log.said("lost_bytes")[1] == 21
    assert log.findings() == []


def test_a_full_file_is_followed_by_another_and_old_ones_go_with_a_word(tmp_path):
    log = Log(tmp_path / "audit", max_file_bytes=2000, max_files=3)
    log.log.start()
    for number in range(100):
        log.log.event("e", n=number)
        log.until(lambda: not log.log.waiting)
    log.log.stop()
    files = listed(log.folder)
    assert len(files) == 3
    assert files[0].first > 1
    assert "audit_removed" in log.said("event")
    assert log.findings() == []


def test_a_limit_below_the_size_of_a_record_is_no_trap(tmp_path):
    log = Log(tmp_path / "audit", max_file_bytes=1, max_files=1)
    log.log.start()
    for number in range(10):
        log.log.event("e", n=number)
        log.until(lambda: not log.log.waiting)
    log.log.stop()
    assert len(listed(log.folder)) == 1
    assert log.findings() == []


def test_a_file_that_is_old_is_followed_by_another(log):
    log.log.start()
    log.log.event("one")
    log.until(lambda: not log.log.waiting)
    log.now += 24 * 3600
    log.log.event("two")
    log.log.stop()
    assert [file.first for file in listed(log.folder)] == [1, 2]
    assert log.findings() == []


def test_more_than_can_wait_is_counted_and_told(tmp_path):
    log = Log(tmp_path / "audit", max_waiting=10)
    for number in range(25):
        log.log.event("e", n=number)
    log.log.start()
    log.log.stop()
    assert log.said("event") == ["e"] * 10 + ["records_lost"]
    assert log.said("count")[-1] == 15
    assert log.metrics.lost.value == 15
    assert log.findings() == []


class FullDisk:
    """A switch for the writes of every file."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_full = False
        write = GrowingFile.write

        def fail_or_write(file: GrowingFile, data: bytes) -> None:
            if self.is_full:
                raise OSError(errno.ENOSPC, "No space left on device")
            write(file, data)

        monkeypatch.setattr(GrowingFile, "write", fail_or_write)


@pytest.mark.covers("D-01")
@pytest.mark.parametrize("refuses", [False, True])
def test_a_full_disk_holds_records_until_there_is_space_and_refuses_where_that_was_chosen(
    tmp_path, monkeypatch, refuses
):
    monkeypatch.setattr("kas.audit.writer.RETRY_S", 0.01)
    disk = FullDisk(monkeypatch)
    log = Log(tmp_path / "audit", refuses=refuses)
    log.log.start()
    log.log.event("before")
    log.until(lambda: not log.log.waiting)
    disk.is_full = True
    log.log.event("during")
    log.until(lambda: log.log.is_failing)
    assert log.log.refuses is refuses

    disk.is_full = False
    log.until(lambda: not log.log.is_failing)
    assert not log.log.refuses
    log.log.stop()
    assert log.said("event") == ["before", "during"]
    assert log.findings() == []


def test_a_part_that_was_written_before_the_disk_was_full_is_cut_off(tmp_path, monkeypatch):
    import os

    file = GrowingFile(tmp_path, "0123abcd", 1)
    file.write(b"one\n")
    real = os.write
    answers = iter([lambda fd, data: real(fd, data[:2])])

    def write(descriptor: int, data: bytes) -> int:
        try:
            return next(answers)(descriptor, data)
        except StopIteration:
            raise OSError(errno.ENOSPC, "No space left on device") from None

    monkeypatch.setattr("kas.audit.files.os.write", write)
    with pytest.raises(OSError, match="No space"):
        file.write(b"two\n")
    assert file.path.read_bytes() == b"one\n"
    file.close()


def test_a_failing_copy_to_standard_output_stops_nothing(tmp_path, monkeypatch):
    class Closed:
        def write(self, data: bytes) -> None:
            raise BrokenPipeError

    monkeypatch.setattr("kas.audit.writer.sys.stdout", type("Out", (), {"buffer": Closed()}))
    log = Log(tmp_path / "audit", to_stdout=True)
    log.log.start()
    log.log.event("one")
    log.log.event("two")
    log.log.stop()
    assert log.said("event") == ["one", "two"]
    assert log.findings() == []


def test_a_file_that_was_opened_and_never_written_to_goes_on_where_the_one_before_stopped(tmp_path):
    log = Log(tmp_path)
    log.log.start()
    for number in range(5):
        log.log.event(f"e{number}")
    log.log.stop()
    (only,) = listed(tmp_path, "0123abcd")
    GrowingFile(tmp_path, "0123abcd", 6).close()
    assert len(listed(tmp_path, "0123abcd")) == 2, only
    log.log = log.new()
    log.log.start()
    log.log.event("after")
    log.log.stop()
    assert log.findings() == []


def spoiled(file: Path, line: int, text: bytes) -> None:
    found = file.read_bytes().splitlines(keepends=True)
    found[line] = text
    file.write_bytes(b"".join(found))


def test_a_damaged_line_in_the_middle_costs_nothing_behind_it(log):
    log.log.start()
    for number in range(5):
        log.log.event(f"e{number}")
    log.log.stop()
    (file,) = listed(log.folder)
    spoiled(file.path, 2, b"rubbish\n")
    log.log = log.new()
    log.log.start()
    log.log.event("after")
    log.log.stop()
    assert log.said("event") == ["e0", "e1", "e3", "e4", "audit_damaged", "after"]
    assert log.findings() == [f"{file.path}:3: record 3 was expected: this is no record"]


def test_files_that_kas_did_not_write_cost_none_of_its_own(tmp_path):
    """Whoever may write to the folder must not make kas remove its own files, with a signed word that it was right."""
    log = Log(tmp_path / "audit", max_file_bytes=400, max_files=30)
    log.log.start()
    for number in range(16):
        log.log.event("e", n=number)
        log.until(lambda: not log.log.waiting)
    log.log.stop()
    own = listed(log.folder)
    content = own[0].path.read_bytes()
    for number in (*range(900, 950), 999_999_999_999):
        (log.folder / f"0123abcd-{number:012d}.jsonl").write_bytes(content if number % 2 else b"")
    (log.folder / "0123abcd-000000000950.jsonl").symlink_to(own[0].path)
    log.log = log.new()
    log.log.start()
    log.log.event("after")
    log.log.stop()
    assert {file.path for file in own} <= {file.path for file in listed(log.folder)}
    events = [said for said in log.said("event") if said != "e"]
    assert events.count("audit_strange_file") == 51
    assert "after" in events
    assert "audit_removed" not in events
    assert log.log.written.seq == 16 + 51 + 1


def test_a_file_that_stands_in_the_way_is_never_written_to(log, tmp_path):
    other = tmp_path / "other"
    other.write_text("precious")
    log.folder.mkdir()
    (log.folder / "0123abcd-000000000001.jsonl").symlink_to(other)
    with pytest.raises(FileExistsError):
        log.log.start()
    assert other.read_text() == "precious"


def test_what_cannot_be_written_at_the_end_is_counted(tmp_path, monkeypatch):
    monkeypatch.setattr("kas.audit.writer.RETRY_S", 0.01)
    disk = FullDisk(monkeypatch)
    log = Log(tmp_path / "audit")
    log.log.start()
    disk.is_full = True
    for number in range(3):
        log.log.event("e", n=number)
    log.log.stop()
    assert log.metrics.lost.value == 3


def test_without_a_standard_output_records_are_still_written(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdout", None)
    log = Log(tmp_path / "audit", to_stdout=True)
    log.log.start()
    log.log.event("one")
    log.until(lambda: not log.log.waiting)
    log.log.event("two")
    log.log.stop()
    assert log.said("event") == ["one", "two"]


def test_an_error_of_our_own_is_a_failure_that_is_told_and_passes(tmp_path, monkeypatch):
    monkeypatch.setattr("kas.audit.writer.RETRY_S", 0.01)
    log = Log(tmp_path / "audit", refuses=True)
    lines = Chain.lines

    attempts: list[Iterable[str]] = []

    def broken(chain: Chain, said: Iterable[str]) -> bytes:
        attempts.append(said)
        raise RuntimeError("a bug")

    monkeypatch.setattr(Chain, "lines", broken)
    log.log.start()
    log.log.event("one")
    assert log.log.refuses
    assert log.metrics.lost.value == 1
    log.until(lambda: len(attempts) > 1)  # the thread cannot say that one is lost, either
    assert log.log.refuses
    monkeypatch.setattr(Chain, "lines", lines)
    log.until(lambda: not log.log.refuses)
    log.log.event("two")
    log.log.stop()
    assert log.said("event") == ["records_lost", "two"]
    assert log.findings() == []


def test_a_record_that_cannot_be_made_is_lost_alone(log):
    log.log.start(Timers())
    log.log.add(request(request_id="one"))
    log.log.add(request(request_id="two")._replace(duration_s="no number"))
    log.log.add(request(request_id="three"))
    log.log.render()
    assert log.log.is_failing
    log.until(lambda: not log.log.is_failing)
    log.log.stop()
    assert log.said("request_id") == ["one", "three", None]
    assert log.said("count") == [None, None, 1]
    assert log.metrics.lost.value == 1
    assert log.findings() == []


def test_an_old_file_goes_only_when_it_is_written_that_it_goes(tmp_path, monkeypatch):
    monkeypatch.setattr("kas.audit.writer.RETRY_S", 0.01)
    disk = FullDisk(monkeypatch)
    log = Log(tmp_path / "audit", max_file_bytes=400, max_files=1)
    log.log.start()
    log.log.event("one", text="x" * 400)
    log.until(lambda: not log.log.waiting)
    (old,) = listed(log.folder)
    disk.is_full = True
    log.log.event("two")
    log.until(lambda: log.log.is_failing)
    assert old.path.exists()
    disk.is_full = False
    log.until(lambda: not old.path.exists())
    log.log.stop()
    assert log.said("event") == ["two", "audit_removed"]
    assert log.findings() == []


def test_refusing_begins_where_half_of_what_may_wait_does(tmp_path):
    log = Log(tmp_path / "audit", refuses=True, max_waiting=10)
    for number in range(5):
        assert not log.log.refuses
        log.log.event("e", n=number)
    assert log.log.refuses


def test_the_chain_goes_on_where_only_a_file_of_one_record_is_left(log):
    log.log.start()
    log.log.event("one")
    log.until(lambda: not log.log.waiting)
    log.now += 24 * 3600
    log.log.event("two")
    log.log.stop()
    first, second = listed(log.folder)
    first.path.unlink()
    log.log = log.new()
    log.log.start()
    log.log.event("three")
    log.log.stop()
    assert [file.first for file in listed(log.folder)] == [second.first]
    assert log.said("seq") == [2, 3]


def test_records_of_requests_are_rendered_together_and_all_keep_their_order(log):
    timers = Timers()
    log.log.start(timers)
    names = [f"r{number}" for number in range(3 * BATCH + 5)]
    for name in names:
        log.log.add(request(request_id=name))
    assert len(timers.set) == 4  # one for each batch, not one for each record
    assert timers.set[:3] == [None, None, None]  # those of full batches: the next one is not theirs
    timers.ring()
    log.until(lambda: not log.log.waiting)
    log.log.add(request(request_id="before"))
    assert log.log.waiting == 1
    log.log.event("act", request_id="between")
    log.log.add(request(request_id="after"))
    log.log.add(request(request_id="last"))
    log.log.render()
    log.log.stop()
    assert log.said("request_id") == [*names, "before", "between", "after", "last"]
    assert log.findings() == []


def test_what_is_not_rendered_yet_counts_as_waiting(log):
    log.log = AuditLog(
        KEY, "0123abcd", AuditSettings(log.folder, syncs=False, refuses=True, max_waiting=4), log.metrics, lambda: 0.0
    )
    log.log.start(Timers())
    log.log.add(request())
    assert not log.log.refuses
    log.log.add(request())
    assert log.log.refuses
    for _ in range(3):
        log.log.add(request())
    assert log.metrics.lost.value == 1
