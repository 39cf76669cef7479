"""kas agent: register, list, show and delete agents; manifest; their tokens."""

from __future__ import annotations

import asyncio
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from kas.access.caller import OWN_ISSUER
from kas.agent_config.reading import Reading, read_configuration
from kas.agent_config.repositories.configured import ConfiguredRepositories
from kas.certificates import Certificates
from kas.cli import agent_token
from kas.cli.manifest import ManifestOptions, Role, render
from kas.cli.options import (
    DEFAULT_CONFIG,
    ConfigOption,
    IssuerOption,
    OutputFormat,
    OutputOption,
    ProjectOption,
    hand_over,
    load,
    token_from,
    with_store,
)
from kas.cli.output import iso, print_json, print_record, print_table
from kas.clock import system_clock
from kas.config import Config
from kas.outbound import Outbound
from kas.preflight import refuse_foreign_state
from kas.store import AgentRecord, AgentTokenRecord, Store

app = typer.Typer(no_args_is_help=True, help="Agents: one for each cluster that jobs may reach.")
app.add_typer(agent_token.app, name="token")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The agent's name.")]


@app.command()
def register(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Lower-case letters, digits and '-'; at most 63.")],
    project: Annotated[
        str,
        typer.Option("--project", "-p", metavar="GROUP/PROJECT", help="Where its .gitlab/agents/NAME/config.yaml is."),
    ],
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", metavar="FILE", help="Write the token to this new file instead of printing it."),
    ] = None,
    issuer: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Whose project that is: an issuer of kas.yaml; kas is none of them, but kas itself."
        ),
    ] = OWN_ISSUER,
    forge_id: Annotated[
        str,
        typer.Option(
            "--forge-id", metavar="ID", help="GitLab's own id of this agent: then GitLab must let a job use it, too."
        ),
    ] = "",
    output: OutputOption = OutputFormat.TABLE,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Record a new agent and print its token, once, with how to install agentk.

    ```
    kas agent register production --project shop/infrastructure
    ```
    """
    settings = load(config)
    _check_issuer(settings, issuer, forge_id)
    _client_ca(settings)  # what cannot be used is told before anything is registered
    agent, token = hand_over(
        token_file,
        lambda: with_store(
            settings, lambda store: store.agents.register(project, name, issuer=issuer, forge_id=forge_id)
        ),
    )
    record: dict[str, Any] = {**_agent(agent), "kas_address": str(settings.agent_api.external_url)}
    if output is OutputFormat.JSON:
        print_json(record | ({"token": token} if token_file is None else {"token_file": str(token_file)}))
        return
    print(f"Registered {agent.context} (agent id {agent.id}).\n")
    if token_file is None:
        print(f"Its token, shown this once:\n\n    {token}\n")
    print(_instructions(agent, settings, token_file, config))
    _warn_of_loopback(settings)


@app.command()
def manifest(
    name: NameArgument,
    project: ProjectOption = None,
    issuer: IssuerOption = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            metavar="FILE",
            help="Put this token into a Secret; - is standard input. Without it the Secret is expected.",
        ),
    ] = None,
    namespace: Annotated[str, typer.Option(metavar="NAMESPACE", help="Where agentk runs; created.")] = "agentk",
    role: Annotated[Role, typer.Option(help="What agentk may do in the cluster; see above.")] = Role.READ_ONLY,
    deploy_namespace: Annotated[
        list[str] | None,
        typer.Option(metavar="NAMESPACE", help="For namespace-deployer, repeatable: where it may deploy; must exist."),
    ] = None,
    image: Annotated[
        str | None, typer.Option(metavar="IMAGE", help="The image of agentk; by default agentk at this version.")
    ] = None,
    kas_address: Annotated[
        str | None, typer.Option(metavar="URL", help="What agentk dials; by default agent_api.external_url.")
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Print what kubectl needs to install agentk in a cluster.

    Roles, least first:

    - **none**: nothing. For access_as: ci_job or impersonate, with a file of deploy/rbac/impersonate-….
    - **read-only**: the cluster role view; no secrets, no changes, no exec.
    - **namespace-deployer**: workloads, services, secrets, logs and exec in each --deploy-namespace.
    - **cluster-admin**: everything; every job that may use the agent as itself owns the cluster.

    ```
    kas agent manifest production --token-file token | kubectl apply -f -
    ```
    """
    if role is Role.NAMESPACE_DEPLOYER and not deploy_namespace:
        raise typer.BadParameter("namespace-deployer needs at least one --deploy-namespace")
    settings = load(config)
    token = None if token_file is None else token_from(token_file)
    agent = with_store(settings, lambda store: store.agents.named(name, project, issuer))
    ca = _client_ca(settings)
    if kas_address is None:
        _warn_of_loopback(settings)
    options = ManifestOptions(
        agent=agent.context,
        kas_address=kas_address or str(settings.agent_api.external_url),
        namespace=namespace,
        role=role,
        deploy_namespaces=tuple(deploy_namespace or ()),
        image=image,
        token=token,
        ca_certificate=None if ca is None else ca.decode(),
    )
    typer.echo(render(options), nl=False)


@app.command("list")
def list_agents(
    project: Annotated[
        str | None, typer.Option("--project", "-p", metavar="GROUP/PROJECT", help="Only those of this project.")
    ] = None,
    output: OutputOption = OutputFormat.TABLE,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """List the agents, with when a token of each was last used."""

    async def both(store: Store) -> tuple[list[AgentRecord], list[AgentTokenRecord]]:
        return await store.agents.list(project), await store.agent_tokens.active()

    agents, tokens = with_store(load(config), both)
    rows = [_agent(agent) | _token_summary([one for one in tokens if one.agent_id == agent.id]) for agent in agents]
    if output is OutputFormat.JSON:
        print_json(rows)
        return
    columns = {
        "id": "id",
        "issuer": "issuer",
        "project": "project",
        "name": "name",
        "active_tokens": "tokens",
        "last_used_at": "last used",
    }
    print_table(rows, columns, "There are no agents: kas agent register NAME --project GROUP/PROJECT")


@app.command()
def show(
    name: NameArgument,
    project: ProjectOption = None,
    issuer: IssuerOption = None,
    output: OutputOption = OutputFormat.TABLE,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Show one agent, its tokens (never their secrets), and what is wrong with its configuration file.

    The file is read here and now; the server may be a few seconds behind.
    """

    async def both(store: Store) -> tuple[AgentRecord, list[AgentTokenRecord]]:
        agent = await store.agents.named(name, project, issuer)
        return agent, await store.agent_tokens.list(agent.id)

    settings = load(config)
    agent, tokens = with_store(settings, both)
    record = _agent(agent) | {
        "kas_address": str(settings.agent_api.external_url),
        "kubernetes_api": f"{settings.kubernetes_api.external_url}/agents/{agent.id}",
    }
    reading = asyncio.run(_read(settings, agent))
    if reading is not None:
        record |= _configuration(reading)
    if output is OutputFormat.JSON:
        print_json(record | {"tokens": [agent_token.token_row(token) for token in tokens]})
        return
    labels = {
        "context": "Agent",
        "id": "Id",
        "issuer": "Issuer",
        "forge_id": "Id at the forge",
        "created_at": "Registered",
        "kas_address": "agentk dials",
        "kubernetes_api": "kubectl's server",
        "configuration_file": "Configuration",
        "configuration": "It says",
    }
    print_record(record, labels)
    print()
    agent_token.print_tokens(tokens)


@app.command()
def delete(
    name: NameArgument,
    project: ProjectOption = None,
    issuer: IssuerOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Delete an agent: its tokens are revoked and its links cut within 5 s. Its id is never used again."""

    async def work(store: Store) -> AgentRecord:
        agent: AgentRecord = await store.agents.named(name, project, issuer)
        await store.agents.delete(agent.id)
        return agent

    agent = with_store(load(config), work)
    print(
        f"Deleted {agent.context} (agent id {agent.id}) and revoked its tokens. Remove agentk from the cluster yourself."
    )


async def _read(config: Config, agent: AgentRecord) -> Reading | None:
    async with Outbound() as outbound:
        repositories = ConfiguredRepositories(
            config.configuration_repositories, outbound, config.state_dir / "repositories"
        )
        repositories.use(asyncio.get_running_loop())
        return await asyncio.to_thread(
            read_configuration,
            repositories,
            agent.project,
            agent.name,
            issuer=agent.issuer,
            allow_system_identities=config.access.allow_system_identities,
        )


def _check_issuer(config: Config, issuer: str, forge_id: str) -> None:
    known = [OWN_ISSUER, *(one.name for one in config.issuers)]
    if issuer not in known:
        raise typer.BadParameter(f"--issuer: kas.yaml has no issuer {issuer!r}, only {', '.join(known)}")
    if forge_id and not (forge_id.isascii() and forge_id.isdigit() and len(forge_id) < 20):
        raise typer.BadParameter("--forge-id: the number of the agent in GitLab was expected")


def _agent(agent: AgentRecord) -> dict[str, Any]:
    return {
        "id": agent.id,
        "issuer": agent.issuer,
        "forge_id": agent.forge_id or None,
        "project": agent.project,
        "name": agent.name,
        "context": agent.context,
        "created_at": iso(agent.created_at),
    }


def _configuration(reading: Reading) -> dict[str, Any]:
    """Where the configuration file is, and what it says or what is wrong with it."""
    if not reading.repository:
        said = "no repository is configured for the project: only its own jobs have access"
    elif reading.problem is not None:
        said = f"not in force: {reading.problem.reason}"
    elif not reading.present or reading.config is None:
        said = f"no such file at {reading.commit[:12]}: only jobs of the project itself have access"
    else:
        notices = "".join(f"; {notice}" for notice in reading.config.notices)
        entries = "1 entry" if reading.config.entries == 1 else f"{reading.config.entries} entries"
        said = f"{entries} at {reading.commit[:12]}{notices}"
    return {"configuration_file": f"{reading.repository or '?'}: {reading.path}", "configuration": said}


def _token_summary(tokens: list[AgentTokenRecord]) -> dict[str, Any]:
    used = max((token.last_used_at for token in tokens if token.last_used_at is not None), default=None)
    return {"active_tokens": len(tokens), "last_used_at": iso(used)}


def _client_ca(config: Config) -> bytes | None:
    """What agentk must trust. Makes kas's own CA if it is not there yet: the server will use that one."""
    refuse_foreign_state(config.state_dir)
    return Certificates(config, system_clock).client_ca("agent_api")


def _warn_of_loopback(config: Config) -> None:
    url = config.agent_api.external_url
    if url.is_loopback:
        print(
            f"kas: agent_api.external_url is {url}: no other machine can dial that; set it in kas.yaml", file=sys.stderr
        )


def _instructions(agent: AgentRecord, config: Config, token_file: Path | None, config_file: Path) -> str:
    file = shlex.quote(str(token_file or "agentk-token"))
    ca_file = config.agent_api.tls.ca_file if config.agent_api.tls else config.pki_dir / "ca.crt"
    ca = f" \\\n      --set-file caCert={shlex.quote(str(ca_file))}" if ca_file else ""
    named = "" if config_file == DEFAULT_CONFIG else f" --config {shlex.quote(str(config_file))}"
    save = "" if token_file else f"  umask 077; cat > {file}        # paste the token, Enter, Ctrl-D\n\n"
    return f"""\
Install agentk in the cluster. Both ways take the image localhost/agentk, which you build with deploy/docker/agentk.Dockerfile;
name your own copy with --set image.repository=… for helm, --image for kas. With helm:

{save}  helm install agentk deploy/charts/agentk --namespace agentk --create-namespace \\
      --set-string kasAddress={config.agent_api.external_url} --set-file token={file}{ca}

or with kubectl:

  kas agent manifest {agent.name} --project {agent.project} --token-file {file}{named} | kubectl apply -f -

and remove {file}. agentk may only read at first: `kas agent manifest --help` lists the roles that let jobs deploy.
Jobs of {agent.project} can use the context {agent.context} now; others as ci_access says in
.gitlab/agents/{agent.name}/config.yaml of {agent.project}."""
