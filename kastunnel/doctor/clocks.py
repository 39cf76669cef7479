"""How far this machine's clock is from others'."""

from __future__ import annotations

from datetime import datetime
from email.utils import parsedate_to_datetime

from kastunnel.doctor.findings import Finding, broken, ok, skipped, warning

NOTABLE_S = 30.0
SERIOUS_S = 300.0  # tokens and certificates count as expired or not yet valid beyond it


def skew(whose: str, date: str, now: datetime) -> Finding:
    """``date``: a Date field (RFC 9110 section 5.6.7), good to a second; "" where nobody told."""
    try:
        there = parsedate_to_datetime(date) if date else None
        apart_s = None if there is None else (now - there).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return skipped(f"{whose} tells a time that cannot be read")
    if apart_s is None:
        return skipped(f"{whose} does not tell the time")
    said = f"this machine is {abs(apart_s):.0f} s {'ahead of' if apart_s > 0 else 'behind'} {whose}"
    if abs(apart_s) < NOTABLE_S:
        return ok(f"within {max(abs(apart_s), 1):.0f} s of {whose}")
    remedy = f"set the clocks by NTP, here (it is {now:%Y-%m-%d %H:%M:%S} UTC) and there"
    return broken(said, remedy) if abs(apart_s) >= SERIOUS_S else warning(said, remedy)
