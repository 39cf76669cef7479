"""The file ``.gitlab/agents/<name>/config.yaml``: what may stand in it, and how it becomes an AgentConfig.

An unmodified file of GitLab's is accepted: its sections that are not ours are named in a notice. Any other unknown key refuses
the whole file, and so does everything that could let in more than its author meant (an empty ``environments``, an ``access_as``
without content, an identity that a header cannot carry).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator

from kas import located_yaml
from kas.agent_config.entries import AccessAs, AgentConfig, AsJob, Entry
from kas.located_yaml import Located
from kas.names import check_project
from kastunnel.link.frames import AsAgent, Impersonate

MAX_FILE_BYTES = 128 * 1024  # GitLab's own limit
MAX_GROUPS = 1000
MAX_NAME_CHARACTERS = 512
MAX_IDENTITY_CHARACTERS = 64 * 1024  # an API server takes 1 MiB of headers; the token and the rest need room too
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_EXTRA_KEY = re.compile(r"[!-$&-@\[-~]+")  # visible, no upper case (the API server folds it), no % (it decodes that)


def _identity_name(name: str, info: ValidationInfo) -> str:
    _header_value(name)
    if name.startswith("system:") and not (info.context or {}).get("allow_system_identities", False):
        raise ValueError(
            "names that begin with 'system:' are refused: they are Kubernetes' own "
            "(the operator of kas can allow them: access.allow_system_identities)"
        )
    return name


def _group_name(name: str, info: ValidationInfo) -> str:
    if "," in name:
        raise ValueError("a group must not contain a comma: on the way to the API server it could be read as two")
    return _identity_name(name, info)


def _header_value(text: str) -> str:
    if not text:
        raise ValueError("this must not be empty")
    if len(text) > MAX_NAME_CHARACTERS:
        raise ValueError(f"at most {MAX_NAME_CHARACTERS} characters were expected")
    if not (text.isascii() and text.isprintable()):
        raise ValueError("only visible ASCII characters were expected: this travels in an HTTP header")
    if text != text.strip():
        raise ValueError("no blank was expected at the beginning or end: HTTP would drop it")
    return text


def _extra_key(key: str) -> str:
    _header_value(key)
    if not _EXTRA_KEY.fullmatch(key):
        raise ValueError("a key in lower case without blanks and '%' was expected, for example example.com/team")
    return key


def _namespace(name: str) -> str:
    if name and (len(name) > 63 or not _NAMESPACE.fullmatch(name)):
        raise ValueError(
            "a namespace was expected: at most 63 lower-case letters, digits and '-', no '-' at either end"
        )
    return name


def _environment(pattern: str) -> str:
    if not pattern or len(pattern) > 255 or not pattern.isprintable():
        raise ValueError("the name of an environment was expected, with '*' for any characters")
    return pattern


def _group_path(path: str) -> str:
    try:
        check_project(f"{path}/project")
    except ValueError:
        raise ValueError(
            "the path of a group was expected: GROUP or GROUP/SUBGROUP, without '/' at either end"
        ) from None
    return path


def _nothing_is_empty(empty: Any) -> BeforeValidator:
    """A key with nothing behind it means the same as no key. Only where that cannot widen access."""
    return BeforeValidator(lambda value: empty if value is None else value)


class FileSection(BaseModel):
    """A part of the file: strict about types and keys."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Nothing(FileSection):
    """``{}``."""


class ExtraValues(FileSection):
    """One key of the identity's extra values."""

    key: Annotated[str, AfterValidator(_extra_key)]
    val: list[Annotated[str, AfterValidator(_header_value)]] = Field(min_length=1)


class StaticIdentity(FileSection):
    """``impersonate``: an identity written in the file."""

    username: Annotated[str, AfterValidator(_identity_name)]
    uid: Annotated[str, AfterValidator(_header_value)] | None = None
    groups: list[Annotated[str, AfterValidator(_group_name)]] = Field(default=[], max_length=MAX_GROUPS)
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
    impersonate: StaticIdentity | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = [name for name in self.model_fields_set if getattr(self, name) is not None]
        if len(given) != 1 or len(self.model_fields_set) != 1:
            raise ValueError("exactly one of 'agent: {}', 'ci_job: {}' and 'impersonate: {username: …}' was expected")
        return self


class _FileEntry(FileSection):
    default_namespace: Annotated[str, AfterValidator(_namespace), _nothing_is_empty("")] = ""
    environments: list[Annotated[str, AfterValidator(_environment)]] = []
    protected_branches_only: bool = False
    access_as: Access = Access(agent=Nothing())
    resource_management: Any = None
    annotations: Any = None

    @model_validator(mode="after")
    def _environments_say_something(self) -> Self:
        if "environments" in self.model_fields_set and not self.environments:
            raise ValueError("environments is empty: name at least one, or remove the key to let every job in")
        return self


class ProjectEntry(_FileEntry):
    """One project that may use the agent."""

    id: Annotated[str, AfterValidator(check_project)]


class GroupEntry(_FileEntry):
    """One group whose projects, at any depth, may use the agent."""

    id: Annotated[str, AfterValidator(_group_path)]


class CiAccess(FileSection):
    """Who may use the agent from jobs."""

    projects: Annotated[list[ProjectEntry], _nothing_is_empty([])] = []
    groups: Annotated[list[GroupEntry], _nothing_is_empty([])] = []
    instance: Any = None


class ConfigurationFile(FileSection):
    """The whole file."""

    ci_access: Annotated[CiAccess, _nothing_is_empty({})] = CiAccess()
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
    located = located_yaml.load(text, source, max_bytes)
    context = {"allow_system_identities": allow_system_identities}
    file = located_yaml.validate(ConfigurationFile, located, context)
    return AgentConfig(
        projects=_by_id(_entries(file.ci_access.projects, "projects", located)),
        groups=_by_id(_entries(file.ci_access.groups, "groups", located)),
        notices=tuple(_notices(file)),
    )


def _entries(items: Sequence[ProjectEntry | GroupEntry], source: str, located: Located) -> Iterator[Entry]:
    for index, item in enumerate(items):
        line = located.values["ci_access", source, index].line
        yield Entry(
            where=f"ci_access.{source}[{index}], line {line}",
            id=item.id,
            access_as=_access_as(item.access_as),
            default_namespace=item.default_namespace,
            environments=tuple(item.environments),
            protected_branches_only=item.protected_branches_only,
        )


def _access_as(access: Access) -> AccessAs:
    if access.ci_job is not None:
        return AsJob()
    if (static := access.impersonate) is not None:
        extra = tuple((one.key, tuple(one.val)) for one in static.extra)
        return Impersonate(static.username, tuple(static.groups), static.uid or "", extra)
    return AsAgent()


def _by_id(entries: Iterator[Entry]) -> dict[str, tuple[Entry, ...]]:
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        found.setdefault(entry.id, []).append(entry)
    return {key: tuple(value) for key, value in found.items()}


def _notices(file: ConfigurationFile) -> Iterator[str]:
    for name in type(file).model_fields:
        if name != "ci_access" and name in file.model_fields_set:
            yield f"{name}: accepted, does nothing here"
    if "instance" in file.ci_access.model_fields_set:
        yield "ci_access.instance: accepted, lets nobody in here"
    for source in ("projects", "groups"):
        for name in ("resource_management", "annotations"):
            if any(name in entry.model_fields_set for entry in getattr(file.ci_access, source)):
                yield f"ci_access.{source}[].{name}: accepted, does nothing here"
