"""Packs that must not be unpacked."""

from __future__ import annotations

import struct
import subprocess
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kas.agent_config.repositories import RepositoryProblem
from kas.agent_config.repositories.bounded_packs import UnfitPack, check_pack, delta_result
from kas.agent_config.repositories.git_remote import GitRemote
from tests.fakes.git_servers import COMMIT, Hostile, Origin, hostile, line, refs
from tests.unit.kas.agent_config.test_watcher import PATH


def packed(*entries: bytes, count: int | None = None) -> bytes:
    from hashlib import sha1

    content = struct.pack(">4sLL", b"PACK", 2, len(entries) if count is None else count) + b"".join(entries)
    return content + sha1(content).digest()


def entry(kind: int, size: int, content: bytes, between: bytes = b"") -> bytes:
    first, size = size & 15 | kind << 4, size >> 4
    head = b""
    while size:
        head += bytes([first | 0x80])
        first, size = size & 127, size >> 7
    return head + bytes([first]) + between + zlib.compress(content, 9)


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def delta(base: int, result: int, *commands: bytes) -> bytes:
    return varint(base) + varint(result) + b"".join(commands)


COPY_64K = b"\x80"  # from offset 0, 0x10000 bytes
BASE = bytes(0x10000)


COPIES = delta(len(BASE), 2000 << 16, *[COPY_64K] * 2000)
UNSAID = delta(len(BASE), 5, *[COPY_64K] * 2000)
PLAIN = entry(3, len(BASE), BASE)
BACK = bytes([len(PLAIN)])  # one byte is enough

BOMBS: dict[str, Callable[[], bytes]] = {
    "an object of more than": lambda: packed(entry(3, 65 << 20, bytes(65 << 20))),
    "not as large as its header says": lambda: packed(entry(3, 10, bytes(1 << 20))),
    "bytes together": lambda: packed(*[entry(3, 60 << 20, bytes(60 << 20))] * 20),
    "it holds an object of more": lambda: packed(PLAIN, entry(6, len(COPIES), COPIES, BACK)),
    "another size than it says": lambda: packed(PLAIN, entry(6, len(UNSAID), UNSAID, BACK)),
    "unknown type": lambda: packed(entry(5, 0, b"")),
    "more than 1000000 objects": lambda: packed(count=1_000_001),
    "cut or damaged": lambda: packed(count=3),
    "this is not a pack": lambda: b"KCAP" + bytes(30),
    "it is empty": lambda: b"",
}


@pytest.mark.parametrize("said", BOMBS)
def test_a_pack_that_would_fill_memory_is_never_unpacked(tmp_path, said):
    pack = BOMBS[said]()

    def answer(handler: Hostile, path: str) -> None:
        if "info/refs" in path:
            refs(handler)
            return
        bands = (line(b"\x01" + pack[at : at + 60_000]) for at in range(0, len(pack), 60_000))
        handler.say("result", line(f"shallow {COMMIT}\n".encode()) + b"0000" + line(b"NAK\n"), *bands, b"0000")

    with hostile(answer) as url, pytest.raises(RepositoryProblem) as caught:
        GitRemote(url, tmp_path).read(COMMIT, PATH, 10_000)
    assert "what it sends is refused: " in str(caught.value)
    assert said in str(caught.value)
    assert not list(tmp_path.rglob("*.pack"))


def test_a_pack_of_large_objects_is_walked_to_its_end(tmp_path):
    large = entry(3, 60 << 20, bytes(60 << 20))
    file = tmp_path / "pack"
    file.write_bytes(packed(*[large] * 3))
    with file.open("rb") as opened:
        check_pack(opened)


def test_packs_of_git_itself_are_fit(tmp_path):
    """With deltas of both kinds, as git makes them."""
    origin = Origin(tmp_path, PATH)
    for n in range(30):
        origin.commit(b"".join(b"line %d\n" % (m * (1 + (m == n))) for m in range(2000)))
    git = ["git", "-c", "safe.directory=*", "-C", str(origin.folder)]
    names = subprocess.run([*git, "rev-list", "--objects", "--all"], check=True, capture_output=True).stdout
    for options in (["--delta-base-offset"], []):
        made = subprocess.run(
            [*git, "pack-objects", "--stdout", *options],
            input=names,
            check=True,
            capture_output=True,
        ).stdout
        file = tmp_path / "pack"
        file.write_bytes(made)
        with file.open("rb") as opened:
            check_pack(opened)


@given(st.binary(max_size=200))
def test_no_delta_and_no_pack_does_anything_but_be_fit_or_unfit(text):
    try:
        delta_result(text)
    except (UnfitPack, IndexError):
        pass


@given(st.data())
def test_a_changed_pack_is_fit_or_unfit(tmp_path_factory, data):
    pack = bytearray(packed(entry(3, len(BASE), BASE), entry(6, 8, delta(len(BASE), 0x10000, COPY_64K), b"\x60")))
    for _ in range(data.draw(st.integers(1, 4))):
        pack[data.draw(st.integers(8, len(pack) - 1))] = data.draw(st.integers(0, 255))
    file = tmp_path_factory.getbasetemp() / "changed"
    file.write_bytes(pack)
    with file.open("rb") as opened:
        try:
            check_pack(opened)
        except UnfitPack:
            pass
