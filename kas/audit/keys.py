"""The key of the chain, kept where whoever may write the log cannot read it; and the name of a chain."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from kas.errors import ConfigurationError
from kas.preflight import read_secret

MIN_CHARACTERS = 32


def load_key(path: Path, folder: Path, *, may_create: bool) -> bytes:
    """The key in the file, which is made (mode 0600) if it is missing and ``may_create``. Raises ConfigurationError."""
    if path.resolve().is_relative_to(folder.resolve()):
        raise ConfigurationError(
            f"audit.key_file: {path} lies in audit.folder: whoever can write the log could sign it; keep it elsewhere"
        )
    if may_create:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                print(secrets.token_hex(32), file=file)
        except FileExistsError:
            pass
        except OSError as error:
            raise ConfigurationError(f"audit.key_file: {path} cannot be made: {error.strerror}") from error
    key = read_secret(path, "audit.key_file")
    if len(key) < MIN_CHARACTERS:
        raise ConfigurationError(
            f"audit.key_file: {path} is too short: at least {MIN_CHARACTERS} random characters: openssl rand -hex 32"
        )
    return key.encode()


def instance_of(key: bytes, folder: Path, state_dir: Path) -> str:
    """The name of the chain that this kas writes here, so that no two write one: made for its state directory, and another in each folder.

    Not of the host's name, which a container changes at each start. Raises ConfigurationError.
    """
    path = state_dir / "instance"
    try:
        with suppress(FileExistsError), path.open("x") as file:
            print(secrets.token_hex(16), file=file)
        own = path.read_text("ascii").strip()
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"state_dir: {path} cannot be used: {error}") from error
    return sha256(b"\n".join((key, own.encode(), str(folder.resolve()).encode()))).hexdigest()[:8]
