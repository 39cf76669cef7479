"""The command line of agentk: options in, exit codes out. 2: an option cannot be used; 1: agentk failed; never a traceback.

`agentk doctor` has exit codes of its own: 0 well, 3 warnings, 1 broken.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import sys
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from agentk.config import Settings
from agentk.config import settings as checked
from agentk.errors import AgentkError, ConfigurationError

WRONG_USAGE = 2
FAILED = 1

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 120}
app = typer.Typer(add_completion=False, context_settings=_CONTEXT)
doctor_app = typer.Typer(add_completion=False, context_settings=_CONTEXT)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"agentk {installed_version('kubernetes-agent-server')}")
        raise typer.Exit


def _option(flag: str, text: str) -> Any:
    name = f"AGENTK_{flag.removeprefix('--').replace('-', '_').upper()}"
    return typer.Option(flag, envvar=name, help=text)


KasAddress = Annotated[str | None, _option("--kas-address", "Where kas is: grpcs://HOST:8150.")]
TokenFile = Annotated[Path | None, _option("--token-file", "File with the agent token; read again at every dial.")]
CaCertFile = Annotated[
    Path | None,
    _option("--ca-cert-file", "PEM file with kas's certificate authority, if the system does not know it."),
]
Kubeconfig = Annotated[
    Path | None,
    _option("--kubeconfig", "How to reach the API server. In a pod: its service account, if not given."),
]
KubeContext = Annotated[str | None, _option("--context", "Context of the kubeconfig; its current one if not given.")]
Instance = Annotated[
    str | None,
    _option("--instance", "Unique and stable name of this replica. [default: POD_NAMESPACE/POD_NAME or hostname]"),
]


@app.command()
def run(
    kas_address: KasAddress = None,
    token_file: TokenFile = None,
    ca_cert_file: CaCertFile = None,
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
    instance: Instance = None,
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

    The agent token comes from --token-file, or from AGENTK_TOKEN in the environment. HTTPS_PROXY and NO_PROXY are honoured on the way
    to kas. When something does not work, ask: agentk doctor (with the same options).
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
    _quiet()
    try:  # here: --help and --version need neither gRPC nor kubernetes_asyncio
        from agentk.app import serve
    except ModuleNotFoundError as error:
        raise _other_environment(error) from error

    serve(wanted)


@doctor_app.command()
def doctor(
    kas_address: KasAddress = None,
    token_file: TokenFile = None,
    ca_cert_file: CaCertFile = None,
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
    instance: Instance = None,
    access_as: Annotated[
        str,
        typer.Option(
            help="agent, ci_job or impersonate, as access_as of the agent's configuration says; without it the cluster's rules for all "
            "three are looked at."
        ),
    ] = "",
    namespace: Annotated[str, typer.Option(help="Where jobs exec, if not in every namespace.")] = "",
    json_output: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Find out what is wrong, hop by hop: configuration, name, proxy, TCP, TLS, gRPC, token, clock; API server and its rules.

    Takes agentk's own options, and changes nothing: it may run beside an agentk with the same token.
    Exit code 0: all is well; 3: warnings; 1: something is broken.
    """
    if access_as not in ("", "agent", "ci_job", "impersonate"):
        raise ConfigurationError(f"--access-as {access_as!r}: use agent, ci_job or impersonate")
    environ = dict(os.environ)
    _quiet()
    try:
        from agentk.doctor.checks import Doctor
    except ModuleNotFoundError as error:
        raise _other_environment(error) from error
    from kastunnel.doctor.report import as_data, report

    def settings() -> Settings:
        return checked(
            kas_address=kas_address,
            token_file=token_file,
            ca_cert_file=ca_cert_file,
            kubeconfig=kubeconfig,
            context=context,
            instance=instance,
            environ=environ,
            read_files=False,
        )

    checks = Doctor(settings, environ, access_as, namespace).checks()
    if json_output:
        rows, code = asyncio.run(as_data(checks))
        print(json.dumps(rows, indent=2))
    else:
        code = asyncio.run(report(checks, lambda line: print(line, flush=True)))
    raise typer.Exit(code)


def _quiet() -> None:
    os.environ.pop("AGENTK_TOKEN", None)  # exec plugins inherit the environment, and need not see it
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its own lines on stderr are not ours; what failed is logged
    os.environ["no_grpc_proxy"] = ""  # noqa: SIM112 - gRPC's name; else it would read no_proxy too, by rules of its own
    if roots := ssl.get_default_verify_paths().cafile:  # else gRPC knows the CAs that were public when it was built
        os.environ.setdefault("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", roots)


def _other_environment(error: ModuleNotFoundError) -> ConfigurationError:
    return ConfigurationError(
        f"{error.name} is not installed: this environment was made for another program; "
        "make one with requirements/agentk.txt"
    )


def main() -> None:
    """Run and exit: the console script."""
    sys.exit(exit_code(sys.argv[1:]))


def exit_code(arguments: list[str]) -> int:
    """Run with these arguments; what goes wrong is one line on stderr."""
    is_doctor = arguments[:1] == ["doctor"]
    command = typer.main.get_command(doctor_app if is_doctor else app)
    program = "agentk doctor" if is_doctor else "agentk"
    try:
        result = command.main(args=arguments[is_doctor:], prog_name=program, standalone_mode=False)
    except ConfigurationError as error:
        return _failed(str(error), WRONG_USAGE)
    except AgentkError as error:
        return _failed(str(error), FAILED)
    except (KeyboardInterrupt, typer.Abort):
        return 130  # as shells say of SIGINT
    except typer.TyperException as error:
        return _failed(f"{error.format_message()} Try {program} --help.", WRONG_USAGE)
    return result if isinstance(result, int) else 0


def _failed(text: str, code: int) -> int:
    line = " ".join(text.split())
    Console(stderr=True, soft_wrap=True, highlight=False).print("[bold red]agentk:[/] ", end="")
    Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(line)
    return code
