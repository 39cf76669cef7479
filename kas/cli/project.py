"""kas project: projects that ask for job tokens by themselves, with a secret of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from kas.cli.options import (
    DEFAULT_CONFIG,
    ConfigOption,
    OutputFormat,
    OutputOption,
    hand_over,
    load,
    optional_seconds,
    seconds,
    with_store,
)
from kas.cli.output import iso, print_json, print_table, status
from kas.store import ClaimableEnvironment, InvalidValue, JobClaims, MayClaim, RegistrationRecord, Store

app = typer.Typer(
    no_args_is_help=True,
    help="Projects that ask for job tokens by themselves, where no forge vouches for their jobs (Jenkins, scripts).",
)

Number = Annotated[int | None, typer.Option(min=1, metavar="NUMBER", help="Its number; access_as: ci_job needs it.")]
Numbers = Annotated[
    list[int] | None,
    typer.Option("--group-id", min=1, metavar="NUMBER", help="Of its group and all groups above, repeatable."),
]
Environments = Annotated[
    list[str] | None,
    typer.Option(
        "--environment",
        metavar="PATTERN[=TIER]",
        help="Environments that its jobs may claim, repeatable: production=production, 'review/*=development'.",
    ),
]
Refs = Annotated[
    list[str] | None,
    typer.Option("--ref", metavar="PATTERN", help="Branches that they may claim, repeatable; tags as 'refs/tags/*'."),
]
Protected = Annotated[bool, typer.Option("--protected", help="They may claim that their ref is protected.")]
MaxTtl = Annotated[str, typer.Option("--max-ttl", metavar="DURATION", help="The longest life of their tokens.")]
Expires = Annotated[
    str | None, typer.Option(metavar="DURATION", help="The secret expires after so long, like 90d; by default never.")
]
SecretFile = Annotated[
    Path | None,
    typer.Option("--token-file", metavar="FILE", help="Write the secret to this new file instead of printing it."),
]


@app.command()
def register(
    project: Annotated[str, typer.Argument(metavar="GROUP/PROJECT", help="The jobs' project.")],
    project_id: Number = None,
    group_id: Numbers = None,
    environment: Environments = None,
    ref: Refs = None,
    protected: Protected = False,
    max_ttl: MaxTtl = "1h",
    expires: Expires = None,
    token_file: SecretFile = None,
    output: OutputOption = OutputFormat.TABLE,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Make a secret with which a project's jobs get tokens, and print it, once.

    Whoever holds it can have a token for any job of this project within these bounds: what is not named here, no job may claim.

    ```
    kas project register shop/web --ref main --protected --environment production=production --token-file secret
    ```
    """
    claims, may_claim = _claims(project, project_id, group_id), _may_claim(environment, ref, protected)
    settings = load(config)
    max_ttl_s, ttl_s = seconds(max_ttl), optional_seconds(expires)
    if max_ttl_s > settings.access.max_job_token_ttl_s:
        limit = f"access.max_job_token_ttl_s ({settings.access.max_job_token_ttl_s:.0f} s)"
        raise InvalidValue(f"--max-ttl {max_ttl} is longer than {limit}")

    async def work(store: Store) -> tuple[RegistrationRecord, str]:
        made: tuple[RegistrationRecord, str] = await store.registrations.create(claims, may_claim, max_ttl_s, ttl_s)
        return made

    record, secret = hand_over(token_file, lambda: with_store(settings, work))
    if output is OutputFormat.JSON:
        print_json(_row(record) | ({"secret": secret} if token_file is None else {"token_file": str(token_file)}))
    elif token_file is None:
        print(secret)
    else:
        print(f"The secret of registration {record.id} of {project} is in {token_file}.")


@app.command("list")
def list_registrations(output: OutputOption = OutputFormat.TABLE, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """List the registrations and what their jobs may claim, revoked and expired ones too (never their secrets)."""
    rows = [_row(one) for one in with_store(load(config), lambda store: store.registrations.list())]
    if output is OutputFormat.JSON:
        print_json(rows)
        return
    columns = {
        "id": "id",
        "project": "project",
        "begins_with": "begins with",
        "status": "status",
        "may_claim": "may claim",
        "last_used_at": "last used",
        "expires_at": "expires",
    }
    shown = [row | {"may_claim": _in_words(row["may_claim"])} for row in rows]
    print_table(shown, columns, "No project is registered: kas project register GROUP/PROJECT")


@app.command()
def revoke(
    registration_id: Annotated[int, typer.Argument(metavar="ID", help="Its id, from `kas project list`.", min=1)],
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Revoke a registration and all job tokens that it got: in force within 5 s, for open streams too."""
    count = with_store(load(config), lambda store: store.registrations.revoke(registration_id))
    print(f"Revoked registration {registration_id}, and {count} job token{'' if count == 1 else 's'} with it.")


def _claims(project: str, project_id: int | None, group_ids: list[int] | None) -> JobClaims:
    claims: JobClaims = {"project": project}
    if project_id is not None:
        claims["project_id"] = str(project_id)
    if group_ids:
        claims["group_ids"] = [str(one) for one in group_ids]
    return claims


def _may_claim(environments: list[str] | None, refs: list[str] | None, protected: bool) -> MayClaim:
    for pattern in refs or ():
        if not pattern:
            raise InvalidValue("--ref is empty: name a branch, or a pattern")
    return {
        "environments": [_environment(text) for text in environments or ()],
        "refs": refs or [],
        "protected": protected,
    }


def _environment(text: str) -> ClaimableEnvironment:
    pattern, equals, tier = text.partition("=")
    if not pattern or (equals and not tier):
        raise InvalidValue(f"--environment {text!r}: PATTERN or PATTERN=TIER was expected")
    return {"pattern": pattern, "tier": tier}


def _in_words(may_claim: MayClaim) -> str:
    environments = [one["pattern"] + (f"={one['tier']}" if one["tier"] else "") for one in may_claim["environments"]]
    parts = [f"refs {' '.join(may_claim['refs'])}" if may_claim["refs"] else ""]
    parts += [
        "protected" if may_claim["protected"] else "",
        f"environments {' '.join(environments)}" if environments else "",
    ]
    return ", ".join(filter(None, parts)) or "nothing"


def _row(record: RegistrationRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "project": record.claims["project"],
        "begins_with": f"kasproject-{record.prefix}",
        "status": status(record),
        "claims": record.claims,
        "may_claim": record.may_claim,
        "max_ttl_s": record.max_ttl_s,
        "created_at": iso(record.created_at),
        "last_used_at": iso(record.last_used_at),
        "expires_at": iso(record.expires_at),
        "revoked_at": iso(record.revoked_at),
    }
