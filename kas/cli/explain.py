"""kas explain: which layer says what about a job, and the smallest rule that would let it in."""

from __future__ import annotations

import http.client
import json
import os
import socket
from pathlib import Path
from typing import Annotated, Any

import typer

from kas.cli.options import DEFAULT_CONFIG, ConfigOption, OutputFormat, OutputOption, load, token_from
from kas.cli.output import print_json
from kas.errors import KasError
from kas.operator_api.door import EXPLAIN, SOCKET

TIMEOUT_S = 30
EXIT_DENIED = 1
_MARKS = {"yes": "yes", "no": "NO", "unknown": "–"}


def explain(
    agent: Annotated[str, typer.Option("--agent", "-a", metavar="AGENT", help="GROUP/PROJECT:NAME, or its id.")],
    verb: Annotated[str, typer.Argument(metavar="[VERB", help="get, list, create, …", show_default=False)] = "",
    resource: Annotated[
        str,
        typer.Argument(
            metavar="RESOURCE[/NAME]]",
            help="pods, deployments/web, pods/exec/web-0, or a path.",
            show_default=False,
        ),
    ] = "",
    namespace: Annotated[str, typer.Option("--namespace", "-n", metavar="NAMESPACE", help="Of the resource.")] = "",
    method: Annotated[str, typer.Option(metavar="METHOD", help="Instead of verb and resource, with --path.")] = "",
    path: Annotated[
        str, typer.Option(metavar="PATH", help="The request's path at the API server, with its query.")
    ] = "",
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", metavar="FILE", help="A file with the job's token; - is standard input."),
    ] = None,
    project: Annotated[
        str | None,
        typer.Option("--project", "-p", metavar="GROUP/PROJECT", help="Instead of a token: describe the job."),
    ] = None,
    issuer: Annotated[str, typer.Option(metavar="NAME", help="Of the described job.")] = "kas",
    claim: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Of the described job, repeatable: ref, ref_type, ref_protected, environment, project_id, group_ids, is_fork, …",
        ),
    ] = None,
    output: OutputOption = OutputFormat.TABLE,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Ask the running kas what each layer says: issuer, claims, rule, limits (`allow`), and the cluster's own rules.

    Exit code 0: allowed; 1: not. Where the rules say no, the smallest entry of ci_access that would say yes is printed.

    ```
    kas explain --agent shop/infrastructure:production --token-file token get pods -n shop
    kas explain -a shop/infrastructure:production --project shop/web --claim ref=main --claim ref_type=branch create pods/exec -n shop
    ```
    """
    question: dict[str, Any] = {
        "agent": agent,
        "verb": verb,
        "resource": resource,
        "namespace": namespace,
        "method": method,
        "path": path,
    }
    if (token_file is None) == (project is None):
        raise typer.BadParameter("either --token-file or --project was expected")
    if token_file is not None:
        question["token"] = token_from(token_file)
    else:
        question["caller"] = {"issuer": issuer, "project": project, **_claims(claim or [])}
    answer = _ask(load(config).state_dir, question)
    if output is OutputFormat.JSON:
        print_json(answer)
    else:
        _print(answer)
    if not answer["allowed"]:
        raise typer.Exit(EXIT_DENIED)


def _claims(given: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for one in given:
        name, is_given, value = one.partition("=")
        if not is_given:
            raise typer.BadParameter(f"--claim {one}: NAME=VALUE was expected")
        if name in ("group_ids", "roles"):
            found.setdefault(name, []).append(value)
        else:
            found[name] = {"true": True, "false": False}.get(value, value)
    return found


def _ask(state_dir: Path, question: dict[str, Any]) -> dict[str, Any]:
    connection = _UnixConnection(state_dir)
    try:
        connection.request("POST", EXPLAIN, json.dumps(question), {"Content-Type": "application/json"})
        reply = connection.getresponse()
        answer: dict[str, Any] = json.loads(reply.read())
    except FileNotFoundError:
        raise KasError(
            f"kas does not run here: there is no {state_dir / SOCKET}; start it, or name its kas.yaml with --config"
        ) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise KasError(
            f"kas cannot be asked at {state_dir / SOCKET}: {error}; does it run, and as this user?"
        ) from error
    finally:
        connection.close()
    if reply.status != http.HTTPStatus.OK:
        raise KasError(f"{answer.get('error', reply.status)}; {answer.get('remedy', '')}")
    return answer


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, state_dir: Path) -> None:
        super().__init__("kas", timeout=TIMEOUT_S)
        self._state_dir = state_dir

    def connect(self) -> None:
        """Through the folder, since addresses of sockets are short."""
        folder = os.open(self._state_dir, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(TIMEOUT_S)
            self.sock.connect(f"/proc/self/fd/{folder}/{SOCKET}")
        finally:
            os.close(folder)


def _print(answer: dict[str, Any]) -> None:
    for layer in answer["layers"]:
        print(f"{layer['layer']:<8} {_MARKS[layer['verdict']]:<4} {layer['said']}")
    print("\nAllowed." if answer["allowed"] else "\nNot allowed.")
    if answer["rule"]:
        print(f"The smallest rule that would allow it, in the agent's configuration:\n\n{answer['rule']}", end="")
