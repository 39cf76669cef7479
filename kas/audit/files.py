"""The files of the log: ``<instance>-<number of the first record>.jsonl``, the newest growing, old ones removed beyond a limit.

A file is never renamed. What is removed is said in the log itself, with the mac to go on from, so that the chain can still be verified.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from kas.audit.chain import Head, mac_of

_NAME = re.compile(r"([0-9a-f]{8})-([0-9]{12})\.jsonl")
MAX_LINE_BYTES = 64 * 1024


class LogFile(NamedTuple):
    """One file of a chain."""

    instance: str
    first: int
    path: Path


def listed(folder: Path, instance: str | None = None) -> list[LogFile]:
    """Files of the log, in order; of one chain, or of all. Raises OSError."""
    found = [(match, path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]
    files = [LogFile(match[1], int(match[2]), path) for match, path in found]
    return sorted(one for one in files if instance in (None, one.instance))


def lines(path: Path) -> Iterator[bytes]:
    """With their ends; the last may have none. Raises OSError."""
    with path.open("rb") as file:
        while line := file.readline(MAX_LINE_BYTES):
            yield line


def last_head(path: Path) -> tuple[Head | None, int]:
    """The last whole record of the file, and how many bytes of a torn one follow it. Raises OSError."""
    head, whole = None, 0
    for line in lines(path):
        mac = mac_of(line) if line.endswith(b"\n") else None
        number = re.match(rb'\{"seq":([0-9]{1,18}),', line)
        if mac is None or number is None:
            break
        head, whole = Head(int(number[1]), mac), whole + len(line)
    return head, path.stat().st_size - whole


class GrowingFile:
    """The newest file, open for appending. Raises OSError from every method but ``close``."""

    def __init__(self, folder: Path, instance: str, first: int) -> None:
        self.path = folder / f"{instance}-{first:012d}.jsonl"
        self._descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
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

    def cut(self, count: int) -> None:
        """Drop the last ``count`` bytes."""
        self.size -= count
        os.ftruncate(self._descriptor, self.size)

    def close(self) -> None:
        """The end."""
        os.close(self._descriptor)
