"""How much one token, project and agent may use."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, Strict

from kas.config.base import Seconds, Section, option

Rate = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]
Many = Annotated[int, Field(ge=0, le=1_000_000)]


class ScopeLimits(Section):
    """Limits of one token, project or agent; 0: no limit."""

    requests_per_s: Rate = option(0, "Requests per second, in the long run.")
    burst: Many = option(
        0, "Requests at once after a pause; `helm` and `kubectl apply` come in bursts of some hundreds."
    )
    max_streams: Many = option(0, "Watches, logs -f, exec, attach, port-forward and proxy streams at once.")


class Weight(Section):
    """The share of projects where an agent is busy."""

    projects: str = Field(min_length=1, max_length=1024, description="A project, or a pattern of projects with `*`.")
    weight: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] = Field(
        description="Turns for each turn of a project with weight 1."
    )


class FairUse(Section):
    """How much one token, project and agent may use. Beyond it: 429 with Retry-After, before anything reached the cluster."""

    token: ScopeLimits = option(ScopeLimits(requests_per_s=2000, burst=10_000, max_streams=500), "Of one job's token.")
    project: ScopeLimits = option(
        ScopeLimits(requests_per_s=5000, burst=20_000, max_streams=2000), "Of all jobs of one project."
    )
    agent: ScopeLimits = option(ScopeLimits(max_streams=20_000), "Of everybody at one agent.")
    max_in_flight: Many = option(
        400, "Ordinary requests at one agent at once; others wait for their turn. kube-apiserver takes 400."
    )
    max_waiting: Annotated[int, Field(ge=1, le=100_000)] = option(
        256, "Requests of one project that may wait for one agent."
    )
    wait_s: Seconds = option(10, "How long one waits; kubectl repeats a 429 by itself.")
    weights: Annotated[tuple[Weight, ...], Strict(False)] = option(
        (),
        "Turns of projects where they wait for one agent; the first that fits counts, others have the weight 1.",
        example="[{projects: 'shop/*', weight: 4}]",
    )
    wrong_tokens_per_s: Rate = option(
        20,
        "Wrong tokens of one address (IPv6: of one /64) before issuers are not asked any more. Behind a balancer all clients share its "
        "address: raise it, or 0.",
    )
    wrong_tokens_burst: Many = option(200, "Of these, at once.")
