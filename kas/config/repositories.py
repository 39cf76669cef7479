"""Where the configuration of agents is read."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from kas.config.base import FilePath, Project, Section, option


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
