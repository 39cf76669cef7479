"""What a connection waits for, and so what it means when its one deadline passes."""

from __future__ import annotations

from enum import Enum, auto


class Waiting(Enum):
    """What the deadline of a connection is for."""

    REQUEST = auto()  # the first byte of a request
    HEAD = auto()  # the rest of its head
    BODY = auto()  # a piece of its body
    ANSWER = auto()  # the head of the answer, or room on the link
    READER = auto()  # the client to take bytes
    END = auto()  # the client to close, or the last bytes to leave
    NOTHING = auto()  # there is no limit: then it is only looked at whether the client is there
