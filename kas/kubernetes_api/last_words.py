"""What kas may still say in an answer without a stated length that cannot go on: an ERROR event in a watch, a line in a followed log.

Both are words that their readers know: the API server ends a watch so that it cannot continue, and the kubelet writes into the log why it
cannot follow it. The connection is broken off after them all the same: what was said must not look like the end.
"""

from __future__ import annotations

import re
from enum import Enum, auto

from kas.kubernetes_api.replies import Reply, failure
from kastunnel.http.classify import RequestInfo
from kastunnel.link.frames import Head

_follows = re.compile(rb"\?(?:[^#]*&)?follow=(?:1|t|T|true|TRUE|True)(?:&|$)").search  # as Go's ParseBool


class LastWords(Enum):
    """How an answer is spoken."""

    EVENT = auto()  # a watch in JSON: an event a line
    LINE = auto()  # a log that is followed

    def said(self, reply: Reply, *, hop: str, request_id: str, at_line_end: bool) -> bytes:
        """``reply`` for the client; empty where nothing can be said, within an event. ``at_line_end``: the last line was complete."""
        told = failure(reply, hop=hop, request_id=request_id)
        if self is LastWords.LINE:
            return b"%b%b\n" % (b"" if at_line_end else b"\n", told.text.encode())
        return b'{"type":"ERROR","object":%b}\n' % told.status.rstrip() if at_line_end else b""


def last_words_of(info: RequestInfo | None, target: bytes, head: Head) -> LastWords | None:
    """For the answer that begins with ``head``; ``target`` of its request. None: nothing may be put into it."""
    if info is None or head.status != 200:
        return None
    fields = {name.lower(): value for name, value in head.headers}
    if b"content-encoding" in fields:
        return None
    kind = fields.get(b"content-type", b"")
    if info.verb == "watch" and kind.startswith(b"application/json"):
        return LastWords.EVENT
    if (info.resource, info.subresource) == ("pods", "log") and kind.startswith(b"text/plain") and _follows(target):
        return LastWords.LINE
    return None
