"""kas credential: what kubectl runs to get a token (client.authentication.k8s.io, "client-go credential plugins")."""

from __future__ import annotations

import argparse
import base64
import binascii
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import gmtime, strftime
from typing import Any

from kas.clock import Clock, system_clock
from kas.credential.cache import Cache, Kept, folder
from kas.credential.id_tokens import Source, fresh, identity
from kas.errors import KasError

CA_DATA = "KAS_CA_DATA"  # base64 of PEM, in the environment that the kubeconfig gives
API_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
EXIT_FAILED = 1
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 24 * 3600}


def main(arguments: Sequence[str]) -> int:
    """Print an ExecCredential, and a secret nowhere else; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        print(exec_credential(options, os.environ, system_clock))
    except KasError as error:
        print(f"kas: {error}", file=sys.stderr)
        return EXIT_FAILED
    return 0


def exec_credential(options: argparse.Namespace, environment: Mapping[str, str], clock: Clock) -> str:
    """The JSON that kubectl reads. Raises KasError."""
    version = _api_version(environment.get("KUBERNETES_EXEC_INFO"))
    kept = job_token(options, environment, clock)
    # kubectl keeps it until then and asks again: earlier than its end, so that what it begins with it has time left.
    until = strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(max(kept.renew_at, clock() + 1)))
    status = {"token": f"ci:{options.agent}:{kept.token}", "expirationTimestamp": until}
    return json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": status})


def job_token(options: argparse.Namespace, environment: Mapping[str, str], clock: Clock) -> Kept:
    """The job token that is kept, or a new one for a fresh ID token. Raises KasError."""
    source = source_of(options)
    cache = cache_of(options, source, environment)
    kept = cache.read()
    if kept is not None and clock() < kept.renew_at:
        return kept
    with cache.alone():
        kept = cache.read()
        if kept is not None and clock() < kept.renew_at:
            return kept
        try:
            new = renewed(options, source, environment, clock)
        except KasError as error:
            if kept is None or clock() + 1 >= kept.expires_at:
                raise
            print(f"kas: the token could not be renewed yet: {error}", file=sys.stderr)
            return kept
        cache.write(new)
        return new


def renewed(options: argparse.Namespace, source: Source, environment: Mapping[str, str], clock: Clock) -> Kept:
    """A new job token for a fresh ID token. Raises KasError."""
    from kas.credential.asking import exchange, trust

    context = trust(options.ca_file, _ca(environment))
    asked_at = clock()
    got = exchange(options.server, fresh(source, environment), context, options.ttl)
    return Kept(got.token, int(asked_at) + got.life_s, got.life_s)


def cache_of(options: argparse.Namespace, source: Source, environment: Mapping[str, str]) -> Cache:
    """One for each server, source and job. A job token is good for every agent that the job may use, so the agent is no part of it."""
    place = Path(options.cache_dir) if options.cache_dir else folder(environment)
    return Cache(place, options.server, *source.words, identity(source, environment), options.session, str(options.ttl))


def source_of(options: argparse.Namespace) -> Source:
    """Where ID tokens come from."""
    if options.github:
        return Source("github", audience=options.audience or "")
    chosen = {"file": options.token_file, "env": options.token_env, "command": options.token_command}
    return next(Source(kind, what) for kind, what in chosen.items() if what is not None)


def _ca(environment: Mapping[str, str]) -> str | None:
    try:
        data = environment.get(CA_DATA)
        return None if data is None else base64.b64decode(data, validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        raise KasError(f"{CA_DATA} is not the base64 of certificates: make the kubeconfig again") from None


def _api_version(info: str | None) -> str:
    if info is None:
        return API_VERSIONS[0]
    try:
        asked: Any = json.loads(info)["apiVersion"]
    except (ValueError, TypeError, KeyError):
        raise KasError("KUBERNETES_EXEC_INFO is not what kubectl would say") from None
    if asked not in API_VERSIONS:
        raise KasError(
            f"kubectl asks for another form of credentials than {' or '.join(API_VERSIONS)}: use kubectl 1.22 or newer"
        )
    return str(asked)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kas credential",
        description="For kubectl, which runs it: prints the job's token, and renews it with a fresh ID token of the job. "
        "`kas kubeconfig --exec` writes the kubeconfig that says so.",
        epilog=f"What it trusts besides the machine's own certificates can stand in {CA_DATA}, as base64 of PEM.",
    )
    add = parser.add_argument
    add("--server", required=True, metavar="URL", help="the management door, https://HOST:PORT")
    add("--agent", required=True, type=_agent, metavar="ID", help="the agent's id")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--token-file", metavar="FILE", help="the ID token is in this file, which is read each time")
    source.add_argument("--token-env", metavar="NAME", help="the ID token is in this variable")
    source.add_argument(
        "--token-command", metavar="COMMAND", help="this command prints a fresh ID token; no shell reads it"
    )
    source.add_argument("--github", action="store_true", help="ask GitHub Actions (or Forgejo) for one")
    add("--audience", metavar="AUDIENCE", help="with --github: whom the ID token is for")
    add("--ca-file", metavar="FILE", help="what to trust instead, PEM")
    add("--ttl", type=_seconds, metavar="DURATION", help="the life of the job token, like 2h; kas decides without it")
    add("--session", default="", metavar="TEXT", help="anything that no other job on this machine says")
    add(
        "--cache-dir", metavar="FOLDER", help="where the token is kept; else $XDG_RUNTIME_DIR, or beside the kubeconfig"
    )
    return parser


def _agent(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,18}", text):
        raise argparse.ArgumentTypeError("an agent's id is a number")
    return int(text)


def _seconds(text: str) -> int:
    form = re.fullmatch(r"([1-9][0-9]{0,8})([smhd]?)", text)
    if form is None:
        raise argparse.ArgumentTypeError("a number with s, m, h or d was expected")
    return int(form[1]) * _UNITS[form[2]]
