"""kas audit: is the log whole and unchanged, and what does it say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from kas.audit.chain import Head
from kas.audit.keys import load_key
from kas.audit.verifying import SignedHead, records, verify
from kas.cli.options import DEFAULT_CONFIG, ConfigOption, OutputFormat, OutputOption, load, seconds, with_store
from kas.cli.output import print_json, print_table
from kas.clock import system_clock
from kas.config import Config
from kas.errors import KasError
from kas.store import Store

app = typer.Typer(no_args_is_help=True, help="The audit log: one record for each request and each administrative act.")

FolderOption = Annotated[
    Path | None,
    typer.Option("--folder", metavar="FOLDER", help="Look here instead of at audit.folder, at a copy for example."),
]
EXIT_TAMPERED = 1


@app.command("verify")
def verify_log(folder: FolderOption = None, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Find a record that was changed, removed, moved or cut off. Exit code 0: every record is as kas wrote it.

    Needs the key (audit.key_file) and the database, where the heads are. Run it while kas runs, too.
    """
    settings = load(config)
    place = _folder(settings, folder)
    key = load_key(settings.audit_key_file, place, may_create=False)

    async def heads(store: Store) -> list[SignedHead]:
        listed = await store.audit_heads.list()
        return [SignedHead(one.instance, Head(one.seq, one.mac), one.signature) for one in listed]

    try:
        verdict = verify(place, key, with_store(settings, heads))
    except OSError as error:
        raise KasError(f"{place} cannot be read: {error.strerror}") from error
    for one in (*verdict.removed, *verdict.findings):
        print(one)
    if verdict.findings:
        raise typer.Exit(EXIT_TAMPERED)
    print(f"All {verdict.records} records in {place} are as kas wrote them.")


@app.command()
def query(
    project: Annotated[
        str | None, typer.Option("--project", "-p", metavar="GROUP/PROJECT", help="Only of this project.")
    ] = None,
    agent: Annotated[
        str | None, typer.Option("--agent", metavar="AGENT", help="Only for this agent: its id, or GROUP/PROJECT:NAME.")
    ] = None,
    job: Annotated[str | None, typer.Option("--job", metavar="ID", help="Only of this job.")] = None,
    user: Annotated[str | None, typer.Option("--user", metavar="NAME", help="Only of this user.")] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help="From then on: 2h, 7d, 2027-01-31 or 2027-01-31T08:00:00Z."),
    ] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="Before then.")] = None,
    denied: Annotated[bool, typer.Option("--denied", help="Only what kas refused.")] = False,
    changes_after: Annotated[
        int | None,
        typer.Option("--changes-after", metavar="NUMBER", min=0, help="Only acts whose change has a greater number."),
    ] = None,
    folder: FolderOption = None,
    output: OutputOption = OutputFormat.TABLE,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Print records, oldest first. Does not look whether they are genuine: see verify."""
    place = _folder(load(config), folder)
    times = _moment(since, "--since"), _moment(until, "--until")
    wanted = _filter(project, agent, job, user, *times, denied, changes_after)
    try:
        found = filter(wanted, records(place))
        if output is OutputFormat.JSON:
            print_json(list(found))
            return
        columns = {"time": "time", "project": "project", "job": "job", "agent": "agent", "acts_as": "acts as"}
        columns |= {"did": "did", "outcome": "outcome", "status": "status", "reason": "reason"}
        # An act has no project, and a start of kas no agent.
        rows = [{**dict.fromkeys(columns), **one, "did": _did(one)} for one in found]
        print_table(rows, columns, "No record is like that.")
    except OSError as error:
        raise KasError(f"{place} cannot be read: {error.strerror}") from error


def _folder(config: Config, folder: Path | None) -> Path:
    return folder or config.audit_folder


def _filter(
    project: str | None,
    agent: str | None,
    job: str | None,
    user: str | None,
    since: str,
    until: str,
    denied: bool,
    changes_after: int | None,
) -> Callable[[Mapping[str, Any]], bool]:
    exact = {name: value for name, value in (("project", project), ("job", job), ("user", user)) if value is not None}
    key = "agent_id" if agent is not None and agent.isdigit() else "agent"

    def is_wanted(record: Mapping[str, Any]) -> bool:
        time = str(record.get("time", ""))
        return (
            all(record.get(name) == value for name, value in exact.items())
            and (agent is None or str(record.get(key)) == agent)
            and (not since or time >= since)
            and (not until or time < until)
            and (not denied or record.get("outcome") == "refused")
            and (changes_after is None or ("subject" in record and record["change"] > changes_after))
        )

    return is_wanted


def _moment(text: str | None, option: str) -> str:
    """As records say it, so that texts can be compared; empty for none."""
    if text is None:
        return ""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        try:
            moment = datetime.fromtimestamp(system_clock(), UTC) - timedelta(seconds=seconds(text))
        except typer.BadParameter:
            raise typer.BadParameter(
                f"{option}: a time was expected: 2h, 7d, 2027-01-31 or 2027-01-31T08:00:00Z"
            ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _did(record: Mapping[str, Any]) -> str:
    """What happened, in a few words."""
    if "subject" in record:
        return f"{record['event']} {record['subject']}"
    if "verb" not in record:
        return f"{record.get('method', '')} {record.get('path', '')}".strip() or str(record.get("event", ""))
    kind = "/".join(str(record[name]) for name in ("resource", "subresource") if name in record)
    where = "/".join(str(record[name]) for name in ("namespace", "name") if name in record)
    return f"{record['verb']} {kind} {where}".strip()
