"""The command line of agentk: options in, exit codes out. 2: an option cannot be used; 1: agentk failed; never a traceback."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from agentk.config import settings as checked
from agentk.errors import AgentkError, ConfigurationError

WRONG_USAGE = 2
FAILED = 1

app = typer.Typer(
    add_completion=False, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120}
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"agentk {installed_version('kubernetes-agent-server')}")
        raise typer.Exit


def _option(flag: str, text: str) -> Any:
    name = f"AGENTK_{flag.removeprefix('--').replace('-', '_').upper()}"
    return typer.Option(flag, envvar=name, help=text)


@app.command()
def run(
    kas_address: Annotated[str | None, _option("--kas-address", "Where kas is: grpcs://HOST:8150.")] = None,
    token_file: Annotated[
        Path | None, _option("--token-file", "File with the agent token; read again at every dial.")
    ] = None,
    ca_cert_file: Annotated[
        Path | None,
        _option("--ca-cert-file", "PEM file with kas's certificate authority, if the system does not know it."),
    ] = None,
    kubeconfig: Annotated[
        Path | None,
        _option("--kubeconfig", "How to reach the API server. In a pod: its service account, if not given."),
    ] = None,
    context: Annotated[
        str | None, _option("--context", "Context of the kubeconfig; its current one if not given.")
    ] = None,
    instance: Annotated[
        str | None,
        _option("--instance", "Unique and stable name of this replica. [default: POD_NAMESPACE/POD_NAME or hostname]"),
    ] = None,
    log_format: Annotated[str, _option("--log-format", "json or console.")] = "json",
    log_level: Annotated[str, _option("--log-level", "debug, info, warning or error.")] = "info",
    observability_listen: Annotated[
        str, _option("--observability-listen", "HOST:PORT for /metrics, /liveness and /readiness, or off.")
    ] = "127.0.0.1:8080",
    head_timeout: Annotated[
        float, _option("--head-timeout", "Seconds for the API server to begin its answer, unless kas names a time.")
    ] = 75.0,
    drain_timeout: Annotated[float, _option("--drain-timeout", "Seconds that open requests get after SIGTERM.")] = 20.0,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Carry requests from kas to this cluster's API server.

    The agent token comes from --token-file, or from AGENTK_TOKEN in the environment.
    """
    del version
    wanted = checked(
        kas_address=kas_address,
        token_file=token_file,
        ca_cert_file=ca_cert_file,
        kubeconfig=kubeconfig,
        context=context,
        instance=instance,
        log_format=log_format,
        log_level=log_level,
        observability_listen=observability_listen,
        head_timeout_s=head_timeout,
        drain_timeout_s=drain_timeout,
        environ=os.environ,
    )
    os.environ.pop("AGENTK_TOKEN", None)  # exec plugins inherit the environment, and need not see it
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # its own lines on stderr are not ours; what failed is logged
    try:  # here: --help and --version need neither gRPC nor kubernetes_asyncio
        from agentk.app import serve
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"{error.name} is not installed: this environment was made for another program; "
            "make one with requirements/agentk.txt"
        ) from error

    serve(wanted)


def main() -> None:
    """Run and exit: the console script."""
    sys.exit(exit_code(sys.argv[1:]))


def exit_code(arguments: list[str]) -> int:
    """Run with these arguments; what goes wrong is one line on stderr."""
    command = typer.main.get_command(app)
    try:
        command.main(args=arguments, prog_name="agentk", standalone_mode=False)
    except ConfigurationError as error:
        return _failed(str(error), WRONG_USAGE)
    except AgentkError as error:
        return _failed(str(error), FAILED)
    except typer.Exit as leaving:
        return leaving.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return 130  # as shells say of SIGINT
    except typer.TyperException as error:
        return _failed(f"{error.format_message()} Try agentk --help.", WRONG_USAGE)
    return 0


def _failed(text: str, code: int) -> int:
    line = " ".join(text.split())
    Console(stderr=True, soft_wrap=True, highlight=False).print("[bold red]agentk:[/] ", end="")
    Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(line)
    return code
