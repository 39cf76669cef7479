"""Jobs ask for tokens over TLS: with a project's secret, for an ID token, and give them back. The gate and the store are real."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml

from kas.access.caller import Caller, Environment
from kas.errors import IssuerUnavailable, StoreUnavailable, Unauthenticated
from kas.limits.limits import LimitSettings
from kas.management_api import job_tokens as module
from kas.store import MayClaim
from tests.integration.kas.management_api.conftest import World

MAY: MayClaim = {
    "environments": [{"pattern": "production", "tier": "production"}],
    "refs": ["main"],
    "protected": True,
}
ID_CALLER = Caller(
    issuer="github",
    project="group/app",
    project_id="17",
    group_ids=("5",),
    ref="main",
    ref_type="branch",
    ref_protected=True,
    environment=Environment("production"),
    pipeline_id="900",
    job_id="12",
    username="ana",
    user_id="3",
    expires_at=4_000_000_000.0,
    from_id_token=True,
)


async def registered(world: World, may_claim: MayClaim = MAY, max_ttl_s: int = 3600, **more: Any) -> tuple[int, str]:
    record, secret = await world.store.registrations.create(
        {"project": "group/app", "project_id": "17"}, may_claim, max_ttl_s, **more
    )
    return record.id, secret


async def issue(world: World, secret: str, body: Any = None) -> tuple[int, dict[str, str], Any]:
    data = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
    status, headers, text = await world.ask("POST", "/kas/v1/job-tokens", f"Authorization: Bearer {secret}", body=data)
    return status, headers, json.loads(text)


async def exchange(world: World, token: str, **changed: Any) -> tuple[int, dict[str, str], Any]:
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": token,
        "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
        **changed,
    }
    kind = "Content-Type: application/x-www-form-urlencoded"
    status, headers, text = await world.ask("POST", "/kas/v1/token", kind, body=urlencode(form).encode())
    return status, headers, json.loads(text)


class TestWithAProjectsSecret:
    async def test_a_job_gets_a_token_that_says_what_it_may_claim(self, world: World) -> None:
        number, secret = await registered(world)
        said = {"ref": "main", "protected": True, "environment": {"name": "production"}, "job_id": 7, "ttl_s": 600}

        status, headers, answer = await issue(world, secret, said)

        assert status == 201
        assert headers["Cache-Control"] == "no-store"
        assert headers["Content-Type"].startswith("application/json")
        record = await world.store.job_tokens.find(answer["token"].encode())
        assert record is not None
        assert (answer["id"], answer["expires_at"]) == (record.id, record.expires_at)
        assert record.expires_at - record.created_at == 600
        assert record.claims == {
            "project": "group/app",
            "project_id": "17",
            "ref": "main",
            "ref_type": "branch",
            "ref_protected": True,
            "environment": {"name": "production", "slug": "production", "tier": "production"},
            "job_id": "7",
        }
        (listed,) = await world.store.registrations.list()
        assert listed.last_used_at is not None
        await world.store.registrations.revoke(number)
        assert await world.store.job_tokens.find(answer["token"].encode()) is None

    async def test_and_its_kubeconfig_with_it(self, world: World) -> None:
        _, secret = await registered(world)
        token = (await issue(world, secret))[2]["token"]
        status, _, body = await world.get(f"Authorization: Bearer {token}")
        assert status == 200
        assert {user["user"]["token"].split(":")[2] for user in yaml.safe_load(body)["users"]} == {token}

    async def test_it_lives_as_long_as_the_registration_says_and_never_longer_than_kas_yaml(self, world: World) -> None:
        _, secret = await registered(world, max_ttl_s=100)
        record = await world.store.job_tokens.find((await issue(world, secret))[2]["token"].encode())
        assert record is not None
        assert record.expires_at - record.created_at == 100
        status, _, answer = await issue(world, secret, {"ttl_s": 101})
        assert (status, answer["error"]) == (403, "ttl_s: it is 100 at most for this secret")
        world.lives = world.lives._replace(max_s=50)
        assert (await issue(world, secret, {"ttl_s": 51}))[0] == 403
        assert (await issue(world, secret, {"ttl_s": 50}))[0] == 201

    @pytest.mark.parametrize(
        ("body", "status", "said"),
        [
            ({"ref": "develop"}, 403, "ref: branch 'develop' may not be claimed with this secret"),
            ({"environment": {"name": "x"}}, 403, "environment.name: 'x' may not be claimed with this secret"),
            ({"project": "group/other"}, 400, "project: there is no such field"),
            ({"job_id": -1}, 400, "job_id: a number above 0, or a text, was expected"),
            (b"not json", 400, "the body: a JSON object was expected"),
        ],
    )
    async def test_an_error_names_the_field(self, world: World, body: Any, status: int, said: str) -> None:
        _, secret = await registered(world)
        got, _, answer = await issue(world, secret, body)
        assert got == status
        assert answer["error"].startswith(said)
        assert answer["remedy"]
        assert await world.store.job_tokens.list() == []

    @pytest.mark.covers("A-13")
    async def test_no_other_secret_gets_a_token_and_this_one_is_no_job_token(self, world: World) -> None:
        _, secret = await registered(world)
        _, agent_token = await world.store.agents.register("group/app", "another")
        job_token = await world.token("group/app")
        _, expired = await registered(world, ttl_s=-1)
        number, revoked = await registered(world)
        await world.store.registrations.revoke(number)
        for wrong in (agent_token, job_token, expired, revoked, secret[:-1], "x", f"ci:1:{secret}"):
            status, headers, answer = await issue(world, wrong)
            assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
            assert answer["error"] == "The token is missing, malformed, unknown, expired or revoked."
        assert (await world.ask("POST", "/kas/v1/job-tokens", body=b"{}"))[0] == 401
        for path in ("/kas/v1/job-tokens/revoke",):
            assert (await world.ask("POST", path, f"Authorization: Bearer {secret}"))[0] == 401
        assert (await world.get(f"Authorization: Bearer {secret}"))[0] == 401
        assert (await exchange(world, secret))[0] == 400

    async def test_a_script_that_runs_wild_is_told_to_wait(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("kas.store.job_tokens.MAX_LIVING", 1)
        _, secret = await registered(world)
        assert (await issue(world, secret))[0] == 201
        status, headers, answer = await issue(world, secret)
        assert (status, headers["Retry-After"]) == (429, "60")
        assert "1 tokens of this registration are in force" in answer["error"]

    async def test_a_body_that_is_too_large_is_not_read(self, world: World) -> None:
        _, secret = await registered(world)
        status, _, answer = await issue(world, secret, b" " * 1024 * 1024 + b"{}")
        assert status == 413
        assert "larger than" in answer["error"]

    async def test_while_the_database_is_away_it_says_so(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        async def down(secret: bytes) -> None:
            raise StoreUnavailable("the database is locked")

        _, secret = await registered(world)
        monkeypatch.setattr(world.store.registrations, "find", down)
        status, headers, answer = await issue(world, secret)
        assert (status, headers["Retry-After"], answer["error"]) == (503, "5", "the database is locked")


class TestGivingATokenBack:
    async def test_a_job_ends_its_own_access(self, world: World) -> None:
        token, other = await world.token("group/app"), await world.token("group/app")
        status, _, body = await world.ask("POST", "/kas/v1/job-tokens/revoke", f"Authorization: Bearer {token}")
        assert (status, json.loads(body)) == (200, {"revoked": 1})
        assert await world.store.job_tokens.find(token.encode()) is None
        assert await world.store.job_tokens.find(other.encode()) is not None
        assert (await world.ask("POST", "/kas/v1/job-tokens/revoke", f"Authorization: Bearer {token}"))[0] == 401

    async def test_a_get_or_no_token_ends_nothing(self, world: World) -> None:
        token = await world.token("group/app")
        status, headers, _ = await world.get(f"Authorization: Bearer {token}", path="/kas/v1/job-tokens/revoke")
        assert (status, headers["Allow"]) == (405, "POST")
        assert (await world.ask("POST", "/kas/v1/job-tokens/revoke"))[0] == 401
        assert await world.store.job_tokens.find(token.encode()) is not None


class TestExchange:
    async def test_an_id_token_becomes_a_job_token_with_all_its_claims(self, world: World) -> None:
        world.issuer.callers[b"id-token"] = ID_CALLER
        status, headers, answer = await exchange(world, "id-token")
        assert status == 200
        assert headers["Cache-Control"] == "no-store"
        token = answer.pop("access_token")
        assert answer == {
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "token_type": "Bearer",
            "expires_in": 3600,
        }
        record = await world.store.job_tokens.find(token.encode())
        assert record is not None
        got = await world.gate.identify(token.encode())
        assert not got.from_id_token
        same = ("issuer", "project", "project_id", "group_ids", "ref", "ref_type", "ref_protected", "environment")
        for name in (*same, "pipeline_id", "job_id", "username", "user_id", "is_fork", "roles"):
            assert getattr(got, name) == getattr(ID_CALLER, name), name
        assert got.expires_at == record.expires_at

    @pytest.mark.parametrize(("asked", "life_s"), [("600", 600), ("86400", 7200), ("7200", 7200)])
    async def test_a_life_may_be_asked_for_up_to_the_operators_limit(
        self, world: World, asked: str, life_s: int
    ) -> None:
        world.issuer.callers[b"id-token"] = ID_CALLER
        assert (await exchange(world, "id-token", expires_in=asked))[2]["expires_in"] == life_s

    async def test_a_fresh_id_token_renews_and_widens_nothing(self, world: World) -> None:
        world.issuer.callers[b"first"] = ID_CALLER
        first = (await exchange(world, "first"))[2]["access_token"]
        assert (await exchange(world, first))[2]["error_description"].startswith("subject_token: this is no ID token")
        world.issuer.callers[b"second"] = ID_CALLER
        second = (await exchange(world, "second"))[2]["access_token"]
        one, other = [await world.store.job_tokens.find(token.encode()) for token in (first, second)]
        assert one is not None
        assert other is not None
        assert one.claims == other.claims

    @pytest.mark.parametrize(
        ("changed", "code"),
        [
            ({"grant_type": "password"}, "unsupported_grant_type"),
            ({"subject_token": ""}, "invalid_request"),
            ({"subject_token_type": "x"}, "invalid_request"),
            ({"requested_token_type": "x"}, "invalid_request"),
            ({"scope": "x"}, "invalid_scope"),
            ({"expires_in": "x"}, "invalid_request"),
        ],
    )
    async def test_an_error_is_that_of_the_rfc(self, world: World, changed: dict[str, str], code: str) -> None:
        world.issuer.callers[b"id-token"] = ID_CALLER
        status, headers, answer = await exchange(world, "id-token", **changed)
        assert (status, answer["error"]) == (400, code)
        assert answer["error_description"]
        assert headers["Cache-Control"] == "no-store"
        assert await world.store.job_tokens.list() == []

    async def test_a_token_that_does_not_count_is_an_invalid_request_with_the_issuers_reason(
        self, world: World
    ) -> None:
        world.issuer.errors[b"old"] = Unauthenticated('the ID token has expired 9 s ago: take a "fresh" one')
        status, _, answer = await exchange(world, "old")
        assert (status, answer["error"]) == (400, "invalid_request")
        assert answer["error_description"] == "subject_token: the ID token has expired 9 s ago: take a 'fresh' one"
        assert (await exchange(world, "of-nobody"))[2]["error"] == "invalid_request"

    @pytest.mark.covers("A-13")
    async def test_only_id_tokens_are_exchanged(self, world: World) -> None:
        world.issuer.callers[b"ci-job-token"] = Caller(issuer="gitlab", project="group/app", expires_at=4e9)
        job_token = await world.token("group/app")
        _, agent_token = await world.store.agents.register("group/app", "another")
        for wrong in ("ci-job-token", job_token, agent_token):
            assert (await exchange(world, wrong))[0] == 400
        assert len(await world.store.job_tokens.list()) == 1

    @pytest.mark.covers("A-11")
    async def test_an_issuer_that_is_down_is_a_503(self, world: World) -> None:
        world.issuer.errors[b"id-token"] = IssuerUnavailable("github cannot be reached")
        status, headers, answer = await exchange(world, "id-token")
        assert (status, headers["Retry-After"]) == (503, "5")
        assert answer == {"error": "temporarily_unavailable", "error_description": "github cannot be reached"}

    async def test_claims_that_are_too_large_are_refused(self, world: World) -> None:
        groups = tuple(str(number) for number in range(10_000))
        world.issuer.callers[b"id-token"] = Caller(
            issuer="github", project="group/app", group_ids=groups, expires_at=4e9, from_id_token=True
        )
        status, _, answer = await exchange(world, "id-token")
        assert (status, answer["error"]) == (400, "invalid_request")

    async def test_json_and_a_form_that_is_too_large_are_refused(self, world: World) -> None:
        kind = "Content-Type: application/json"
        status, _, body = await world.ask("POST", "/kas/v1/token", kind, body=b"{}")
        assert (status, json.loads(body)["error"]) == (400, "invalid_request")
        kind = "Content-Type: application/x-www-form-urlencoded"
        assert (await world.ask("POST", "/kas/v1/token", kind, body=b"a=" + b"b" * 1024 * 1024))[0] == 413

    async def test_one_id_token_gets_so_many_job_tokens_at_most(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "MAX_PER_ID_TOKEN", 2)
        world.issuer.callers[b"id-token"] = world.issuer.callers[b"other"] = ID_CALLER
        assert [(await exchange(world, "id-token"))[0] for _ in range(3)] == [200, 200, 429]
        assert (await exchange(world, "other"))[0] == 200

    async def test_many_at_once_are_all_answered(self, world: World) -> None:
        world.issuer.callers[b"id-token"] = ID_CALLER
        answers = await asyncio.gather(*(exchange(world, "id-token") for _ in range(8)))
        assert len({answer["access_token"] for _, _, answer in answers}) == 8
        assert world.issuer.asked.count(b"id-token") == 1


class TestTheKubeconfigOfAnIdToken:
    async def test_it_holds_a_job_token_instead(self, world: World) -> None:
        world.issuer.callers[b"id-token"] = ID_CALLER
        world.let_in("github")
        status, _, body = await world.get("Authorization: Bearer id-token")
        assert status == 200
        (user,) = yaml.safe_load(body)["users"]
        token = user["user"]["token"].split(":")[2]
        assert token.startswith("kasjob-")
        assert (await world.gate.identify(token.encode())).job_id == "12"
        assert "id-token" not in body

    async def test_a_job_that_may_use_no_agent_gets_no_token(self, world: World) -> None:
        world.issuer.callers[b"id-token"] = ID_CALLER
        status, _, body = await world.get("Authorization: Bearer id-token")
        assert (status, yaml.safe_load(body)["users"]) == (200, [])
        assert await world.store.job_tokens.list() == []

    async def test_a_token_of_a_forge_stays_as_it_is(self, world: World) -> None:
        world.issuer.callers[b"ci-job-token"] = Caller(issuer="github", project="group/app", expires_at=4e9)
        world.let_in("github")
        _, _, body = await world.get("Authorization: Bearer ci-job-token")
        assert yaml.safe_load(body)["users"][0]["user"]["token"].endswith(":ci-job-token")
        assert await world.store.job_tokens.list() == []

    async def test_the_issuers_reason_is_said(self, world: World) -> None:
        world.issuer.errors[b"id-token"] = Unauthenticated("the ID token is for another audience")
        status, _, body = await world.get("Authorization: Bearer id-token")
        assert (status, json.loads(body)["error"]) == (401, "the ID token is for another audience")


@pytest.mark.covers("A-12")
@pytest.mark.parametrize("way", ["kubeconfig", "exchange", "issue", "revoke"])
async def test_an_address_that_shows_many_wrong_tokens_is_slowed_at_every_path(world: World, way: str) -> None:
    world.limits.reconfigure(LimitSettings(wrong_tokens_per_s=0.1, wrong_tokens_burst=3))

    async def shown(number: int) -> int:
        wrong = f"wrong-{number}"
        if way == "exchange":
            return (await exchange(world, wrong))[0]
        if way == "issue":
            return (await issue(world, wrong))[0]
        path, method = ("/kas/v1/job-tokens/revoke", "POST") if way == "revoke" else ("/kas/v1/kubeconfig", "GET")
        status, headers, _ = await world.get(f"Authorization: Bearer {wrong}", path=path, method=method)
        assert status != 429 or int(headers["Retry-After"]) > 0
        return status

    statuses = [await shown(number) for number in range(5)]
    assert statuses == [400 if way == "exchange" else 401] * 3 + [429] * 2
