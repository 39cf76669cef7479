"""kas.yaml: every option with its default and the reason for it, as models that refuse what they do not know.

``docs/configuration.md`` and ``examples/kas.yaml`` are written from these models: ``python -m kas.config --markdown`` or ``--example``.
Times are seconds and sizes are bytes; the name says which. Secrets are named by file, never written here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, ValidationInfo, model_validator

from kas import located_yaml
from kas.addresses import ExternalUrl, GrpcsUrl, HttpsUrl, Listen, ListenAddress
from kas.errors import ConfigurationError
from kas.names import check_project

MAX_FILE_BYTES = 1024 * 1024  # a kas.yaml of a thousand repositories is a tenth of that
DAY_S = 24 * 3600


def _resolved(path: Path, info: ValidationInfo) -> Path:
    """Relative paths are relative to the folder of kas.yaml, wherever kas was started."""
    base = (info.context or {}).get("folder", Path())
    return Path(base, path)


FilePath = Annotated[Path, Strict(False), AfterValidator(_resolved)]
Seconds = Annotated[float, Field(gt=0, le=7 * DAY_S, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Bytes = Annotated[int, Field(ge=1, le=1 << 40)]
Project = Annotated[str, AfterValidator(check_project)]


def option(default: Any, text: str, *, restart: bool = False, example: str | None = None) -> Any:
    """A field with its description. ``restart``: a reload cannot change it. ``example``: shown where the default is nothing."""
    return Field(default, description=text, json_schema_extra={"restart": restart, "example": example})


class Section(BaseModel):
    """A part of kas.yaml: immutable, and strict about types and keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _nothing_is_the_defaults(cls, data: Any) -> Any:
        return {} if data is None else data  # a section whose every option is commented out


class Tls(Section):
    """Certificate files of a door. They are read again on SIGHUP."""

    certificate_file: FilePath = Field(description="The certificate and its chain, PEM, the door's own first.")
    key_file: FilePath = Field(
        description="Its private key, PEM, without a passphrase; not readable by every user of the machine."
    )
    ca_file: FilePath | None = option(
        None,
        "Certificates that clients of this door must trust, PEM; they stand in kubeconfigs and in agents' manifests. Without it "
        "clients trust what their own machine trusts: right for a public CA.",
        example="/etc/kas/tls/ca.crt",
    )


_TLS = option(
    None,
    "Certificate of this door. Without it kas uses its own CA, made at the first start in `state_dir`/pki, and renews it.",
    example="{certificate_file: /etc/kas/tls/tls.crt, key_file: /etc/kas/tls/tls.key}",
)


class AgentApi(Section):
    """The door that agentk dials (gRPC over TLS)."""

    listen: Listen = option(
        ListenAddress("127.0.0.1", 8150), "Localhost, until you decide who may reach it.", restart=True
    )
    external_url: GrpcsUrl = option(
        ExternalUrl("grpcs", "localhost", 8150),
        "What agentk dials. It stands in the instructions of `kas agent register` and in the certificate.",
    )
    tls: Tls | None = _TLS
    max_links: Count = option(
        10_000,
        "Links of agents at once; each costs up to 96 KiB while idle. Beyond it new ones are refused.",
        restart=True,
    )


class Observability(Section):
    """The door for probes and Prometheus: /liveness, /readiness, /metrics."""

    listen: Listen = option(ListenAddress("127.0.0.1", 8151), "Localhost: metrics name your agents.", restart=True)
    tls: Tls | None = option(
        None,
        "Certificate of this door. Without it the door speaks plain HTTP, which probes and Prometheus expect on localhost.",
        example="{certificate_file: /etc/kas/tls/tls.crt, key_file: /etc/kas/tls/tls.key}",
    )


class ManagementApi(Section):
    """The door where jobs fetch their kubeconfig (HTTPS)."""

    listen: Listen = option(
        ListenAddress("127.0.0.1", 8153), "Localhost, until you decide who may reach it.", restart=True
    )
    external_url: HttpsUrl = option(
        ExternalUrl("https", "localhost", 8153), "Where jobs ask for a kubeconfig; it stands in the certificate."
    )
    tls: Tls | None = _TLS


class Limits(Section):
    """What a client of the kubectl door may cost. Watches, logs, exec, attach, port-forward and proxy have no time limit."""

    tls_handshake_s: Seconds = option(
        10, "From the connection to the end of its handshake; a slow peer must not hold a place."
    )
    head_s: Seconds = option(
        10, "From the first byte of a request to the end of its headers; ends slow-header attacks."
    )
    keep_alive_idle_s: Seconds = option(
        75, "A connection without a request; longer than the 60 s that common balancers keep theirs."
    )
    body_idle_s: Seconds = option(30, "Between two pieces of a request body.")
    max_body_bytes: Bytes = option(
        8 * 1024 * 1024,
        "A request body, except under `/proxy/` and on upgraded connections. The API server itself takes 3 MiB of JSON.",
    )
    response_head_s: Seconds = option(
        75, "Until the API server begins to answer; its own time limit is 60 s, and its answer says more."
    )
    write_stall_s: Seconds = option(300, "A client that takes no byte of an ordinary answer.")


class KubernetesApi(Section):
    """The door for kubectl and every other client of the Kubernetes API (HTTPS)."""

    listen: Listen = option(
        ListenAddress("127.0.0.1", 8154), "Localhost, until you decide who may reach it.", restart=True
    )
    external_url: HttpsUrl = option(
        ExternalUrl("https", "localhost", 8154), "The server in every kubeconfig; it stands in the certificate."
    )
    tls: Tls | None = _TLS
    max_connections: Count = option(
        4096, "Connections at once; each costs about 25 KiB. Beyond it new ones wait in the kernel."
    )
    max_unauthenticated_connections: Count = option(
        512, "Of these, connections that have not yet shown a valid token: strangers cannot take every place."
    )
    allowed_origins: Annotated[tuple[HttpsUrl, ...], Strict(False)] = option(
        (),
        "Web origins that may call this door from a browser, besides its own. kubectl needs none.",
        example="[https://console.example.com]",
    )
    allow_user_impersonation: bool = option(
        False,
        "Let a client's own Impersonate-* headers (`kubectl --as`) through where the agent acts as itself. Off: they are refused.",
    )
    limits: Limits = option(Limits(), "What a client may cost.")

    @model_validator(mode="after")
    def _caps_in_order(self) -> Self:
        if self.max_unauthenticated_connections > self.max_connections:
            raise ValueError("max_unauthenticated_connections cannot be more than max_connections")
        return self


class Database(Section):
    """Where agents, tokens and the change log are kept."""

    url: str | None = option(
        None,
        "`sqlite:////absolute/path` or `postgresql+asyncpg://user@host/name`. Without it: SQLite, `state_dir`/kas.db, enough for one kas.",
        restart=True,
        example="postgresql+asyncpg://kas@db.example.com/kas",
    )
    password_file: FilePath | None = option(
        None,
        "File with the password of the database user, not readable by every user of the machine.",
        restart=True,
        example="/etc/kas/database-password",
    )

    @model_validator(mode="after")
    def _usable_url(self) -> Self:
        if self.url is None:
            return self
        parts = urlsplit(self.url)
        if parts.password is not None:
            raise ValueError(
                "a password does not belong into this file: put it into a file and name it in password_file"
            )
        backend = parts.scheme.partition("+")[0]
        if backend not in ("sqlite", "postgresql"):
            raise ValueError("url: sqlite:////absolute/path or postgresql+asyncpg://user@host/name was expected")
        if backend == "sqlite" and not parts.path.startswith("//"):
            raise ValueError("url: SQLite needs an absolute path, with four slashes: sqlite:////var/lib/kas/kas.db")
        return self


class ConfigurationRepository(Section):
    """Where the configuration of agents is read: one repository of one project, or a folder of repositories."""

    project: Project | None = option(
        None, "The project that the repository at `path` belongs to.", example="group/project"
    )
    path: FilePath | None = option(
        None, "A git repository on this machine, bare or with a work tree.", example="/srv/git/group/project.git"
    )
    root: FilePath | None = option(
        None,
        "Instead of both: a folder where the repository of GROUP/PROJECT is GROUP/PROJECT or GROUP/PROJECT.git.",
        example="/srv/git",
    )
    ref: str | None = option(None, "The branch to read; without it the repository's default branch.", example="main")

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if self.root is not None and (self.path is not None or self.project is not None):
            raise ValueError("either root, or project and path was expected, not both")
        if self.root is None and (self.path is None or self.project is None):
            raise ValueError("either root, or project and path was expected")
        return self


class Logging(Section):
    """What kas says, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = option("info", "The least important line that is printed.")
    format: Literal["json", "console"] = option(
        "json", "One JSON object a line for log collectors, or text for people."
    )
    requests: Literal["notable", "all"] = option(
        "notable",
        "A line for each request that failed, was slow or changed something; or for every request, which costs speed.",
    )


class Link(Section):
    """The links that agents hold to kas."""

    detach_s: Seconds = option(
        30,
        "After a cut, how long requests wait for the agent to come back and go on where they stopped; memory is held for them.",
        restart=True,
    )
    hold_s: Seconds = option(
        10,
        "How long a new request waits for an agent that was linked a moment ago; kubectl then sees no error.",
        restart=True,
    )
    listen_grace_s: Annotated[float, Field(ge=0, le=DAY_S)] = option(
        5, "After SIGTERM, how long new connections are still accepted; balancers need seconds to notice."
    )
    drain_timeout_s: Seconds = option(
        3600, "After that, how long running requests may go on; a long `logs -f` or deployment finishes."
    )


class Access(Section):
    """How verdicts are kept and what the operator forbids."""

    positive_cache_s: Annotated[float, Field(ge=0, le=60)] = option(
        60,
        "How long a token that was accepted is not asked about again. Revocations are in force within 5 s all the same.",
    )
    negative_cache_s: Annotated[float, Field(ge=0, le=10)] = option(
        10, "The same for a token that was refused; spares the issuer a flood."
    )
    allow_system_identities: bool = option(
        False,
        "Let agent configurations impersonate `system:` users and groups (`system:masters` is every right in the cluster).",
    )
    max_job_token_ttl_s: Seconds = option(
        DAY_S, "The longest life of a token of `kas job-token issue`; jobs are shorter than a day."
    )


class Config(Section):
    """All of kas.yaml."""

    enable: bool = option(
        True,
        "`false`: `kas serve` says so and ends without an error, in the manner of `gitlab_kas['enable']`.",
        restart=True,
    )
    state_dir: FilePath = option(
        Path("/var/lib/kas"),
        "Where kas keeps its database and its CA; created with mode 0700. Back it up.",
        restart=True,
    )
    configuration_repositories: Annotated[tuple[ConfigurationRepository, ...], Strict(False)] = option(
        (),
        "Git repositories on this machine that hold `.gitlab/agents/NAME/config.yaml`. The first entry that knows a project is used. "
        "Without any, an agent serves only jobs of its own project.",
        example="[{root: /srv/git}]",
    )
    poll_interval_s: Annotated[float, Field(ge=0.1, le=DAY_S, allow_inf_nan=False)] = option(
        2, "How often the repositories are looked at; a commit is in force within 5 s."
    )
    agent_api: AgentApi = option(AgentApi(), "The door that agentk dials (gRPC over TLS).")
    observability: Observability = option(Observability(), "The door for probes and Prometheus.")
    management_api: ManagementApi = option(ManagementApi(), "The door where jobs fetch their kubeconfig (HTTPS).")
    kubernetes_api: KubernetesApi = option(KubernetesApi(), "The door for kubectl (HTTPS).")
    database: Database = option(Database(), "Where agents, tokens and the change log are kept.")
    logging: Logging = option(Logging(), "What kas says, on standard error.")
    link: Link = option(Link(), "The links that agents hold to kas.")
    access: Access = option(Access(), "How verdicts are kept and what the operator forbids.")

    @property
    def database_url(self) -> str:
        """The URL to open: the configured one, or SQLite in the state directory."""
        return self.database.url or f"sqlite:///{self.state_dir.absolute()}/kas.db"

    @property
    def pki_dir(self) -> Path:
        """The folder of kas's own CA."""
        return self.state_dir / "pki"

    @property
    def certificate_names(self) -> tuple[str, ...]:
        """Names and addresses that kas's own certificates carry."""
        urls = (self.agent_api.external_url, self.management_api.external_url, self.kubernetes_api.external_url)
        return tuple(dict.fromkeys([*(url.host for url in urls), "localhost", "127.0.0.1", "::1"]))

    @model_validator(mode="after")
    def _a_port_for_each_door(self) -> Self:
        seen: dict[ListenAddress, str] = {}
        for door in ("agent_api", "observability", "management_api", "kubernetes_api"):
            address = getattr(self, door).listen
            if address.port and address in seen:
                raise ValueError(
                    f"{seen[address]}.listen and {door}.listen are both {address}: give each door its own port"
                )
            seen[address] = door
        return self


def load_config(path: Path) -> Config:
    """Read kas.yaml. Raises ConfigurationError with one line per mistake: file, line, column, option, remedy."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise ConfigurationError(f"{path}: there is no such file; name it with --config or KAS_CONFIG") from None
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    located = located_yaml.load(text, str(path), MAX_FILE_BYTES)
    return located_yaml.validate(Config, located, context={"folder": path.absolute().parent})


def needs_restart(old: Config, new: Config) -> list[str]:
    """The options that differ and that a reload cannot change, as ``section.option``."""
    return list(_differing(old, new, ""))


def _differing(old: Section, new: Section, path: str) -> Iterator[str]:
    for name, field in type(old).model_fields.items():
        before, after = getattr(old, name), getattr(new, name)
        if isinstance(before, Section) and isinstance(after, Section):
            yield from _differing(before, after, f"{path}{name}.")
        elif before != after and isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("restart"):
            yield f"{path}{name}"


def doubts(config: Config) -> list[str]:
    """What is allowed and yet probably not meant, one sentence each; the server logs them as warnings when it starts."""
    found = []
    for door in ("agent_api", "management_api", "kubernetes_api"):
        section = getattr(config, door)
        if section.external_url.is_loopback and not section.listen.is_loopback:
            found.append(
                f"{door}.listen is {section.listen}, but {door}.external_url is {section.external_url}: "
                "other machines cannot use that; set the name that they use"
            )
    if not config.configuration_repositories:
        found.append("configuration_repositories is empty: each agent serves only jobs of its own project")
    found += [
        f"configuration_repositories: there is no folder {folder}: the agents of its projects have no configuration"
        for one in config.configuration_repositories
        if (folder := one.root or one.path) is not None and not folder.is_dir()
    ]
    return found


if __name__ == "__main__":
    from kas.config_reference import main

    main()
