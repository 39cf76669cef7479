"""The two ways in which git's packs write numbers (gitformat-pack)."""

from __future__ import annotations

from typing import Protocol

MAX_BITS = 63


class _Octets(Protocol):
    def __getitem__(self, at: int, /) -> int: ...


def number(text: _Octets, at: int, first_bits: int = 7) -> tuple[int, int]:
    """A number of 7 bits a byte, the lowest first (4 in the first byte of an entry), and where it ends. Raises IndexError."""
    value, shift = text[at] & ((1 << first_bits) - 1), first_bits
    while text[at] & 0x80:
        at += 1
        value |= (text[at] & 0x7F) << shift
        shift += 7
        if shift > MAX_BITS:
            raise IndexError("a number without an end")
    return value, at + 1


def distance(text: _Octets, at: int) -> tuple[int, int]:
    """How far back the base of an offset delta lies: the highest bits first, each step counted from one. Raises IndexError."""
    value = text[at] & 0x7F
    while text[at] & 0x80:
        at += 1
        value = (value + 1) << 7 | (text[at] & 0x7F)
        if value >> MAX_BITS:
            raise IndexError("a distance without an end")
    return value, at + 1
