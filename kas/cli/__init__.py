"""The operator's commands of kas, one file each group.

They read and write the store directly; the running server follows within a second. What a user did wrong is told in one line
on standard error, with the remedy and without a traceback: exit 2 for wrong usage or configuration, 1 for what failed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import typer

from kas.cli import agent, audit, credential, demo, doctor, explain, job_token, kubeconfig, project, serve
from kas.errors import ConfigurationError, KasError
from kas.store import InvalidValue

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
# Typer carries its own copy of click, of which it shows only this class and its like; their base says all of a wrong usage.
_ClickException: type[Exception] = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name="kas",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("serve")(serve.serve)
app.add_typer(agent.app, name="agent")
app.add_typer(job_token.app, name="job-token")
app.add_typer(project.app, name="project")
app.add_typer(audit.app, name="audit")
app.command("kubeconfig")(kubeconfig.kubeconfig)
app.command("credential", context_settings=credential.AS_IT_IS)(credential.credential)
app.command("explain")(explain.explain)
app.command("doctor")(doctor.doctor)
app.command("demo")(demo.demo)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"kas {version('kubernetes-agent-server')}")
        raise typer.Exit


@app.callback()
def _kas(
    _version: bool = typer.Option(
        False, "--version", help="Print the version.", callback=_print_version, is_eager=True
    ),
) -> None:
    """CI jobs reach Kubernetes clusters through a tunnel that the cluster opened.

    Begin with **kas agent register**, install agentk in the cluster as it says, and start **kas serve**.
    """


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; whatever a user can do wrong ends here, in words."""
    try:
        result = app(list(arguments), prog_name="kas", standalone_mode=False)
    except _ClickException as error:
        return _usage(error)
    except (typer.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except BaseExceptionGroup as group:
        return _failures(group)
    except KasError as error:
        return _failure(error)
    return result if isinstance(result, int) else 0


def _usage(error: Any) -> int:
    if type(error).__name__ == "NoArgsIsHelpError":  # a group without a command: the help is the answer
        error.show()
        return EXIT_USAGE
    context = getattr(error, "ctx", None)
    _say(f"{error.format_message().rstrip('.')} (see: {context.command_path if context else 'kas'} --help)")
    return EXIT_USAGE


def _failures(group: BaseExceptionGroup[BaseException]) -> int:
    """Errors of tasks that ran together. Anything but a KasError among them is a bug and keeps its traceback."""
    expected, bugs = group.split(KasError)
    if bugs is not None or expected is None:
        raise group
    codes = [_failures(one) if isinstance(one, BaseExceptionGroup) else _failure(one) for one in expected.exceptions]
    return max(codes)


def _failure(error: BaseException) -> int:
    for line in str(error).splitlines():
        _say(line)
    return EXIT_USAGE if isinstance(error, (ConfigurationError, InvalidValue)) else EXIT_FAILED


def _say(line: str) -> None:
    print(f"kas: {line}", file=sys.stderr)
