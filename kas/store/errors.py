"""What the store answers when it will not do what was asked; that it cannot is kas.errors.StoreUnavailable."""

from __future__ import annotations

from kas.errors import KasError


class InvalidValue(KasError):
    """A name or value is not of the form that is needed."""  # the command line answers wrong usage


class Refused(KasError):
    """What was asked does not fit what is stored."""
