"""kas kubeconfig: what a job fetches with curl, for people who would rather not remember the line."""

from __future__ import annotations

import argparse
import base64
import json
import os
import secrets
import ssl
import sys
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

import typer

from kas.addresses import ExternalUrl
from kas.certificates import Certificates
from kas.cli.options import DEFAULT_CONFIG, ConfigOption, load, optional_seconds, token_from
from kas.clock import system_clock
from kas.credential import asking, id_tokens, plugin
from kas.credential.cache import Kept
from kas.errors import ConfigurationError, KasError, Unauthenticated

PATH = "/kas/v1/kubeconfig"
MAX_BYTES = 16 * 1024 * 1024  # a kubeconfig with a context for each of thousands of agents
_EXEC_HINT = "# Made for one job; kubectl runs `kas credential`, which renews the job's token with a fresh ID token.\n"

TokenFile = Annotated[
    Path | None,
    typer.Option("--token-file", metavar="FILE", help="A file with the job's token; - is standard input."),
]
TokenEnv = Annotated[str | None, typer.Option("--token-env", metavar="NAME", help="Or a variable that holds it.")]
TokenCommand = Annotated[
    str | None, typer.Option("--token-command", metavar="COMMAND", help="Or a command that prints a fresh ID token.")
]
Github = Annotated[bool, typer.Option("--github", help="Or GitHub Actions (or Forgejo), asked for an ID token.")]
Audience = Annotated[str | None, typer.Option(metavar="AUDIENCE", help="With --github: whom the ID token is for.")]
Server = Annotated[
    str | None,
    typer.Option(
        metavar="URL", help="The management door; by default management_api.external_url of the configuration."
    ),
]
CaFile = Annotated[
    Path | None,
    typer.Option(
        "--ca-file", metavar="FILE", help="What to trust; by default kas's own CA, with --server the machine's."
    ),
]
Exec = Annotated[
    bool,
    typer.Option(
        "--exec", help="For long jobs: kubectl renews the token by itself, with a fresh ID token from the same place."
    ),
]
Ttl = Annotated[
    str | None, typer.Option(metavar="DURATION", help="With --exec: the life of each token; kas decides without it.")
]


def kubeconfig(
    token_file: TokenFile = None,
    token_env: TokenEnv = None,
    token_command: TokenCommand = None,
    github: Github = False,
    audience: Audience = None,
    exec_: Exec = False,
    ttl: Ttl = None,
    server: Server = None,
    ca_file: CaFile = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Print the kubeconfig of a job: one context GROUP/PROJECT:NAME for each agent that it may use.

    With --server no configuration is needed, so it works on any machine. The same with curl, where the file `header` holds
    `Authorization: Bearer TOKEN`, so that no other user of the machine sees the token:

    ```
    curl -fsS --cacert ca.crt -H @header \\
        https://kas.example.com:8153/kas/v1/kubeconfig > kubeconfig
    ```

    The result holds the job's token, or with --exec where to get it: keep it private (`umask 077`).
    """
    source = _source(token_file, token_env, token_command, github, audience)
    if source.kind == "file" and (exec_ and source.what == "-"):
        raise typer.BadParameter("--exec reads the ID token again and again: name a file, not standard input")
    ttl_s = optional_seconds(ttl)
    if ttl_s is not None and not exec_:
        raise typer.BadParameter("--ttl goes with --exec: without it the token is in force for as long as kas says")
    token = token_from(Path(source.what)) if source.kind == "file" and not exec_ else id_tokens.fresh(source)
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigurationError(f"{source.words[0]}: this is not a token")
    url, ca = _server(server, config)
    context = _context(ca_file, ca)
    if exec_:
        pem = ca_file.read_text() if ca_file is not None else None if ca is None else ca.decode()
        typer.echo(_with_exec(url, token, context, source, ttl_s, pem), nl=False)
    else:
        typer.echo(fetch(url, token, context), nl=False)


def fetch(url: ExternalUrl, token: str, context: ssl.SSLContext) -> str:
    """The kubeconfig. Raises KasError in words that say what to do."""
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/yaml"}
    return answered(url, *asking.ask(str(url), "GET", PATH, context, headers, max_bytes=MAX_BYTES))


def answered(url: ExternalUrl, status: int, body: bytes) -> str:
    """The kubeconfig in an answer. Raises KasError for any other answer."""
    text = body.decode("utf-8", "replace")
    if status == HTTPStatus.OK and len(body) <= MAX_BYTES and "kind: Config" in text:
        return text
    said = _said(text)
    if status == HTTPStatus.UNAUTHORIZED:
        raise Unauthenticated(
            f"{url} refuses the token{said or ': it is unknown, expired or revoked; take a fresh one'}"
        )
    if status == HTTPStatus.OK:
        raise KasError(f"{url} answers with something else than a kubeconfig: is this the management door?")
    raise KasError(
        f"{url} answers {status}{', not as the management door would: check --server' if said is None else said}"
    )


def _with_exec(
    url: ExternalUrl,
    id_token: str,
    context: ssl.SSLContext,
    source: id_tokens.Source,
    ttl_s: int | None,
    ca: str | None,
) -> str:
    """The kubeconfig with the plugin in place of the token, which is kept where the plugin looks first."""
    if source.kind == "file":
        source = source._replace(what=str(Path(source.what).absolute()))
    asked_at = int(system_clock())
    got = asking.exchange(str(url), id_token, context, ttl_s)
    session = secrets.token_hex(8)
    options = argparse.Namespace(server=str(url), session=session, ttl=ttl_s, cache_dir=None)
    text = fetch(url, got.token, context)
    plugin.cache_of(options, source, os.environ).write(Kept(got.token, asked_at + got.life_s, got.life_s))
    words = ["--server", str(url), "--session", session, *source.words]
    return with_plugin(text, [*words, *(["--ttl", str(ttl_s)] if ttl_s is not None else [])], ca)


def with_plugin(kubeconfig: str, words: list[str], ca: str | None) -> str:
    """``kubeconfig`` with users that run ``kas credential WORDS`` instead of holding a token. ``ca``: PEM, given to it."""
    import yaml

    document = yaml.safe_load(kubeconfig)
    environment = [{"name": plugin.CA_DATA, "value": base64.b64encode(ca.encode()).decode()}] if ca else []
    for user in document["users"]:
        agent_id = user["user"].pop("token").split(":")[1]
        user["user"]["exec"] = {
            "apiVersion": plugin.API_VERSIONS[0],
            "command": str(Path(sys.argv[0]).absolute()),
            "args": ["credential", "--agent", agent_id, *words],
            "env": environment,
            "interactiveMode": "Never",
            "installHint": "kas is not where it was when this kubeconfig was made: see docs/issuers.md, Long jobs",
        }
    return _EXEC_HINT + str(yaml.safe_dump(document, sort_keys=False, width=1 << 20))


def _source(
    file: Path | None, variable: str | None, command: str | None, github: bool, audience: str | None
) -> id_tokens.Source:
    given: dict[str, Any] = {"file": file, "env": variable, "command": command, "github": github or None}
    chosen = [(kind, what) for kind, what in given.items() if what is not None]
    if len(chosen) != 1:
        raise typer.BadParameter("one of --token-file, --token-env, --token-command and --github was expected")
    ((kind, what),) = chosen
    if kind == "github":
        return id_tokens.Source("github", audience=audience or "")
    return id_tokens.Source(kind, str(what))


def _said(text: str) -> str | None:
    """The door's own words: one line of JSON with error and remedy. None: it is not the door."""
    try:
        answer = json.loads(text)
        said = f": {answer['error']} {answer['remedy']}"
    except (ValueError, TypeError, KeyError):
        return None
    return said if said.isprintable() else ""


def _server(server: str | None, config: Path) -> tuple[ExternalUrl, bytes | None]:
    """The URL, and the CA that the configuration on this machine knows for it."""
    if server is not None:
        try:
            return ExternalUrl.parse(server, "https"), None
        except ValueError as error:
            raise typer.BadParameter(f"--server: {error}") from None
    settings = load(config)
    return settings.management_api.external_url, Certificates(settings, system_clock).client_ca("management_api")


def _context(ca_file: Path | None, ca: bytes | None) -> ssl.SSLContext:
    try:
        return asking.trust(None if ca_file is None else str(ca_file), None if ca is None else ca.decode())
    except KasError as error:
        raise ConfigurationError(f"--ca-file: {str(error).removeprefix('--ca-file: ')}") from error
