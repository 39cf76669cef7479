"""The files of the log: ``<instance>-<number of the first record>.jsonl``, the newest growing, old ones removed beyond a limit.

A file is never renamed. What is removed is said in the log itself, with the mac to go on from, so that the chain can still be verified.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from kas.audit.chain import Head, beginning, follows, mac_of

_SEQ = re.compile(rb'\{"seq":([0-9]{1,12}),')
_NAME = re.compile(r"([0-9a-f]{8})-([0-9]{12})\.jsonl")
MAX_LINE_BYTES = 64 * 1024


class LogFile(NamedTuple):
    """One file of a chain."""

    instance: str
    first: int
    path: Path


class Tail(NamedTuple):
    """How a file ends."""

    head: Head | None  # of the last whole record
    torn: int  # bytes after the last end of a line: a write that did not come to its end
    damaged: int  # the first line that is no record; 0: none


def listed(folder: Path, instance: str | None = None) -> list[LogFile]:
    """Files of the log, in order; of one chain, or of all. Links are not files of the log. Raises OSError."""
    found = [(match, path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]
    files = [LogFile(match[1], int(match[2]), path) for match, path in found if stat.S_ISREG(path.lstat().st_mode)]
    return sorted(one for one in files if instance in (None, one.instance))


def lines(path: Path) -> Iterator[bytes]:
    """With their ends; the last may have none. Raises OSError."""
    with path.open("rb") as file:
        while line := file.readline(MAX_LINE_BYTES):
            yield line


def tail(path: Path) -> Tail:
    """How the file ends. Reads all of it. Raises OSError."""
    head, whole, at, damaged = None, 0, 0, 0
    for number, line in enumerate(lines(path), 1):
        at += len(line)
        if not line.endswith(b"\n"):
            continue
        whole = at
        mac, seq = mac_of(line), seq_of(line)
        if mac is None or seq is None:
            damaged = damaged or number
        else:
            head = Head(seq, mac)
    return Tail(head, at - whole, damaged)


def seq_of(line: bytes) -> int | None:
    """The number that the line says; None: it is no record."""
    found = _SEQ.match(line)
    return int(found[1]) if found else None


def own(files: list[LogFile], key: bytes) -> list[LogFile]:
    """Those of one chain that were written by who has the key, as far as their first two lines show. Raises OSError.

    Others were put there or changed: they must not be gone on from, nor count for how many are kept, nor be vouched for.
    """
    found: list[LogFile] = []
    for file in files:
        first, second = [*(line for line in islice(lines(file.path), 2) if line.endswith(b"\n")), b"", b""][:2]
        if second:
            is_own = seq_of(first) == file.first and follows(key, mac_of(first) or "", second)
        else:
            before = _head_before(file, found, key)
            is_own = before.seq + 1 == file.first and (not first or follows(key, before.mac, first))
        if is_own:
            found.append(file)
    # All before it are gone, and its single record follows what nobody has: to go on from it is better than to begin anew.
    if not found and files and seq_of(next(lines(files[-1].path), b"")) == files[-1].first:
        found.append(files[-1])
    return found


def _head_before(file: LogFile, found: list[LogFile], key: bytes) -> Head:
    head = tail(found[-1].path).head if found else None
    return head or beginning(key, file.instance)


class GrowingFile:
    """The newest file, open for appending. Raises OSError from every method but ``close``."""

    def __init__(self, folder: Path, instance: str, first: int, *, is_new: bool = True) -> None:
        """``is_new``: then there must be none of that name."""
        self.path = folder / f"{instance}-{first:012d}.jsonl"
        how = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT | os.O_EXCL if is_new else 0)
        self._descriptor = os.open(self.path, how, 0o600)
        self.size = os.fstat(self._descriptor).st_size

    def write(self, data: bytes) -> None:
        """All of it, or nothing: a part that was written before an error is cut off again."""
        done = 0
        try:
            while done < len(data):
                done += os.write(self._descriptor, data[done:])
        except OSError:
            if done:
                os.ftruncate(self._descriptor, self.size)
            raise
        self.size += len(data)

    def sync(self) -> None:
        """Onto the disk."""
        os.fsync(self._descriptor)

    def sync_name(self) -> None:
        """Its name, too: a new file is in its folder after a power cut only if the folder was written."""
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def cut(self, count: int) -> None:
        """Drop the last ``count`` bytes."""
        self.size -= count
        os.ftruncate(self._descriptor, self.size)

    def close(self) -> None:
        """The end."""
        os.close(self._descriptor)
