"""The time limit that a client asks the API server for: ``?timeout=32s``."""

from __future__ import annotations

import re

_timeout = re.compile(rb"[?&]timeout=([^&]*)").search
_duration = re.compile(rb"(?:([0-9]{1,4})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,8}(?:\.[0-9]{1,9})?)s)?").fullmatch
MAX_ASKED_S = 3600.0  # more than the API server ever grants


def query_timeout_s(target: bytes) -> float | None:
    """Seconds asked for in the first ``timeout`` parameter, in Go's notation; None where there is none, or it is nothing."""
    found = _timeout(target)
    if found is None or (duration := _duration(found[1])) is None:
        return None
    hours, minutes, seconds = duration.groups()
    total = int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(seconds or 0)
    return min(total, MAX_ASKED_S) if total > 0 else None
