"""Who asks: what an issuer vouches for. Only the modules of issuers/ construct a Caller that may do anything.

(`kas explain` describes one, which gets nothing.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

OWN_ISSUER = "kas"  # the issuer of kas's own job tokens
RECHECK_S = 60.0


class Environment(NamedTuple):
    """The deployment environment of a job. ``slug`` and ``tier`` are empty where the issuer does not say them."""

    name: str
    slug: str = ""
    tier: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A job. What the issuer does not say is empty, False or None, and gives nothing.

    A project is (issuer, path, id): the same path at another issuer is another project. Ids are texts, since not every forge has
    numbers, and never change, unlike paths.
    """

    issuer: str  # its name in kas.yaml
    project: str  # full path, never empty
    project_id: str = ""
    group_ids: tuple[str, ...] = ()  # the project's group and all its ancestors, innermost first
    ref: str = ""  # short: main, v1.2
    ref_type: str = ""  # "branch" or "tag"
    ref_protected: bool = False
    is_fork: bool = False  # of a fork, or for a pull request that comes from one or may
    environment: Environment | None = None
    pipeline_id: str = ""
    job_id: str = ""
    username: str = ""
    user_id: str = ""
    roles: tuple[str, ...] = ()  # of the user in the project, lowest first
    expires_at: float = 0.0  # unix seconds; a caller past it is nobody
    is_public_issuer: bool = (
        False  # strangers can have projects there: entries for the whole instance let none of them in
    )
    speaks_gitlab: bool = False  # its ids are GitLab's, or given to be used like them: see identity.py
    forge_agents: frozenset[str] | None = (
        None  # ids of the agents that the forge itself lets the job use; None: it was not asked
    )
    from_id_token: bool = False  # which is too short-lived for a job: to be exchanged for a token of kas's own
    recheck_s: float = RECHECK_S  # how old this may become while the caller has streams open

    def __str__(self) -> str:
        """For log lines: the project, and the job where it is known."""
        return f"{self.project} job {self.job_id}" if self.job_id else self.project

    @property
    def full_ref(self) -> str:
        """As git names it: ``refs/heads/main``, ``refs/tags/v1.2``; empty where it is not known which of the two it is."""
        folder = {"branch": "refs/heads/", "tag": "refs/tags/"}.get(self.ref_type)
        return f"{folder}{self.ref}" if folder and self.ref else ""

    def groups(self) -> Iterator[str]:
        """Paths of the groups that the project lies in, innermost first."""
        path = self.project
        while (cut := path.rfind("/")) > 0:
            path = path[:cut]
            yield path
