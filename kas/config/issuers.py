"""Who vouches for jobs: one entry of ``issuers`` for each forge or other source of tokens."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Discriminator, Field, Strict, Tag, model_validator

from kas.config.base import DAY_S, FilePath, Seconds, Section, option

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


def _issuer_name(name: str) -> str:
    if len(name) > 63 or not _NAME.fullmatch(name):
        raise ValueError(
            "a name was expected: at most 63 lower-case letters, digits and '-', beginning and ending with a letter or digit"
        )
    if name == "kas":
        raise ValueError("'kas' is the issuer of kas's own job tokens: choose another name")
    return name


def _https_url(text: str) -> str:
    """As it is written, for `iss` must be equal to the letter; only a slash at the end is dropped where that is no part of it."""
    try:
        parts = urlsplit(text)
        is_good = parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_good = False
    if (
        not is_good
        or "@" in text
        or "?" in text
        or "#" in text
        or len(text) > 512
        or not (text.isascii() and text.isprintable())
    ):
        raise ValueError("a URL was expected that begins with https://, without user, query and fragment")
    return text


IssuerName = Annotated[str, AfterValidator(_issuer_name)]
Url = Annotated[str, AfterValidator(_https_url)]
Owners = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=255)], ...], Strict(False)]


class _Issuer(Section):
    """What every issuer has."""

    name: IssuerName = Field(
        description="What agent configurations (`issuer:`), `kas agent register --issuer` and audit records call it; never change it."
    )
    owners: Owners = option(
        (),
        "Groups, organisations or users whose projects count: by path, or by immutable id as `id:NUMBER`. With a public issuer this must "
        "be said, for everybody can have a project there. Empty: every project of the issuer.",
        example="[acme, 'id:4711']",
    )
    ca_file: FilePath | None = option(
        None,
        "Certificates to trust when asking the issuer, PEM, instead of the machine's own.",
        example="/etc/kas/forge-ca.crt",
    )
    leeway_s: Annotated[float, Field(ge=0, le=300)] = option(60, "How far its clock and ours may differ.")

    @property
    def is_public(self) -> bool:
        """Whether strangers can have projects there."""
        raise NotImplementedError

    @model_validator(mode="after")
    def _public_means_owners(self) -> Self:
        if self.is_public and not self.owners:
            raise ValueError(
                "owners must be named: everybody can have a project at this public issuer, and any of them could be let in"
            )
        return self


class GitlabIssuer(_Issuer):
    """A GitLab: its jobs' CI_JOB_TOKEN, and its ID tokens where `audience` is set."""

    type: Literal["gitlab"] = Field(description="What kind of issuer this is.")
    url: Url = Field(description="Of the instance, like https://gitlab.example.com.")
    audience: str | None = option(
        None,
        "The `aud` of the ID tokens that jobs ask for (`id_tokens:`); without it ID tokens are refused.",
        example="https://kas.example.com",
    )
    job_tokens: bool = option(True, "Accept CI_JOB_TOKEN; kas asks GitLab about each, at most once a minute.")
    api_token_file: FilePath | None = option(
        None,
        "A token with the scope `read_api`, in a file. With it kas knows whether a job of an exchanged ID token still runs, and for job "
        "tokens whether the ref is protected and what the environment is called.",
        example="/etc/kas/gitlab-token",
    )
    public: bool | None = option(
        None, "Whether strangers can have projects there; without it only gitlab.com is public."
    )

    @property
    def is_public(self) -> bool:
        """See _Issuer."""
        return self.public if self.public is not None else _host(self.url) == "gitlab.com"


class OidcIssuer(_Issuer):
    """An issuer of OpenID Connect ID tokens."""

    type: Literal["github", "forgejo", "buildkite", "circleci", "kubernetes", "oidc"] = Field(
        description="Whose tokens: `github` (Actions), `forgejo` (and Gitea), `buildkite`, `circleci`, `kubernetes` (service accounts), or "
        "`oidc` for any other, with `claims`."
    )
    issuer: Url | None = option(
        None, "The `iss` of its tokens, where it publishes its keys. Without it the public service of this type."
    )
    audience: str = Field(min_length=1, description="The `aud` that tokens must name: kas, and nobody else.")
    jwks_url: Url | None = option(None, "Where its keys are; without it what the issuer's discovery document says.")
    claims: Annotated[Mapping[str, str], Strict(False)] = option(
        {},
        "For `oidc`: which claim of the token is the `project`, `project_id`, `ref`, `ref_type`, `ref_protected`, `environment`, "
        "`pipeline_id`, `job_id`, `username`, `user_id`, `groups`.",
        example="{project: repository, job_id: run_id}",
    )
    algorithms: Annotated[tuple[str, ...], Strict(False)] = option(
        (), "Signatures that are accepted; without it the ones of this type.", example="[RS256]"
    )
    api_url: Url | None = option(
        None,
        "The forge's API, where kas asks whether a job still runs; without it the one of this type.",
        example="https://api.github.com",
    )
    api_token_file: FilePath | None = option(
        None,
        "A token that may read jobs, in a file: with it access ends with the job. Without it, with the job token's life.",
    )
    public: bool | None = option(
        None,
        "Whether strangers can have projects there; without it the public services are public, an `issuer` of your own is not.",
    )

    @property
    def issuer_url(self) -> str:
        """The `iss` of its tokens."""
        return self.issuer or PUBLIC_ISSUERS[self.type]

    @property
    def is_public(self) -> bool:
        """See _Issuer."""
        if self.public is not None:
            return self.public
        return self.type != "kubernetes" and (self.issuer is None or _host(self.issuer) in PUBLIC_HOSTS)

    @model_validator(mode="after")
    def _says_where(self) -> Self:
        if self.issuer is None and self.type not in PUBLIC_ISSUERS:
            raise ValueError(f"issuer must be named: there is no public service of the type {self.type}")
        if self.claims and self.type != "oidc":
            raise ValueError("claims belong to the type oidc: the others have claims of their own")
        if self.type == "oidc" and "project" not in self.claims:
            raise ValueError("claims must say which claim is the project, for example claims: {project: repository}")
        return self


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


PUBLIC_ISSUERS = {"github": "https://token.actions.githubusercontent.com", "buildkite": "https://agent.buildkite.com"}
PUBLIC_HOSTS = frozenset(
    {
        "token.actions.githubusercontent.com",
        "gitlab.com",
        "agent.buildkite.com",
        "oidc.circleci.com",
        "codeberg.org",
        "gitea.com",
    }
)


def _kind(value: Any) -> str:
    given = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return "gitlab" if given == "gitlab" else "oidc"


AnyIssuer = Annotated[Annotated[GitlabIssuer, Tag("gitlab")] | Annotated[OidcIssuer, Tag("oidc")], Discriminator(_kind)]


class JobTokens(Section):
    """Tokens that kas makes for jobs: by command, for a project's secret, or in exchange for an ID token."""

    exchanged_ttl_s: Seconds = option(
        3600, "The life of a token that was given for an ID token; a fresh ID token renews it."
    )
    max_exchanged_ttl_s: Seconds = option(DAY_S, "The longest life that may be asked for.")
