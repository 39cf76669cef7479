"""Finds out whether the log is whole and unchanged, and finds records in it. Reads the files; writes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from kas.audit.chain import Head, beginning, follows, is_signed, mac_of
from kas.audit.files import MAX_LINE_BYTES, LogFile, lines, listed


class SignedHead(NamedTuple):
    """A head as it stands in the database."""

    instance: str
    head: Head
    signature: str


class Finding(NamedTuple):
    """What is wrong, and where."""

    place: str  # file:line, or the chain
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


class Verdict(NamedTuple):
    """Of the whole log. ``records`` were read; no finding: all are what kas wrote.

    ``removed``: what is not there any more, as the log itself says: whoever kept copies can compare.
    """

    records: int
    findings: tuple[Finding, ...]
    removed: tuple[str, ...] = ()


def verify(folder: Path, key: bytes, heads: Iterable[SignedHead]) -> Verdict:
    """Look at every chain in the folder and at every chain that the database knows. Raises OSError."""
    known: dict[str, list[SignedHead]] = {}
    for one in heads:
        known.setdefault(one.instance, []).append(one)
    chains: dict[str, list[LogFile]] = {instance: [] for instance in known}
    for file in listed(folder):
        chains.setdefault(file.instance, []).append(file)
    records, findings, removed = 0, [], []
    for instance, files in sorted(chains.items()):
        chain = _ChainCheck(instance, key, known.get(instance, []))
        findings += list(chain.findings(files))[:1]  # behind the first nothing can be said
        records += chain.records
        removed += chain.removed
    return Verdict(records, tuple(findings), tuple(removed))


class _ChainCheck:
    """Walks one chain."""

    def __init__(self, instance: str, key: bytes, heads: list[SignedHead]) -> None:
        self._instance = instance
        self._key = key
        self._heads = heads
        self.records = 0
        self.removed: list[str] = []

    def findings(self, files: list[LogFile]) -> Iterator[Finding]:
        wanted: dict[int, str] = {}
        for one in self._heads:
            if not is_signed(self._key, self._instance, one.head, one.signature):
                yield Finding(
                    f"chain {self._instance}",
                    f"the head of record {one.head.seq} in the database was not made with this key",
                )
            wanted[one.head.seq] = one.head.mac
        head = self._start(files)
        if head is None:
            yield Finding(
                str(files[0].path),
                f"the records before {files[0].first} are missing: nothing in the log says that they were removed",
            )
            return
        first = head.seq
        for file in files:
            for number, line in enumerate(lines(file.path), 1):
                place = f"{file.path}:{number}"
                if file is files[-1] and not line.endswith(b"\n") and len(line) < MAX_LINE_BYTES:
                    break  # it is being written now, or a crash left it; what is behind a signed head is missed below
                if not follows(self._key, head.mac, line):
                    yield Finding(place, self._why(head, line))
                    return
                head = Head(head.seq + 1, mac_of(line) or "")
                if wanted.get(head.seq, head.mac) != head.mac:
                    yield Finding(place, f"record {head.seq} is another one than the head in the database says")
                    return
                self.records += 1
                if b'"event":"audit_removed"' in line:
                    self._note(_read(line))
        newest = max(wanted, default=0)
        if newest > head.seq:
            where = str(files[-1].path) if files else f"chain {self._instance}"
            yield Finding(
                where,
                f"the end is cut off: {newest - max(head.seq, first)} records are missing after record {head.seq}",
            )

    def _start(self, files: list[LogFile]) -> Head | None:
        """What the first record must follow. Where older files were removed, a later record says so and with which mac."""
        if not files or files[0].first == 1:
            return beginning(self._key, self._instance)
        for file in files:
            for line in lines(file.path):
                if b'"event":"audit_removed"' in line and f'"last":{files[0].first - 1},'.encode() in line:
                    return Head(files[0].first - 1, _read(line).get("last_mac", ""))
        return None

    def _note(self, said: dict[str, Any]) -> None:
        self.removed.append(
            f"chain {self._instance}: records {said.get('first')} to {said.get('last')} were removed at {said.get('time')}, "
            "as audit.max_files says"
        )

    def _why(self, head: Head, line: bytes) -> str:
        said = _read(line)
        seq = said.get("seq")
        if not line.endswith(b"\n"):
            return f"record {head.seq + 1} is torn off"
        if mac_of(line) is None or not isinstance(seq, int):
            return f"record {head.seq + 1} was expected: this is no record"
        if seq > head.seq + 1:
            return f"records {head.seq + 1} to {seq - 1} are missing, or in another place"
        if seq < head.seq + 1:
            return f"record {seq} is in the wrong place, or there twice"
        return f"record {seq} was changed, or the key is another one"


def records(folder: Path) -> Iterator[Mapping[str, Any]]:
    """Every record of every chain, in the order of the files; lines that are none are left out. Raises OSError."""
    for file in listed(folder):
        for line in lines(file.path):
            if said := _read(line):
                yield said


def _read(line: bytes) -> dict[str, Any]:
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}
