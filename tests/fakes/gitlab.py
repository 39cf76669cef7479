"""A GitLab as kas asks it: one running job, and what an operator's API token may read."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from tests.fakes.forge import Forge

JOB_TOKEN = "glcbt-64_aaaaaaaaaaaaaaaaaaaa"
API_TOKEN = "glpat-bbbbbbbbbbbbbbbbbbbb"


class Gitlab:
    """Sets the answers of ``forge``. Change ``job``, ``allowed`` (None: its KAS is off), ``projects`` and ``status`` at will."""

    def __init__(self, forge: Forge) -> None:
        self.forge = forge
        self.is_running = True
        self.job: dict[str, Any] = {
            "id": 12,
            "status": "running",
            "ref": "main",
            "tag": False,
            "pipeline": {"id": 11, "project_id": 17, "ref": "main", "source": "push", "status": "running"},
            "user": {"id": 3, "username": "ana"},
            "web_url": f"{forge.url}/shop/web/-/jobs/12",
        }
        self.allowed: dict[str, Any] | None = {
            "allowed_agents": [{"id": 42, "config_project": {"id": 9}, "configuration": {}}],
            "job": {"id": 12},
            "pipeline": {"id": 11},
            "project": {"id": 17, "groups": [{"id": 5}]},
            "user": {"id": 3, "username": "ana", "roles_in_project": ["guest", "reporter", "developer"]},
        }
        self.project: dict[str, Any] = {"id": 17, "path_with_namespace": "shop/web"}
        self.branch: dict[str, Any] = {"name": "main", "protected": True}
        self.environments: list[Any] = [{"name": "production/eu", "slug": "production-eu-x1y2z3"}]
        forge.answers |= {
            "/api/v4/job": self._by_job(lambda: self.job),
            "/api/v4/job/allowed_agents": self._by_job(lambda: self.allowed),
            "/api/v4/projects/17": self._by_api(lambda: self.project),
            "/api/v4/projects/17/repository/branches/main": self._by_api(lambda: self.branch),
            "/api/v4/projects/17/environments": self._by_api(lambda: self.environments),
            "/api/v4/projects/17/jobs/12": self._by_api(
                lambda: {**self.job, "status": "running" if self.is_running else "success"}
            ),
        }

    def deploy_to(self, slug: str = "production-eu-x1y2z3", tier: str = "production") -> None:
        """Give the job an environment."""
        assert self.allowed is not None
        self.allowed["environment"] = {"slug": slug, "tier": tier}

    def _by_job(self, answer: Any) -> Any:
        def of(request: web.Request) -> Any:
            is_known = request.headers.get("Job-Token") == JOB_TOKEN and self.is_running
            return answer() if is_known else web.json_response({"message": "401 Unauthorized"}, status=401)

        return of

    def _by_api(self, answer: Any) -> Any:
        def of(request: web.Request) -> Any:
            is_known = request.headers.get("Private-Token") == API_TOKEN
            return web.json_response(answer()) if is_known else web.json_response({"message": "403"}, status=403)

        return of
