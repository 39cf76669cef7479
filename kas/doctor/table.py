"""The table of checks of `kas doctor`: from the machine outwards."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from kas.config import Config, doubts, load_config
from kas.doctor.doors import RUNS, Door
from kas.doctor.issuers import AskedIssuer
from kas.doctor.machine import Machine
from kas.doctor.repositories import Repositories
from kas.errors import ConfigurationError
from kas.outbound import Outbound
from kastunnel.doctor import programs
from kastunnel.doctor.findings import Check, Finding, broken, ok, warning

PUBLIC_DOORS = ("agent_api", "management_api", "kubernetes_api")


def checks(path: Path, outbound: Outbound) -> tuple[Check, ...]:
    """For the configuration at ``path``; the checks ask over ``outbound``, which must be open when they run."""
    try:
        config = load_config(path)
    except ConfigurationError as error:
        return Check("configuration", _found(_mistakes(str(error)))), Check("programs", _programs)
    return tuple(_all(path, config, outbound))


def _all(path: Path, config: Config, outbound: Outbound) -> Iterator[Check]:
    yield Check("configuration", _found(_configuration(path, config)))
    yield Check("programs", _programs)
    machine = Machine(config)
    yield from machine.checks()
    yield Check(RUNS, machine.operator_socket)
    doors = [Door(config, name) for name in (*PUBLIC_DOORS, "observability")]
    for door in doors:
        yield from door.checks()
    for door in doors:
        yield from door.outside()
    for issuer in config.issuers:
        yield from AskedIssuer(issuer, outbound).checks()
    yield from Repositories(config, outbound, lambda: machine.agents).checks()


def _found(finding: Finding) -> Callable[[], Awaitable[Finding]]:
    """A check whose finding is known already."""

    async def look() -> Finding:
        return finding

    return look


async def _programs() -> Finding:
    return await programs.parts("grpcio", "aiohttp", "sqlalchemy", "dulwich", "cryptography")


def _mistakes(text: str) -> Finding:
    return broken(text, "correct it (docs/configuration.md); everything else is looked at then")


def _configuration(path: Path, config: Config) -> Finding:
    if not config.enable:
        return warning(f"{path} says enable: false", "kas serve ends at once: remove it, or set it to true")
    if found := doubts(config):
        return warning("; ".join(found), "look whether this is meant; kas serve starts all the same")
    return ok(f"{path} has no mistakes")
