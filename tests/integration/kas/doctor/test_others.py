"""`kas doctor` and those whom kas asks: issuers and forges with one fault each. kas itself need not run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.fakes.connect_proxy import ConnectProxy
from tests.fakes.forge import Forge, SigningKey
from tests.fakes.gitlab import API_TOKEN, Gitlab
from tests.support.doctor import Examined, examined


class Case:
    """A kas.yaml with one issuer or repository that leads to ``forge``."""

    def __init__(self, folder: Path, forge: Forge) -> None:
        self.folder = folder
        self.forge = forge
        self.token = folder / "api-token"
        self.token.touch(0o600)
        self.token.write_text(API_TOKEN)

    async def examine(self, environment: dict[str, str] | None = None, **document: Any) -> Examined:
        file = self.folder / "kas.yaml"
        file.write_text(json.dumps({"state_dir": str(self.folder / "state"), **document}))
        return await asyncio.to_thread(examined, "kas", "--config", file, environment=environment)

    async def issuer(self, environment: dict[str, str] | None = None, **options: Any) -> Examined:
        common = {"name": "forge", "ca_file": str(self.forge.authority.ca)}
        return await self.examine(environment, issuers=[{**common, **options}])

    async def oidc(self, **options: Any) -> Examined:
        kind = {"type": "kubernetes", "issuer": self.forge.url, "audience": "kas"}
        return await self.issuer(**{**kind, **options})


@pytest.fixture
async def case(tmp_path: Path) -> AsyncIterator[Case]:
    async with Forge(tmp_path) as forge:
        forge.publish(SigningKey())
        forge.answers["/api/v4/version"] = lambda request: web.json_response(
            {}, status=200 if request.headers.get("Private-Token") == API_TOKEN else 401
        )
        yield Case(tmp_path, forge)


async def test_an_issuer_of_id_tokens_is_asked_for_its_keys_and_its_time(case: Case) -> None:
    found = await case.oidc()
    assert "publishes 1 keys" in found.rows["issuer forge"].said
    assert found.rows["issuer forge: clock"].state == "ok"


async def test_an_issuer_that_fails_is_told(case: Case) -> None:
    case.forge.status = 503
    row = (await case.oidc()).rows["issuer forge"]
    assert (row.state, "503" in row.said) == ("broken", True)
    case.forge.status, case.forge.body = 200, b"<html>"
    row = (await case.oidc()).rows["issuer forge"]
    assert (row.state, "not JSON" in row.said) == ("broken", True)


async def test_a_discovery_document_of_another_issuer_is_told(case: Case) -> None:
    case.forge.publish(SigningKey(), issuer="https://evil.example.com")
    row = (await case.oidc()).rows["issuer forge"]
    assert (row.state, "another issuer" in row.said) == ("broken", True)


async def test_an_issuer_whose_certificate_is_not_trusted_is_told_with_the_certificate(case: Case) -> None:
    row = (await case.oidc(ca_file=None)).rows["issuer forge"]
    assert row.state == "broken"
    assert "issued by forge CA" in row.said
    assert "ca_file" in row.remedy


async def test_an_issuer_that_is_unknown_or_does_not_listen_is_told_at_the_hop(case: Case) -> None:
    row = (await case.oidc(issuer="https://no-such-host.invalid")).rows["issuer forge"]
    assert (row.state, "no-such-host.invalid" in row.said) == ("broken", True)
    row = (await case.oidc(issuer="https://localhost:1")).rows["issuer forge"]
    assert (row.state, "refuses" in row.said) == ("broken", True)


async def test_an_issuer_whose_clock_is_another_is_told(case: Case) -> None:
    def earlier(_: web.Request) -> web.Response:
        date = format_datetime(datetime.now(UTC) - timedelta(minutes=1), usegmt=True)
        return web.json_response({}, status=401, headers={"Date": date})

    case.forge.answers["/api/v4/version"] = earlier
    found = await case.issuer(type="gitlab", url=case.forge.url)
    assert found.rows["issuer forge: clock"].state == "warning"
    assert "ahead of forge" in found.rows["issuer forge: clock"].said


async def test_a_gitlab_and_its_api_token_are_looked_at(case: Case) -> None:
    Gitlab(case.forge)
    options = {"type": "gitlab", "url": case.forge.url, "api_token_file": str(case.token)}
    found = await case.issuer(**options)
    assert found.rows["issuer forge"].state == "ok"
    assert found.rows["issuer forge: API token"].state == "ok"
    case.token.write_text("glpat-revoked")
    row = (await case.issuer(**options)).rows["issuer forge: API token"]
    assert (row.state, "401" in row.said, "revoked" in row.said) == ("broken", True, False)


async def test_what_is_no_gitlab_is_told(case: Case) -> None:
    case.forge.fallback = lambda _: web.Response(text="<html>")
    row = (await case.issuer(type="gitlab", url=f"{case.forge.url}/elsewhere")).rows["issuer forge"]
    assert (row.state, "not as GitLab does" in row.said) == ("broken", True)


@pytest.mark.parametrize("status", [403, 405, 407, 418, 502])
async def test_a_proxy_on_the_way_to_an_issuer_that_refuses_is_told(case: Case, status: int) -> None:
    async with ConnectProxy() as proxy:
        proxy.status = status
        environment = {"HTTPS_PROXY": proxy.url}
        found = await case.issuer(environment, type="gitlab", url="https://gitlab.test")
    row = found.rows["issuer forge"]
    assert (row.state, f"answers {status} to CONNECT gitlab.test:443" in row.said) == ("broken", True)
    assert "kas" not in row.remedy  # it is on the way from kas, not to it
    assert "gitlab.test" in row.remedy or status == 407


async def test_a_proxy_that_cannot_be_used_is_told_by_its_variable(case: Case) -> None:
    found = await case.issuer({"HTTPS_PROXY": "socks5://joe:pass@proxy"}, type="gitlab", url="https://gitlab.test")
    row = found.rows["issuer forge"]
    assert (row.state, "HTTPS_PROXY" in row.said, "pass" in row.said) == ("broken", True, False)


async def test_repositories_are_looked_at_where_they_are(case: Case) -> None:
    forge = {"forge": "gitlab", "url": case.forge.url, "projects": ["platform/*"], "token_file": str(case.token)}
    found = await case.examine(
        configuration_repositories=[
            {"root": str(case.folder)},
            {"root": str(case.folder / "nowhere")},
            {"project": "a/b", "git": f"{case.forge.url}/a/b.git", "ca_file": str(case.forge.authority.ca)},
            {**forge, "ca_file": str(case.forge.authority.ca)},
        ]
    )
    assert [found.rows[f"repositories[{number}]"].state for number in range(4)] == ["ok", "broken", "broken", "ok"]
    assert "nowhere" in found.rows["repositories[1]"].said
    case.token.write_text("glpat-revoked")
    found = await case.examine(
        configuration_repositories=[{**forge, "ca_file": str(case.forge.authority.ca)}],
    )
    assert "401" in found.rows["repositories[0]"].said
