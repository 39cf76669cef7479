"""Whether the job behind an exchanged token still runs: asked of its forge, where the operator gives kas a token that may read jobs.

One question per job each few seconds, however many streams and tokens the job has; the gate asks only while somebody uses them.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

from kas.access.caller import Caller
from kas.access.issuers.gitlab_job_tokens import OVER as GITLAB_OVER
from kas.errors import IssuerUnavailable, JobIsOver
from kas.outbound import Outbound, PeerUnavailable, read_json

KEPT_S = 4.0
MAX_JOBS = 10_000
MAX_RETRY_AFTER_S = 60.0
_FORGEJO_OVER = frozenset({"success", "failure", "cancelled", "skipped", "completed"})


class _Job:
    """One job, and until when what is known of it counts."""

    __slots__ = ("asking", "error", "is_over", "until")

    def __init__(self) -> None:
        self.asking = asyncio.Lock()
        self.is_over = False
        self.error = ""  # why that is not known
        self.until = 0.0


class PolledJobs:
    """A JobWatch that asks ``is_over(caller)`` at most each KEPT_S for one job; a job that is over stays so."""

    def __init__(self, name: str, is_over: Callable[[Caller], Awaitable[bool]], monotonic: Callable[[], float]) -> None:
        self._name = name
        self._is_over = is_over
        self._clock = monotonic
        self._jobs: OrderedDict[tuple[str, str, str], _Job] = OrderedDict()

    async def ensure_running(self, caller: Caller) -> None:
        """See JobWatch."""
        key = (caller.project, caller.pipeline_id, caller.job_id)
        job = self._jobs.setdefault(key, _Job())
        self._jobs.move_to_end(key)
        if len(self._jobs) > MAX_JOBS:
            self._jobs.popitem(last=False)
        if not job.is_over and self._clock() >= job.until:
            async with job.asking:
                if self._clock() >= job.until:
                    await self._ask(caller, job)
        if job.is_over:
            raise JobIsOver
        if job.error:
            raise IssuerUnavailable(job.error)

    async def _ask(self, caller: Caller, job: _Job) -> None:
        """A failure counts for everybody who waits, and until the forge may be asked again."""
        kept_s = KEPT_S
        try:
            job.is_over, job.error = await self._is_over(caller), ""
        except PeerUnavailable as error:
            job.error = f"{self._name} cannot be asked right now whether the job still runs: {error}"
            kept_s = max(KEPT_S, min(error.retry_after_s, MAX_RETRY_AFTER_S))
        job.until = self._clock() + kept_s


class Forge:
    """Asks one forge about jobs. Every method returns whether the job is over, and raises PeerUnavailable."""

    def __init__(self, api_url: str, token: str, outbound: Outbound, tls: ssl.SSLContext | None) -> None:
        self._url = api_url.rstrip("/")
        self._token = token
        self._outbound = outbound
        self._tls = tls
        # By path: an answer "not modified" costs no quota at GitHub.
        self._etags: OrderedDict[str, tuple[str, dict[str, Any]]] = OrderedDict()

    async def gitlab(self, caller: Caller) -> bool:
        """``GET /projects/:id/jobs/:job_id`` of GitLab."""
        path = f"/api/v4/projects/{_part(caller.project_id)}/jobs/{_part(caller.job_id)}"
        return await self._status(path, {"Private-Token": self._token}) in GITLAB_OVER

    async def github(self, caller: Caller) -> bool:
        """The check run of the job where the token named it, else the run and its attempt."""
        headers = {
            "Authorization": f"Bearer {self._token}",
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": "2022-11-28",
        }
        run, _, attempt = caller.job_id.partition("-")
        if attempt:
            said = await self._object(f"/repos/{caller.project}/actions/runs/{_part(run)}", headers)
            if said.get("status") == "completed":
                return True
            if not isinstance(said.get("run_attempt"), int):
                raise PeerUnavailable("the forge does not say how it stands with the job")
            return str(said["run_attempt"]) != attempt
        return await self._status(f"/repos/{caller.project}/check-runs/{_part(run)}", headers) == "completed"

    async def forgejo(self, caller: Caller) -> bool:
        """``GET /repos/:owner/:repo/actions/runs/:run`` of Forgejo and Gitea."""
        path = f"/api/v1/repos/{caller.project}/actions/runs/{_part(caller.pipeline_id)}"
        return await self._status(path, {"Authorization": f"token {self._token}"}) in _FORGEJO_OVER

    async def _status(self, path: str, headers: dict[str, str]) -> str:
        status = (await self._object(path, headers)).get("status")
        if not isinstance(status, str):
            raise PeerUnavailable("the forge does not say how it stands with the job")
        return status

    async def _object(self, path: str, headers: dict[str, str]) -> dict[str, Any]:
        known = self._etags.get(path)
        if known is not None:
            headers = {**headers, "If-None-Match": known[0]}
        url = f"{self._url}{path}"
        reply = await self._outbound.get(url, headers=headers, tls=self._tls)
        status, said = reply.status, read_json(reply, url)
        if status == 304 and known is not None:
            return known[1]
        if status == 404:
            return (
                {"status": "completed"} if "/api/v4/" not in path else {"status": "canceled"}
            )  # a job that was erased
        if status != 200 or not isinstance(said, dict):
            raise PeerUnavailable(f"the forge answers {status} about the job: look at what its api_token_file may read")
        if etag := reply.headers.get("etag"):
            self._etags[path] = (etag, said)
            if len(self._etags) > MAX_JOBS:
                self._etags.popitem(last=False)
        return said


def _part(text: str) -> str:
    return quote(text, safe="")
