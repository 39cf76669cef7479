"""Where a job's fresh ID token comes from: a file, a variable, GitHub Actions, or a command."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from kas.errors import KasError

MAX_BYTES = 16 * 1024
COMMAND_S = 30
GITHUB_URL = "ACTIONS_ID_TOKEN_REQUEST_URL"
GITHUB_TOKEN = "ACTIONS_ID_TOKEN_REQUEST_TOKEN"  # noqa: S105 - the name of a variable
_TOKEN = re.compile(r"[!-~]+")


class Source(NamedTuple):
    """One of the four; ``what`` is the file, the variable or the command, and ``audience`` is for GitHub alone."""

    kind: str  # "file", "env", "github" or "command"
    what: str = ""
    audience: str = ""

    @property
    def words(self) -> list[str]:
        """The options that name it."""
        if self.kind == "github":
            return ["--github", *(["--audience", self.audience] if self.audience else [])]
        return [f"--token-{self.kind}", self.what]


def fresh(source: Source, environment: Mapping[str, str] = os.environ) -> str:
    """The ID token as it is now. Raises KasError, which never holds a token."""
    token = _READERS[source.kind](source, environment).strip()
    if not _TOKEN.fullmatch(token) or len(token) > MAX_BYTES:
        raise KasError(
            f"{' '.join(source.words[:2])} gives no ID token: what comes from there is empty or something else"
        )
    return token


def identity(source: Source, environment: Mapping[str, str] = os.environ) -> str:
    """What tells the jobs of one machine apart, at no cost: their tokens are never to be taken for each other's. A secret: hash it."""
    if source.kind == "github":
        return environment.get(GITHUB_TOKEN, "")
    return "" if source.kind == "command" else fresh(source, environment)


def _file(source: Source, _environment: Mapping[str, str]) -> str:
    try:
        with Path(source.what).open("rb") as file:
            return file.read(MAX_BYTES + 1).decode("ascii", "replace")
    except OSError as error:
        raise KasError(f"--token-file {source.what} cannot be read: {error.strerror}") from error


def _variable(source: Source, environment: Mapping[str, str]) -> str:
    if source.what not in environment:
        raise KasError(f"--token-env: there is no variable {source.what}; name the one that the job's ID token is in")
    return environment[source.what]


def _command(source: Source, environment: Mapping[str, str]) -> str:
    import shlex
    import subprocess

    try:
        words = shlex.split(source.what)
        done = subprocess.run(  # noqa: S603 - the user's own command, without a shell
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=dict(environment),
            timeout=COMMAND_S,
            check=False,
        )
    except (OSError, ValueError, IndexError) as error:
        raise KasError(f"--token-command cannot be run: {error}") from error
    except subprocess.TimeoutExpired:
        raise KasError(f"--token-command has not ended within {COMMAND_S} s") from None
    if done.returncode != 0:
        raise KasError(f"--token-command ended with {done.returncode}")
    return done.stdout.decode("ascii", "replace")


def _github(source: Source, environment: Mapping[str, str]) -> str:
    """As GitHub's documents say (actions/security-for-github-actions, "Requesting the JWT using environment variables")."""
    import urllib.error
    import urllib.parse
    import urllib.request

    url, secret = environment.get(GITHUB_URL), environment.get(GITHUB_TOKEN)
    if not url or not secret or not url.startswith(("https://", "http://")):
        raise KasError(f"--github: {GITHUB_URL} is not there: give the job `permissions: {{id-token: write}}`")
    if source.audience:
        url += f"{'&' if '?' in url else '?'}audience={urllib.parse.quote(source.audience, safe='')}"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {secret}"})  # noqa: S310 - https or http
    try:
        with _opener().open(request, timeout=COMMAND_S) as answer:
            said: Any = json.loads(answer.read(4 * MAX_BYTES))
    except urllib.error.HTTPError as error:
        error.close()
        raise KasError(f"--github: GitHub answers {error.code} when it is asked for an ID token") from None
    except (OSError, ValueError) as error:
        raise KasError(f"--github: GitHub cannot be asked for an ID token: {type(error).__name__}") from None
    value = said.get("value") if isinstance(said, dict) else None
    return value if isinstance(value, str) else ""


def _opener() -> Any:
    """Follows no redirection: it would take the secret along."""
    import urllib.request

    class Stays(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            return None

    return urllib.request.build_opener(Stays)


_READERS = {"file": _file, "env": _variable, "github": _github, "command": _command}
