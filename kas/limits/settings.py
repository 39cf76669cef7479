"""The limits that kas.yaml asks for."""

from __future__ import annotations

from kas.config import FairUse
from kas.config.fair_use import ScopeLimits
from kas.limits.limits import LimitSettings, Scope


def limit_settings(config: FairUse) -> LimitSettings:
    """From the section `fair_use`."""
    return LimitSettings(
        token=_scope(config.token),
        project=_scope(config.project),
        agent=_scope(config.agent),
        max_in_flight=config.max_in_flight,
        max_waiting=config.max_waiting,
        wait_s=config.wait_s,
        weights=tuple((one.projects, one.weight) for one in config.weights),
        wrong_tokens_per_s=config.wrong_tokens_per_s,
        wrong_tokens_burst=config.wrong_tokens_burst,
    )


def _scope(limits: ScopeLimits) -> Scope:
    return Scope(
        limits.requests_per_s,
        max(limits.burst, limits.requests_per_s, 1.0) if limits.requests_per_s else 0.0,
        limits.max_streams,
    )
