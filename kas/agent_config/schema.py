"""The file ``.gitlab/agents/<name>/config.yaml``: what may stand in it, and how it becomes an AgentConfig.

An unmodified file of GitLab's is accepted: its sections that are not ours are named in a notice. Any other unknown key refuses
the whole file, and so does everything that could let in more than its author meant (an empty ``environments``, an ``access_as``
without content, an identity that a header cannot carry).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import inf
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from kas import located_yaml
from kas.agent_config import values
from kas.agent_config.entries import AccessAs, AgentConfig, Allow, AsJob, AsUser, Entry
from kas.located_yaml import Located
from kas.names import check_project
from kastunnel.link.frames import AsAgent, Impersonate

MAX_FILE_BYTES = 1024 * 1024  # GitLab takes 128 KiB; five thousand entries are 700 KiB
MAX_VALUES = 200_000  # of such entries twice as many
MAX_GROUPS = 1000
MAX_IDENTITY_CHARACTERS = 64 * 1024  # an API server takes 1 MiB of headers; the token and the rest need room too


class FileSection(BaseModel):
    """A part of the file: strict about types and keys."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Nothing(FileSection):
    """``{}``."""


class ExtraValues(FileSection):
    """One key of the identity's extra values."""

    key: Annotated[str, AfterValidator(values.extra_key)]
    val: list[Annotated[str, AfterValidator(values.header_value)]] = Field(min_length=1)


class StaticIdentity(FileSection):
    """``impersonate``: an identity written in the file."""

    username: Annotated[str, AfterValidator(values.identity_name)]
    uid: Annotated[str, AfterValidator(values.header_value)] | None = None
    groups: list[Annotated[str, AfterValidator(values.group_name)]] = Field(default=[], max_length=MAX_GROUPS)
    extra: list[ExtraValues] = []

    @model_validator(mode="after")
    def _fits(self) -> Self:
        keys = [one.key for one in self.extra]
        if len(set(keys)) < len(keys):
            raise ValueError("extra: each key was expected once, with all its values in val")
        values = [value for one in self.extra for value in (one.key, *one.val)]
        if sum(map(len, (self.username, self.uid or "", *self.groups, *values))) > MAX_IDENTITY_CHARACTERS:
            raise ValueError(f"this identity has more than {MAX_IDENTITY_CHARACTERS} characters in all")
        return self


class Access(FileSection):
    """``access_as``: exactly one way to act in the cluster."""

    agent: Nothing | None = None
    ci_job: Nothing | None = None
    ci_user: Nothing | None = None
    impersonate: StaticIdentity | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = [name for name in self.model_fields_set if getattr(self, name) is not None]
        if len(given) != 1 or len(self.model_fields_set) != 1:
            raise ValueError(
                "exactly one of 'agent: {}', 'ci_job: {}', 'ci_user: {}' and 'impersonate: {username: …}' was expected"
            )
        return self


class AllowItem(FileSection):
    """One item of ``allow``: resources, or paths that are none."""

    verbs: list[Annotated[str, AfterValidator(values.verb)]] = Field(min_length=1)
    resources: list[Annotated[str, AfterValidator(values.resource)]] = []
    namespaces: list[Annotated[str, AfterValidator(values.namespace_pattern)]] = []
    paths: list[Annotated[str, AfterValidator(values.path_pattern)]] = []

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if bool(self.resources) == bool(self.paths):
            raise ValueError("either resources or paths was expected, with at least one item")
        if "namespaces" in self.model_fields_set and not self.namespaces:
            raise ValueError("namespaces is empty: name at least one, or remove the key to allow every namespace")
        if self.paths and self.namespaces:
            raise ValueError("namespaces belong to resources: a path lies in none")
        return self


class _FileEntry(FileSection):
    default_namespace: Annotated[str, AfterValidator(values.namespace), values.nothing_is_empty("")] = ""
    environments: list[Annotated[str, AfterValidator(values.environment)]] = []
    protected_branches_only: bool = False
    access_as: Access = Access(agent=Nothing())
    issuer: Annotated[str, AfterValidator(values.issuer)] | None = None
    refs: list[Annotated[str, AfterValidator(values.ref)]] = []
    forks: bool = False
    expires: Annotated[str, AfterValidator(values.expiry)] | None = None
    allow: list[AllowItem] | None = None
    resource_management: Any = None
    annotations: Any = None

    @model_validator(mode="after")
    def _nothing_is_left_open(self) -> Self:
        given = self.model_fields_set
        for name in ("environments", "refs"):
            if name in given and not getattr(self, name):
                raise ValueError(f"{name} is empty: name at least one, or remove the key to let every job in")
        for name in ("issuer", "expires", "allow"):
            if name in given and getattr(self, name) is None:
                raise ValueError(f"{name} has no value: give one, or remove the key")
        if self.allow is not None and not self.allow:
            raise ValueError("allow is empty: name what is allowed, or remove the key to leave that to the cluster")
        return self

    @property
    def path(self) -> str:
        """Of the project or group; empty for the whole instance."""
        return ""

    @property
    def immutable_id(self) -> str:
        """Of the project or group."""
        return ""


class ProjectEntry(_FileEntry):
    """One project that may use the agent."""

    id: Annotated[str, AfterValidator(check_project)]
    project_id: Annotated[str, AfterValidator(values.immutable_id)] = ""

    @property
    def path(self) -> str:
        """See _FileEntry."""
        return self.id

    @property
    def immutable_id(self) -> str:
        """See _FileEntry."""
        return self.project_id


class GroupEntry(_FileEntry):
    """One group whose projects, at any depth, may use the agent."""

    id: Annotated[str, AfterValidator(values.group_path)]
    group_id: Annotated[str, AfterValidator(values.immutable_id)] = ""

    @property
    def path(self) -> str:
        """See _FileEntry."""
        return self.id

    @property
    def immutable_id(self) -> str:
        """See _FileEntry."""
        return self.group_id


class InstanceEntry(_FileEntry):
    """Every project of the issuer; not where strangers can have projects there."""


class CiAccess(FileSection):
    """Who may use the agent from jobs."""

    projects: Annotated[list[ProjectEntry], values.nothing_is_empty([])] = []
    groups: Annotated[list[GroupEntry], values.nothing_is_empty([])] = []
    instance: InstanceEntry | None = None

    @model_validator(mode="after")
    def _instance_is_meant(self) -> Self:
        if "instance" in self.model_fields_set and self.instance is None:
            raise ValueError("instance has no value: write `instance: {}` to let every project in, or remove the key")
        return self


class ConfigurationFile(FileSection):
    """The whole file."""

    ci_access: Annotated[CiAccess, values.nothing_is_empty({})] = CiAccess()
    user_access: Any = None
    gitops: Any = None
    flux: Any = None
    observability: Any = None
    container_scanning: Any = None
    remote_development: Any = None


def read_agent_config(
    text: bytes, source: str, *, allow_system_identities: bool = False, max_bytes: int = MAX_FILE_BYTES
) -> AgentConfig:
    """The configuration that the file's ``text`` says; an empty file is an empty configuration.

    Raises located_yaml.MistakesInFile with every mistake at its place; ``source`` names the file in them.
    """
    located = located_yaml.load(text, source, max_bytes, MAX_VALUES)
    context = {"allow_system_identities": allow_system_identities}
    file = located_yaml.validate(ConfigurationFile, located, context)
    access = file.ci_access
    return AgentConfig(
        projects=_by_id(_entries(access.projects, "projects", located)),
        groups=_by_id(_entries(access.groups, "groups", located)),
        instance=tuple(_instance(access, located)),
        notices=tuple(_notices(file)),
    )


def _entries(items: Sequence[ProjectEntry | GroupEntry], source: str, located: Located) -> Iterator[Entry]:
    for index, item in enumerate(items):
        place = located.values["ci_access", source, index]
        yield _entry(item, f"ci_access.{source}[{index}], line {place.line}")


def _instance(access: CiAccess, located: Located) -> Iterator[Entry]:
    for one in _given(access.instance):
        yield _entry(one, f"ci_access.instance, line {located.values['ci_access', 'instance'].line}")


def _entry(item: _FileEntry, where: str) -> Entry:
    return Entry(
        where=where,
        id=item.path,
        access_as=_access_as(item.access_as),
        default_namespace=item.default_namespace,
        environments=tuple(item.environments),
        protected_branches_only=item.protected_branches_only,
        issuer=item.issuer or "",
        immutable_id=item.immutable_id,
        refs=tuple(item.refs),
        forks=item.forks,
        expires_at=inf if item.expires is None else float(item.expires),
        allow=None if item.allow is None else tuple(map(_allow, item.allow)),
    )


def _allow(item: AllowItem) -> Allow:
    resources: Any = item.resources  # each was made a Resource
    return Allow(frozenset(item.verbs), tuple(resources), tuple(item.namespaces), tuple(item.paths))


def _access_as(access: Access) -> AccessAs:
    if access.ci_job is not None:
        return AsJob()
    if access.ci_user is not None:
        return AsUser()
    if (static := access.impersonate) is not None:
        extra = tuple((one.key, tuple(one.val)) for one in static.extra)
        return Impersonate(static.username, tuple(static.groups), static.uid or "", extra)
    return AsAgent()


def _by_id(entries: Iterator[Entry]) -> dict[str, tuple[Entry, ...]]:
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        found.setdefault(entry.id, []).append(entry)
    return {key: tuple(value) for key, value in found.items()}


def _given(one: InstanceEntry | None) -> list[InstanceEntry]:
    return [] if one is None else [one]


def _notices(file: ConfigurationFile) -> Iterator[str]:
    for name in type(file).model_fields:
        if name != "ci_access" and name in file.model_fields_set:
            yield f"{name}: accepted, does nothing here"
    access = file.ci_access
    sources: dict[str, Sequence[_FileEntry]] = {
        "projects[]": access.projects,
        "groups[]": access.groups,
        "instance": _given(access.instance),
    }
    for source, entries in sources.items():
        for name in ("resource_management", "annotations"):
            if any(name in entry.model_fields_set for entry in entries):
                yield f"ci_access.{source}.{name}: accepted, does nothing here"
