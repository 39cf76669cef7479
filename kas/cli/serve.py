"""kas serve."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from kas.cli.options import DEFAULT_CONFIG, ConfigOption, load
from kas.config import doubts


def serve(
    config: ConfigOption = DEFAULT_CONFIG,
    check: Annotated[
        bool, typer.Option("--check", help="Only read the configuration, say what is wrong with it, and end.")
    ] = False,
) -> None:
    """Run the server.

    Doors, by default on localhost: agents 8150, observability 8151, management 8153, kubectl 8154. Without certificates it makes
    a CA of its own in the state directory.

    SIGTERM drains and ends it; SIGHUP reads the configuration and the certificates again, without cutting anything.

    ```
    kas serve --config /etc/kas/kas.yaml
    ```
    """
    found = load(config)
    if check:
        print(f"{config}: no mistakes")
        for doubt in doubts(found):
            print(f"{config}: {doubt}")
        return
    if not found.enable:
        print(f"kas is switched off: {config} says enable: false")
        return
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # a stranger's broken handshake is no line of our log
    import uvloop

    from kas.app import serve as run_server

    uvloop.run(run_server(found, config))
