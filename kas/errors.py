"""The errors of the server that somebody catches or answers. Each docstring is the sentence that its user reads.

How a door answers them is one table, kas/kubernetes_api/replies.py; the command line prints them and exits.
"""

from __future__ import annotations


class KasError(Exception):
    """Something went wrong in kas."""

    def __str__(self) -> str:
        return super().__str__() or (type(self).__doc__ or "").strip()


class ConfigurationError(KasError):
    """The configuration cannot be used."""  # exit code 2; the message has one line per mistake


class Unauthenticated(KasError):
    """The token is missing, malformed, unknown, expired or revoked."""


class JobIsOver(Unauthenticated):
    """The job that this token was made for is over."""


class AccessDenied(KasError):
    """This job may not use this agent."""

    def __init__(
        self, *args: object, why: str = "", told: str = "", caller: object = None, agent: str = "", rule: str = ""
    ) -> None:
        super().__init__(*args)
        self.why = why  # for the operator's log; never said to the caller
        self.told = told  # what the caller may know of it
        self.caller = caller  # a kas.access.caller.Caller, for logs and audit
        self.agent = agent
        self.rule = rule


class IssuerUnavailable(KasError):
    """Who vouches for this token cannot be asked right now."""


class AgentNotConnected(KasError):
    """The agent is not connected to kas."""


class TooManyRequests(KasError):
    """Too many requests."""

    def __init__(self, *args: object, retry_after_s: int = 1) -> None:
        super().__init__(*args)
        self.retry_after_s = retry_after_s


class StoreUnavailable(KasError):
    """The database cannot be used right now."""


class AuditUnavailable(KasError):
    """The audit log cannot be written, and no request may go unrecorded."""
