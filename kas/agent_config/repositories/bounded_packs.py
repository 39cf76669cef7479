"""Whether a pack that a server sent may be unpacked at all: 400 KB can say that they are 400 MB, or copy a megabyte a million times.

(Formats: gitformat-pack, "Pack file entry" and "Deltified representation".) Everything is inflated once in small pieces and thrown
away; dulwich, which reads it afterwards, holds whole objects.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from typing import BinaryIO

from kas.agent_config.repositories.git_numbers import distance, number

MAX_OBJECTS = 1_000_000
MAX_OBJECT_BYTES = 64 << 20
MAX_INFLATED_BYTES = 1 << 30
_PIECE = 64 * 1024
_OFS_DELTA, _REF_DELTA = 6, 7
_PLAIN = (1, 2, 3, 4)  # commit, tree, blob, tag


class UnfitPack(Exception):
    """It holds more than it may, or is not a pack."""


def check_pack(file: BinaryIO, name_length: int = 20) -> None:
    """Raise UnfitPack unless all of a file on disk can be unpacked within the bounds above. ``name_length``: of an object, in bytes."""
    if not os.fstat(file.fileno()).st_size:
        raise UnfitPack("it is empty")
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as pack:
        try:
            magic, version, count = struct.unpack_from(">4sLL", pack)
            if magic != b"PACK" or version not in (2, 3):
                raise UnfitPack("this is not a pack")
            if count > MAX_OBJECTS:
                raise UnfitPack(f"it holds more than {MAX_OBJECTS} objects")
            _Walk(pack, name_length).take(count)
        except (IndexError, struct.error, zlib.error) as error:
            raise UnfitPack(f"it is cut or damaged ({type(error).__name__})") from None


class _Walk:
    def __init__(self, pack: mmap.mmap, name_length: int) -> None:
        self._pack = pack
        self._name_length = name_length
        self._at = 12
        self._total = 0

    def take(self, count: int) -> None:
        for _ in range(count):
            self._entry()

    def _entry(self) -> None:
        kind = self._pack[self._at] >> 4 & 7
        size, self._at = number(self._pack, self._at, first_bits=4)
        self._claim(size)
        if kind in _PLAIN:
            self._inflate(size, is_kept=False)
            return
        if kind == _OFS_DELTA:
            _, self._at = distance(self._pack, self._at)
        elif kind == _REF_DELTA:
            self._at += self._name_length
        else:
            raise UnfitPack(f"it holds an object of the unknown type {kind}")
        self._claim(delta_result(self._inflate(size, is_kept=True)))

    def _claim(self, size: int) -> None:
        if size > MAX_OBJECT_BYTES:
            raise UnfitPack(f"it holds an object of more than {MAX_OBJECT_BYTES} bytes")
        self._total += size
        if self._total > MAX_INFLATED_BYTES:
            raise UnfitPack(f"its objects are more than {MAX_INFLATED_BYTES} bytes together")

    def _inflate(self, size: int, *, is_kept: bool) -> bytes:
        """Step over one compressed part, which must be ``size`` bytes as its header says."""
        inflating = zlib.decompressobj()
        kept: list[bytes] = []
        found = 0
        while not inflating.eof:
            given = self._pack[self._at : self._at + _PIECE]
            if not given:
                raise UnfitPack("it is cut")
            got = inflating.decompress(given, _PIECE)
            rest = inflating.unused_data if inflating.eof else inflating.unconsumed_tail
            self._at += len(given) - len(rest)
            found += len(got)
            if found > size:
                break
            if is_kept:
                kept.append(got)
        if found != size:
            raise UnfitPack("an object is not as large as its header says")
        return b"".join(kept)


def delta_result(delta: bytes) -> int:
    """Bytes of what the delta makes of its base: as it says, and as its copies and insertions add up to. Raises UnfitPack, IndexError."""
    _, at = number(delta, 0)
    said, at = number(delta, at)
    made = 0
    while at < len(delta):
        command = delta[at]
        at += 1
        if command & 0x80:  # copy: four bytes of offset, three of size, those whose bit is set
            at += (command & 0x0F).bit_count()
            size = 0
            for bit in range(3):
                if command & 0x10 << bit:
                    size |= delta[at] << 8 * bit
                    at += 1
            made += size or 0x10000
        elif command:
            made += command
            at += command
        else:
            raise UnfitPack("a delta has a command that does not exist")
        if made > said:
            break
    if made != said:
        raise UnfitPack("a delta makes another size than it says")
    return said
