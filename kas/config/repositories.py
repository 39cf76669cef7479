"""Where the configuration of agents is read."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, Strict, model_validator

from kas.config.base import FilePath, Project, Seconds, Section, option
from kas.config.issuers import Url

_FORMS = (("root",), ("project", "path"), ("project", "git"), ("forge", "url", "projects"))
_MORE = {
    "git": frozenset({"user", "token_file", "ca_file", "key_file", "known_hosts_file"}),
    "forge": frozenset({"token_file", "ca_file", "webhook_secret_file", "commit_status"}),
}


def _git_url(url: str) -> str:
    parts = urlsplit(url)
    if (
        parts.scheme not in ("https", "ssh")
        or not parts.hostname
        or parts.password is not None
        or not url.isprintable()
    ):
        raise ValueError(
            "https://host/path or ssh://git@host/path was expected, without a password: that goes into token_file"
        )
    return url


class ConfigurationRepository(Section):
    """Where the configuration of agents is read: a folder of repositories, one repository, or all those of a forge."""

    project: Project | None = option(
        None, "The project that the repository at `path` or `git` belongs to.", example="group/project"
    )
    path: FilePath | None = option(
        None, "A git repository on this machine, bare or with a work tree.", example="/srv/git/group/project.git"
    )
    root: FilePath | None = option(
        None,
        "Instead of both: a folder where the repository of GROUP/PROJECT is GROUP/PROJECT or GROUP/PROJECT.git.",
        example="/srv/git",
    )
    git: Annotated[str, AfterValidator(_git_url)] | None = option(
        None,
        "A git repository on another machine, over https or ssh.",
        example="https://git.example.com/group/project.git",
    )
    forge: Literal["gitlab", "gitea", "github"] | None = option(
        None, "Repositories at a forge, read through its file API; `gitea` is Forgejo, too.", example="gitlab"
    )
    url: Url | None = option(
        None, "Of the forge; of GitHub its API, https://api.github.com.", example="https://gitlab.example.com"
    )
    projects: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=1024)], ...], Strict(False)] = option(
        (), "At a forge: which projects may have agents, as patterns with `*`.", example="['platform/*']"
    )
    issuer: str = option(
        "kas",
        "Whose agents are configured here, by the name in `issuers`: an agent of one issuer is never configured by a project of another.",
    )
    ref: str | None = option(None, "The branch to read; without it the repository's default branch.", example="main")
    user: str = option("kas", "The user of `git` over https; most forges take any with a token.")
    token_file: FilePath | None = option(
        None, "A token that may read the repositories, in a file.", example="/etc/kas/git-token"
    )
    ca_file: FilePath | None = option(
        None, "Certificates to trust instead of the machine's own, PEM.", example="/etc/kas/git-ca.crt"
    )
    key_file: FilePath | None = option(None, "The private key of `git` over ssh.", example="/etc/kas/id_ed25519")
    known_hosts_file: FilePath | None = option(
        None, "The host keys of `git` over ssh, always checked.", example="/etc/kas/known_hosts"
    )
    poll_s: Seconds = option(
        60, "How often a repository on another machine is looked at; a webhook makes kas look at once."
    )
    webhook_secret_file: FilePath | None = option(
        None,
        "The secret of push webhooks to `management_api.external_url`/kas/v1/webhooks/FORGE, in a file; without it none is believed.",
        example="/etc/kas/webhook-secret",
    )
    commit_status: bool = option(
        False,
        "Show at each commit of the forge whether its configuration is in force; the token must be able to that.",
    )

    @model_validator(mode="before")
    @classmethod
    def _one_form(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        given = {name for name, value in data.items() if value is not None}
        fitting = [form for form in _FORMS if set(form) == given & {name for each in _FORMS for name in each}]
        if not fitting:
            raise ValueError(
                "either root, or project and path, or project and git, or forge, url and projects was expected"
            )
        for kind, names in _MORE.items():
            belongs = kind in fitting[0]
            for name in sorted(given & names):
                if not belongs and not any(name in _MORE[other] and other in fitting[0] for other in _MORE):
                    raise ValueError(f"{name} does not belong to {' and '.join(fitting[0])}")
        return data

    @model_validator(mode="after")
    def _ssh_checks_the_host(self) -> Self:
        if (
            self.git is not None
            and self.git.startswith("ssh:")
            and (self.key_file is None or self.known_hosts_file is None)
        ):
            raise ValueError(
                "git over ssh needs key_file and known_hosts_file: nobody else's host must be taken for it"
            )
        return self
