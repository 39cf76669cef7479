"""Who asks: what an issuer vouches for. Only the modules of issuers/ construct a Caller."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

OWN_ISSUER = "kas"  # the issuer of kas's own job tokens


class Environment(NamedTuple):
    """The deployment environment of a job. ``slug`` and ``tier`` are empty where the issuer does not say them."""

    name: str
    slug: str = ""
    tier: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A job. What the issuer does not say is None, empty or False, and gives nothing.

    A project is (issuer, path, id): the same path at another issuer is another project.
    """

    issuer: str
    project: str  # full path, never empty
    project_id: int | None = None
    group_ids: tuple[int, ...] = ()  # the project's group and all its ancestors
    ref: str = ""
    ref_protected: bool = False
    environment: Environment | None = None
    pipeline_id: int | None = None
    job_id: int | None = None
    username: str = ""
    user_id: int | None = None
    expires_at: float = 0.0  # unix seconds; a caller past it is nobody

    def __str__(self) -> str:
        """For log lines: the project, and the job where it is known."""
        return self.project if self.job_id is None else f"{self.project} job {self.job_id}"

    def groups(self) -> Iterator[str]:
        """Paths of the groups that the project lies in, innermost first."""
        path = self.project
        while (cut := path.rfind("/")) > 0:
            path = path[:cut]
            yield path
