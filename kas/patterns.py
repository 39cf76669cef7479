"""Patterns in which ``*`` stands for any characters, ``/`` included. Pure, and in linear time, unlike a regular expression."""

from __future__ import annotations

from collections.abc import Iterable


def matches(pattern: str, name: str) -> bool:
    """Whether ``name`` as a whole is of the form ``pattern``; case matters."""
    first, *middle = pattern.split("*")
    if not middle:
        return pattern == name
    last = middle.pop()
    if not name.startswith(first) or not name.endswith(last) or len(name) < len(first) + len(last):
        return False
    at, end = len(first), len(name) - len(last)
    for part in middle:
        at = name.find(part, at, end)
        if at < 0:
            return False
        at += len(part)
    return True


def matches_any(patterns: Iterable[str], name: str) -> bool:
    """Whether one of them fits."""
    return any(matches(pattern, name) for pattern in patterns)
