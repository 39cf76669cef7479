"""kas doctor."""

from __future__ import annotations

import asyncio
import os
from importlib.metadata import version
from typing import Annotated

import typer

from kas.cli.options import DEFAULT_CONFIG, ConfigOption
from kas.cli.output import print_json


def doctor(
    config: ConfigOption = DEFAULT_CONFIG,
    json_output: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Find out what is wrong, on kas's machine: configuration, state, database, certificates, doors from inside and outside, issuers,
    repositories, clocks.

    It changes nothing and shows no secret. Run it as the user of kas.
    Exit code 0: all is well; 3: warnings; 1: something is broken.

    ```
    sudo -u kas kas doctor --config /etc/kas/kas.yaml
    ```
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its own lines on stderr are not ours
    from kas.doctor.table import checks
    from kas.outbound import Outbound
    from kastunnel.doctor.report import as_data, report

    async def main() -> int:
        async with Outbound(version("kubernetes-agent-server")) as outbound:
            table = checks(config, outbound)
            if json_output:
                rows, code = await as_data(table)
                print_json(rows)
                return code
            return await report(table, lambda line: print(line, flush=True))

    raise typer.Exit(asyncio.run(main()))
