"""kas job-token: tokens for jobs where no forge vouches for them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from kas.cli.options import (
    DEFAULT_CONFIG,
    ConfigOption,
    OutputFormat,
    OutputOption,
    load,
    seconds,
    token_from,
    with_store,
)
from kas.cli.output import iso, print_json, print_table
from kas.config import Config
from kas.errors import KasError
from kas.store import InvalidValue, JobClaims, JobTokenRecord, Store

app = typer.Typer(no_args_is_help=True, help="Tokens for jobs, where no forge vouches for them.")


def _number(text: str) -> Any:
    return typer.Option(min=1, metavar="NUMBER", help=text)


def _words(metavar: str, text: str) -> Any:
    return typer.Option(metavar=metavar, help=text)


Project = Annotated[str, typer.Option("--project", "-p", metavar="GROUP/PROJECT", help="The job's project.")]
ProjectId = Annotated[int | None, _number("Its number; access_as: ci_job needs it.")]
GroupIds = Annotated[
    list[int] | None,
    typer.Option(
        "--group-id",
        min=1,
        metavar="NUMBER",
        help="The numbers of its group and all groups above, repeatable; access_as: ci_job needs them.",
    ),
]
Ref = Annotated[str | None, _words("REF", "The branch that the job runs for, or with --tag the tag.")]
IsTag = Annotated[bool, typer.Option("--tag", help="The ref is a tag.")]
Protected = Annotated[
    bool | None,
    typer.Option("--protected/--not-protected", help="Whether that ref is protected.", show_default=False),
]
EnvironmentName = Annotated[str | None, _words("NAME", "The environment that the job deploys to.")]
EnvironmentSlug = Annotated[str | None, _words("SLUG", "Its short name.")]
EnvironmentTier = Annotated[str | None, _words("TIER", "Its tier, like production.")]
PipelineId = Annotated[int | None, _number("The pipeline's number; access_as: ci_job needs it.")]
JobId = Annotated[int | None, _number("The job's number; access_as: ci_job needs it.")]
User = Annotated[str | None, _words("NAME", "Who started the job; access_as: ci_job needs it.")]
UserId = Annotated[int | None, _number("Their number.")]
Ttl = Annotated[str, typer.Option(metavar="DURATION", help="How long it is in force: 90s, 15m, 8h.")]


@app.command()
def issue(
    project: Project,
    project_id: ProjectId = None,
    group_id: GroupIds = None,
    ref: Ref = None,
    tag: IsTag = False,
    protected: Protected = None,
    environment: EnvironmentName = None,
    environment_slug: EnvironmentSlug = None,
    environment_tier: EnvironmentTier = None,
    pipeline_id: PipelineId = None,
    job_id: JobId = None,
    user: User = None,
    user_id: UserId = None,
    ttl: Ttl = "15m",
    output: OutputOption = OutputFormat.TABLE,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Make a token for a job and print it: only the token, so that it can go into a file or a variable.

    What access_as: ci_job needs and the token lacks is a denial, never an empty group.

    ```
    umask 077
    kas job-token issue --project shop/web --ref main --protected > token
    kas kubeconfig --token-file token > kubeconfig
    ```
    """
    claims = _claims(
        project=project,
        project_id=_text(project_id),
        group_ids=[str(one) for one in group_id] if group_id else None,
        ref=ref,
        ref_type=None if ref is None else "tag" if tag else "branch",
        ref_protected=protected,
        environment=_environment(environment, environment_slug, environment_tier),
        pipeline_id=_text(pipeline_id),
        job_id=_text(job_id),
        username=user,
        user_id=_text(user_id),
    )
    token, record = _issue(load(config), claims, ttl)
    if output is OutputFormat.JSON:
        print_json(_row(record) | {"claims": record.claims, "token": token})
    else:
        print(token)


def _issue(settings: Config, claims: JobClaims, ttl: str) -> tuple[str, JobTokenRecord]:
    ttl_s = seconds(ttl)
    if ttl_s > settings.access.max_job_token_ttl_s:
        raise InvalidValue(
            f"--ttl {ttl} is longer than access.max_job_token_ttl_s ({settings.access.max_job_token_ttl_s:.0f} s)"
        )

    async def work(store: Store) -> tuple[str, JobTokenRecord]:
        record, token = await store.job_tokens.create(claims, ttl_s)
        return token, record

    return with_store(settings, work)


@app.command("list")
def list_tokens(output: OutputOption = OutputFormat.TABLE, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """List the job tokens that are in force (never their secrets)."""
    tokens = with_store(load(config), lambda store: store.job_tokens.list())
    if output is OutputFormat.JSON:
        print_json([_row(token) | {"claims": token.claims} for token in tokens])
        return
    rows = [_row(token) | {"job": token.claims.get("job_id"), "ref": token.claims.get("ref")} for token in tokens]
    columns = {"id": "token id", "project": "project", "ref": "ref", "job": "job", "expires_at": "expires"}
    print_table(rows, columns, "No job token is in force.")


@app.command()
def revoke(
    token_id: Annotated[
        int | None, typer.Argument(metavar="[ID]", help="Its id, from `kas job-token list`.", min=1)
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", metavar="FILE", help="Or a file with the token itself; - is standard input."),
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Revoke a job token: in force within 5 s, for open streams too."""
    if (token_id is None) == (token_file is None):
        raise typer.BadParameter("either ID or --token-file was expected")
    secret = b"" if token_file is None else token_from(token_file).encode()

    async def work(store: Store) -> int:
        found = token_id
        if found is None:
            record = await store.job_tokens.find(secret)
            if record is None:
                raise KasError("this token is not in force: nothing to revoke")
            found = int(record.id)
        await store.job_tokens.revoke(found)
        return found

    print(f"Revoked job token {with_store(load(config), work)}.")


def _environment(name: str | None, slug: str | None, tier: str | None) -> dict[str, str] | None:
    if name is None:
        if slug is not None or tier is not None:
            raise typer.BadParameter("--environment-slug and --environment-tier need --environment")
        return None
    return {key: value for key, value in (("name", name), ("slug", slug), ("tier", tier)) if value is not None}


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)


def _claims(**claims: Any) -> JobClaims:
    known: Any = {key: value for key, value in claims.items() if value is not None}
    for key, value in known.items():
        if value == "":
            raise InvalidValue(f"the claim {key} is empty: leave the option out where it is not known")
    result: JobClaims = known
    return result


def _row(token: JobTokenRecord) -> dict[str, Any]:
    return {
        "id": token.id,
        "project": token.claims["project"],
        "created_at": iso(token.created_at),
        "expires_at": iso(token.expires_at),
    }
