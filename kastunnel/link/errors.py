"""What breaks a request, and what breaks a link. Each class carries the code that travels."""

from __future__ import annotations

from kastunnel.link.frames import Code


class LinkError(Exception):
    """The other end has broken a rule that leaves nothing to trust on this link: the link is over."""

    code = Code.PROTOCOL


class StreamSilent(Exception):
    """Nothing was heard for too long: the stream is lost, the link may be resumed."""


class RequestError(Exception):
    """The other end has broken a rule within one request: that request is reset, the link goes on."""

    code = Code.PROTOCOL


class Unsupported(RequestError):
    """The other end wants something that this version does not understand: refused, because understanding less could mean allowing more."""

    code = Code.UNSUPPORTED


class TooManyOpen(RequestError):
    """More requests are open on this link than this end accepts."""

    code = Code.LIMIT
