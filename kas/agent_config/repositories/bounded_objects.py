"""How large a git object says it is, before it is read: whoever may push must not fill kas's memory.

dulwich has a limit for loose objects only. A packed object is as large as its header says, or, for a delta, as its delta's header
says; all objects below it in the chain are read too. (Formats: gitformat-pack, "Pack file entry" and "Deltified representation".)
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from dulwich.object_store import DiskObjectStore
from dulwich.objects import ObjectID, hex_to_sha
from dulwich.pack import load_pack_index

from kas.agent_config.repositories.git_numbers import distance, number

_OFS_DELTA, _REF_DELTA = 6, 7
_MAX_CHAIN = 4096  # git makes chains of 50; dulwich reads longer ones, in a loop
_HEADER_BYTES = 4096  # type, size, base, and enough compressed bytes for the two sizes in a delta
_ROOM = 1024  # by which compressed content may be larger than plain: a header, and 5 bytes in 16 KiB


def largest_part(store: DiskObjectStore, sha: ObjectID) -> int:
    """Bytes of the largest object that must be read to read ``sha`` (in hex). Raises KeyError if it is not there."""
    for one in (store, *store.alternates):
        if not isinstance(one, DiskObjectStore):
            continue
        folder = Path(one.path)
        loose = folder / sha[:2].decode("ascii") / sha[2:].decode("ascii")
        if loose.is_file():
            return max(_loose_size(loose), loose.stat().st_size - _ROOM)
        for index_file in sorted((folder / "pack").glob("*.idx")):
            size = _size_in_pack(index_file, hex_to_sha(sha), one.object_format)
            if size is not None:
                return size
    raise KeyError(sha)


def _loose_size(path: Path) -> int:
    with path.open("rb") as file:
        head = zlib.decompressobj().decompress(file.read(_HEADER_BYTES), _HEADER_BYTES)
    return int(head.partition(b"\0")[0].split(b" ")[1])


def _size_in_pack(index_file: Path, sha: Any, object_format: Any) -> int | None:
    index = load_pack_index(index_file, object_format)
    try:
        offset: int = index.object_offset(sha)
    except KeyError:
        return None
    else:
        with index_file.with_suffix(".pack").open("rb") as pack:
            return max(_chain(pack, index, offset, object_format.oid_length))
    finally:
        index.close()


def _chain(pack: BinaryIO, index: Any, offset: int, name_length: int) -> Iterator[int]:
    for _ in range(_MAX_CHAIN):
        pack.seek(offset)
        head = pack.read(_HEADER_BYTES)
        kind = head[0] >> 4 & 7
        size, at = number(head, 0, first_bits=4)
        yield size
        if kind == _OFS_DELTA:
            back, at = distance(head, at)
            base = offset - back
        elif kind == _REF_DELTA:
            name, at = head[at : at + name_length], at + name_length
            base = index.object_offset(name)  # a pack on disk has its bases in itself
        else:
            return
        sizes = zlib.decompressobj().decompress(head[at:], 20)
        base_size, end = number(sizes, 0)
        result_size, _ = number(sizes, end)
        yield base_size
        yield result_size
        offset = base
    raise ValueError("a chain of deltas without an end")
