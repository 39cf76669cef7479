"""kas agent token: a second token, so that one can be rotated without a pause."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from kas.cli.options import (
    DEFAULT_CONFIG,
    ConfigOption,
    OutputFormat,
    OutputOption,
    ProjectOption,
    hand_over,
    load,
    optional_seconds,
    with_store,
)
from kas.cli.output import iso, print_json, print_table, status
from kas.store import AgentRecord, AgentTokenRecord, Store

app = typer.Typer(
    no_args_is_help=True,
    help="Tokens of agents: two active ones at most. To rotate: create, give it to agentk, revoke the old.",
)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The agent's name.")]


@app.command()
def create(
    name: NameArgument,
    project: ProjectOption = None,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", metavar="FILE", help="Write the token to this new file instead of printing it."),
    ] = None,
    expires: Annotated[
        str | None, typer.Option(metavar="DURATION", help="It expires after so long, like 90d; by default never.")
    ] = None,
    output: OutputOption = OutputFormat.TABLE,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Make one more token for an agent and print it, once (only the token, so that it can be piped).

    ```
    kas agent token create production --expires 90d |
        kubectl -n agentk create secret generic agentk-token \\
            --from-file=token=/dev/stdin --dry-run=client -o yaml |
        kubectl apply -f -
    ```

    When it expires, links that use it are cut; kas warns in its log two weeks before.
    """
    ttl_s = optional_seconds(expires)

    async def work(store: Store) -> tuple[tuple[AgentRecord, AgentTokenRecord], str]:
        agent = await store.agents.named(name, project)
        record, token = await store.agent_tokens.create(agent.id, ttl_s)
        return (agent, record), token

    settings = load(config)
    (agent, record), token = hand_over(token_file, lambda: with_store(settings, work))
    if output is OutputFormat.JSON:
        row = token_row(record) | {"agent": agent.context}
        print_json(row | ({"token": token} if token_file is None else {"token_file": str(token_file)}))
    elif token_file is None:
        print(token)
    else:
        print(f"Token {record.id} of {agent.context} is in {token_file}.")


@app.command("list")
def list_tokens(
    name: NameArgument,
    project: ProjectOption = None,
    output: OutputOption = OutputFormat.TABLE,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """List an agent's tokens, revoked and expired ones too (never their secrets)."""

    async def work(store: Store) -> list[AgentTokenRecord]:
        agent = await store.agents.named(name, project)
        tokens: list[AgentTokenRecord] = await store.agent_tokens.list(agent.id)
        return tokens

    tokens = with_store(load(config), work)
    if output is OutputFormat.JSON:
        print_json([token_row(token) for token in tokens])
    else:
        print_tokens(tokens)


@app.command()
def revoke(
    token_id: Annotated[
        int, typer.Argument(metavar="ID", help="The token's id, from `kas agent token list NAME`.", min=1)
    ],
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Revoke a token: links that use it are cut within 5 s."""
    token = with_store(load(config), lambda store: store.agent_tokens.revoke(token_id))
    print(f"Revoked token {token.id} (it begins with kasagent-{token.prefix}).")


def token_row(token: AgentTokenRecord) -> dict[str, Any]:
    """A token as it is listed."""
    return {
        "id": token.id,
        "begins_with": f"kasagent-{token.prefix}",
        "status": status(token),
        "created_at": iso(token.created_at),
        "last_used_at": iso(token.last_used_at),
        "expires_at": iso(token.expires_at),
        "revoked_at": iso(token.revoked_at),
    }


def print_tokens(tokens: Sequence[AgentTokenRecord]) -> None:
    """As a table."""
    columns = {
        "id": "token id",
        "begins_with": "begins with",
        "status": "status",
        "created_at": "created",
        "last_used_at": "last used",
        "expires_at": "expires",
    }
    print_table(
        [token_row(token) for token in tokens], columns, "This agent has no tokens: kas agent token create NAME"
    )
