"""kas kubeconfig: what a job fetches with curl, for people who would rather not remember the line."""

from __future__ import annotations

import http.client
import json
import ssl
from pathlib import Path
from typing import Annotated

import typer

from kas.addresses import ExternalUrl
from kas.certificates import Certificates
from kas.cli.options import DEFAULT_CONFIG, ConfigOption, load, token_from
from kas.clock import system_clock
from kas.errors import ConfigurationError, KasError, Unauthenticated

PATH = "/kas/v1/kubeconfig"
TIMEOUT_S = 15
MAX_BYTES = 16 * 1024 * 1024  # a kubeconfig with a context for each of thousands of agents


def kubeconfig(
    token_file: Annotated[
        Path, typer.Option("--token-file", metavar="FILE", help="A file with the job's token; - is standard input.")
    ],
    server: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="The management door; by default management_api.external_url of the configuration."
        ),
    ] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option(
            "--ca-file", metavar="FILE", help="What to trust; by default kas's own CA, with --server the machine's."
        ),
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Print the kubeconfig of a job: one context GROUP/PROJECT:NAME for each agent that it may use.

    With --server no configuration is needed, so it works on any machine. The same with curl, where the file `header` holds
    `Authorization: Bearer TOKEN`, so that no other user of the machine sees the token:

    ```
    curl -fsS --cacert ca.crt -H @header \\
        https://kas.example.com:8153/kas/v1/kubeconfig > kubeconfig
    ```

    The result holds the job's token: keep it private (`umask 077`).
    """
    token = token_from(token_file)
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigurationError("--token-file: this is not a token")
    url, ca = _server(server, config)
    typer.echo(fetch(url, token, _context(ca_file, ca)), nl=False)


def fetch(url: ExternalUrl, token: str, context: ssl.SSLContext) -> str:
    """The kubeconfig. Raises KasError in words that say what to do."""
    connection = http.client.HTTPSConnection(url.host, url.port, timeout=TIMEOUT_S, context=context)
    try:
        connection.request("GET", PATH, headers={"Authorization": f"Bearer {token}", "Accept": "application/yaml"})
        answer = connection.getresponse()
        body = answer.read(MAX_BYTES + 1)
    except ssl.SSLCertVerificationError as error:
        raise KasError(f"{url} is not trusted: {error.verify_message}; name kas's ca.crt with --ca-file") from error
    except ssl.SSLError as error:
        raise KasError(f"{url} does not speak TLS as expected: {error.reason}; is this the management door?") from error
    except (OSError, http.client.HTTPException) as error:
        raise KasError(f"{url} cannot be reached: {_reason(error)}; check that kas runs, and --server") from error
    finally:
        connection.close()
    return answered(url, answer.status, body)


def answered(url: ExternalUrl, status: int, body: bytes) -> str:
    """The kubeconfig in an answer. Raises KasError for any other answer."""
    text = body.decode("utf-8", "replace")
    if status == http.HTTPStatus.OK and len(body) <= MAX_BYTES and "kind: Config" in text:
        return text
    if status == http.HTTPStatus.UNAUTHORIZED:
        raise Unauthenticated(f"{url} refuses the token: it is unknown, expired or revoked; take a fresh one")
    if status == http.HTTPStatus.OK:
        raise KasError(f"{url} answers with something else than a kubeconfig: is this the management door?")
    raise KasError(f"{url} answers {status}{_said(text)}")


def _said(text: str) -> str:
    """The door's own words, if it is the door: one line of JSON with error and remedy."""
    try:
        answer = json.loads(text)
        said = f": {answer['error']} {answer['remedy']}"
    except (ValueError, TypeError, KeyError):
        return ", not as the management door would: check --server"
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
    if ca_file is not None:
        try:
            return ssl.create_default_context(cafile=str(ca_file))
        except ssl.SSLError:
            raise ConfigurationError(f"--ca-file: {ca_file} holds no certificate in PEM form") from None
        except OSError as error:
            raise ConfigurationError(f"--ca-file: {ca_file} cannot be read: {error.strerror}") from error
    return ssl.create_default_context(cadata=None if ca is None else ca.decode())


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text[:1].lower() + text[1:]
