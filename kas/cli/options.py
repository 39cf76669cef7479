"""What several commands share: the option --config, the forms of their values, and how they come by the store."""

from __future__ import annotations

import asyncio
import os
import pwd
import re
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from kas.config import Config, load_config
from kas.errors import ConfigurationError, KasError
from kas.preflight import MAX_SECRET_BYTES, prepare_state_dir, read_secret, refuse_foreign_state
from kas.store import Store, open_store

T = TypeVar("T")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 24 * 3600}


class OutputFormat(StrEnum):
    """For people, or for programs."""

    TABLE = "table"
    JSON = "json"


ConfigOption = Annotated[
    Path,
    typer.Option(
        "--config", "-c", envvar="KAS_CONFIG", help="The configuration file.", show_default=True, metavar="FILE"
    ),
]
OutputOption = Annotated[OutputFormat, typer.Option("--output", "-o", help="For people, or for programs.")]
ProjectOption = Annotated[
    str | None,
    typer.Option(
        "--project",
        "-p",
        help="The agent's project, where several have an agent of that name.",
        metavar="GROUP/PROJECT",
    ),
]
IssuerOption = Annotated[
    str | None,
    typer.Option(
        "--issuer", help="The issuer of the agent's project, where several have such a project.", metavar="NAME"
    ),
]
DEFAULT_CONFIG = Path("kas.yaml")


def with_store(config: Config, work: Callable[[Store], Awaitable[T]]) -> T:
    """The result of ``work``, with the store of this configuration, opened and closed around it."""

    async def main() -> T:
        async with open_store(config.database_url, password=database_password(config), actor=_actor()) as store:
            return await work(store)

    if config.database.url is None:
        refuse_foreign_state(config.state_dir)
        prepare_state_dir(config.state_dir)
    return asyncio.run(main())


def _actor() -> str:
    """Who runs this command, for the audit log: the user of the machine, whoever became root by sudo."""
    name = os.environ.get("SUDO_USER") if os.geteuid() == 0 else None
    try:
        return f"cli:{name or pwd.getpwuid(os.geteuid()).pw_name}"
    except KeyError:
        return f"cli:{os.geteuid()}"


def database_password(config: Config) -> str | None:
    """What the password file holds. Raises ConfigurationError if it cannot be used."""
    path = config.database.password_file
    return None if path is None else read_secret(path, "database.password_file")


def load(path: Path) -> Config:
    """The configuration at ``path``."""
    return load_config(path)


def token_from(path: Path) -> str:
    """The secret in a file, or on standard input for ``-``. Raises ConfigurationError."""
    if str(path) != "-":
        return read_secret(path, "--token-file")
    text = sys.stdin.read(MAX_SECRET_BYTES).strip()
    if not text:
        raise ConfigurationError("--token-file: there was no token on standard input")
    return text


@contextmanager
def secret_file(path: Path) -> Iterator[Callable[[str], None]]:
    """A new file that only this user may read, made before the block and removed if the block fails; write to it once.

    So nothing is made in the store that could then not be handed over. Raises KasError if the file exists or cannot be made.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise KasError(f"{path} cannot be written: {error.strerror}; name a file that does not exist yet") from error
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            yield lambda text: print(text, file=file)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def hand_over(path: Path | None, make: Callable[[], tuple[T, str]]) -> tuple[T, str]:
    """What ``make`` returns, its secret also written to the new file ``path`` if there is one."""
    if path is None:
        return make()
    with secret_file(path) as write:
        made, secret = make()
        write(secret)
    return made, secret


def optional_seconds(text: str | None) -> int | None:
    """As ``seconds``, where the option may be left out."""
    return None if text is None else seconds(text)


def seconds(text: str) -> int:
    """``15m``, ``8h``, ``1d``, ``90s`` or ``90``. Raises typer.BadParameter."""
    form = re.fullmatch(r"([0-9]{1,9})([smhd]?)", text)
    if form is None or int(form[1]) == 0:
        raise typer.BadParameter(f"{text!r} is not a duration: a number with s, m, h or d was expected, like 15m")
    return int(form[1]) * _UNITS[form[2]]
