"""kas.yaml: every option with its default and the reason for it, as models that refuse what they do not know.

``docs/configuration.md`` and ``examples/kas.yaml`` are written from these models: ``python -m kas.config --markdown`` or ``--example``.
Times are seconds and sizes are bytes; the name says which. Secrets are named by file, never written here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, Strict, model_validator

from kas import located_yaml
from kas.addresses import ListenAddress
from kas.config.audit import Audit
from kas.config.base import DAY_S, FilePath, Seconds, Section, option
from kas.config.doors import AgentApi, KubernetesApi, ManagementApi, Observability, Tls
from kas.config.fair_use import FairUse
from kas.config.issuers import AnyIssuer, GitlabIssuer, JobTokens, OidcIssuer
from kas.config.repositories import ConfigurationRepository
from kas.errors import ConfigurationError

__all__ = [
    "Config",
    "ConfigurationRepository",
    "Database",
    "FairUse",
    "GitlabIssuer",
    "KubernetesApi",
    "OidcIssuer",
    "Section",
    "Tls",
    "doubts",
    "load_config",
    "needs_restart",
]

MAX_FILE_BYTES = 1024 * 1024  # a kas.yaml of a thousand repositories is a tenth of that


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
        15,
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
        "Git repositories that hold `.gitlab/agents/NAME/config.yaml`: here, elsewhere, or at a forge; the first that knows a project. "
        "Without any, an agent serves only jobs of its own project.",
        example="[{root: /srv/git}]",
    )
    poll_interval_s: Annotated[float, Field(ge=0.1, le=DAY_S, allow_inf_nan=False)] = option(
        2, "How often repositories on this machine are looked at; a commit is in force within 5 s."
    )
    issuers: Annotated[tuple[AnyIssuer, ...], Strict(False)] = option(
        (),
        "Who vouches for jobs, besides kas itself (`kas job-token`, `kas project`): forges and other issuers of tokens. "
        "When they change, every token is judged anew.",
        example="[{name: gitlab, type: gitlab, url: https://gitlab.example.com}]",
    )
    job_tokens: JobTokens = option(JobTokens(), "Tokens that kas makes for jobs.")
    agent_api: AgentApi = option(AgentApi(), "The door that agentk dials (gRPC over TLS).")
    observability: Observability = option(Observability(), "The door for probes and Prometheus.")
    management_api: ManagementApi = option(ManagementApi(), "The door where jobs fetch their kubeconfig (HTTPS).")
    kubernetes_api: KubernetesApi = option(KubernetesApi(), "The door for kubectl (HTTPS).")
    database: Database = option(Database(), "Where agents, tokens and the change log are kept.")
    logging: Logging = option(Logging(), "What kas says, on standard error.")
    link: Link = option(Link(), "The links that agents hold to kas.")
    fair_use: FairUse = option(FairUse(), "How much one token, project and agent may use.")
    audit: Audit = option(Audit(), "The audit log.")
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
    def audit_folder(self) -> Path:
        """Where the audit log is written."""
        return self.audit.folder or self.state_dir / "audit"

    @property
    def audit_key_file(self) -> Path:
        """The key of its chain."""
        return self.audit.key_file or self.state_dir / "audit.key"

    @property
    def certificate_names(self) -> tuple[str, ...]:
        """Names and addresses that kas's own certificates carry."""
        urls = (self.agent_api.external_url, self.management_api.external_url, self.kubernetes_api.external_url)
        return tuple(dict.fromkeys([*(url.host for url in urls), "localhost", "127.0.0.1", "::1"]))

    @model_validator(mode="after")
    def _one_issuer_of_a_name(self) -> Self:
        names = [issuer.name for issuer in self.issuers]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"issuers: two are called {name!r}: a project belongs to one issuer, by its name")
        return self

    @model_validator(mode="after")
    def _repositories_of_issuers(self) -> Self:
        known = {"kas", *(issuer.name for issuer in self.issuers)}
        for repository in self.configuration_repositories:
            if repository.issuer not in known:
                raise ValueError(
                    f"configuration_repositories: there is no issuer {repository.issuer!r}: name one of issuers, or kas"
                )
        return self

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
