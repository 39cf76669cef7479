"""What a Link tells its driver."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from kastunnel.link.request import Request


class Kind(Enum):
    """What has happened; the type of ``Event.value`` is named behind each."""

    OPENED = 1  # Open: the other end opened a request; it has no handler yet
    HEAD = 2  # Head
    DATA = 3  # bytes
    END = 4  # bool: cut short because we asked
    RESET = 5  # Reset
    ROOM = 6  # None
    STOP = 7  # Code
    LISTED = 8  # None; about the link: both lists are in, requests go on
    WELCOME = 9  # pb.Welcome; about the link
    REFUSAL = 10  # pb.Refusal; about the link
    DRAIN = 11  # pb.Drain; about the link
    BYE = 12  # pb.Bye; about the link


class Event(NamedTuple):
    """Something happened to ``request``, or to the link where that is None."""

    request: Request | None
    kind: Kind
    value: object = None
