"""kas's own job tokens become callers."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kas.access.caller import Caller, Environment
from kas.access.issuers.own_tokens import OwnTokens, caller_of, claims_of
from kas.errors import IssuerUnavailable, JobIsOver, StoreUnavailable, Unauthenticated
from kas.store import open_store
from kas.store.records import JobClaims


class Down:
    async def find(self, token: bytes):
        raise StoreUnavailable


@pytest.fixture
async def store(tmp_path):
    async with open_store(f"sqlite:///{tmp_path}/kas.db", clock=lambda: 1_700_000_000.0) as store:
        yield store


async def test_every_claim_reaches_the_caller(store):
    claims: JobClaims = {
        "project": "group/sub/app",
        "project_id": "42",
        "group_ids": ["5", "3"],
        "ref": "main",
        "ref_protected": True,
        "environment": {"name": "prod/eu", "slug": "prod-eu", "tier": "production"},
        "pipeline_id": "900",
        "job_id": "1234",
        "username": "ana",
        "user_id": "9",
    }
    token = await store.job_tokens.issue(claims, 900)

    assert await OwnTokens(store.job_tokens).caller(token.encode()) == Caller(
        issuer="kas",
        project="group/sub/app",
        project_id="42",
        group_ids=("5", "3"),
        ref="main",
        ref_protected=True,
        environment=Environment("prod/eu", "prod-eu", "production"),
        pipeline_id="900",
        job_id="1234",
        username="ana",
        user_id="9",
        expires_at=1_700_000_900.0,
        speaks_gitlab=True,
    )


async def test_what_a_token_does_not_say_is_not_known(store):
    token = await store.job_tokens.issue({"project": "group/app"}, 900)
    assert await OwnTokens(store.job_tokens).caller(token.encode()) == Caller(
        issuer="kas", project="group/app", expires_at=1_700_000_900.0, speaks_gitlab=True
    )


@pytest.mark.covers("A-13", "T9")
async def test_an_agents_token_and_other_bytes_are_nobody(store):
    _, agent_token = await store.agents.register("group/app", "demo")
    issuer = OwnTokens(store.job_tokens)
    for token in (agent_token.encode(), b"", b"kasjob-", b"kasjob-" + b"x" * 43, b"\xff" * 50, b"eyJ.a.b"):
        assert await issuer.caller(token) is None


async def test_a_database_that_is_away_is_an_issuer_that_cannot_be_asked():
    with pytest.raises(IssuerUnavailable, match="the database is unavailable"):
        await OwnTokens(Down()).caller(b"kasjob-x")


class Configured:
    """An entry of ``issuers``."""

    def __init__(self, name: str = "github", owners: tuple[str, ...] = (), is_public: bool = False) -> None:
        self.name = name
        self.owners = owners
        self.is_public = is_public


class Watch:
    """A JobWatch that says what the test wants."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.asked: list[Caller] = []

    async def ensure_running(self, caller: Caller) -> None:
        self.asked.append(caller)
        if self.error is not None:
            raise self.error


TEXTS = st.text(max_size=5)
CALLERS = st.builds(
    Caller,
    issuer=st.just("github"),
    project=st.text(min_size=1, max_size=8),
    project_id=TEXTS,
    group_ids=st.lists(TEXTS, max_size=3).map(tuple),
    ref=TEXTS,
    ref_type=st.sampled_from(["", "branch", "tag"]),
    ref_protected=st.booleans(),
    is_fork=st.booleans(),
    environment=st.none() | st.builds(Environment, TEXTS, TEXTS, TEXTS),
    pipeline_id=TEXTS,
    job_id=TEXTS,
    username=TEXTS,
    user_id=TEXTS,
    roles=st.lists(TEXTS, max_size=3).map(tuple),
    expires_at=st.just(5.0),
    is_public_issuer=st.booleans(),
    speaks_gitlab=st.booleans(),
    forge_agents=st.none() | st.frozensets(TEXTS, max_size=3),
    from_id_token=st.just(True),
)


@given(CALLERS)
def test_an_exchanged_tokens_caller_is_the_id_tokens_apart_from_its_end(caller: Caller):
    through_the_database = json.loads(json.dumps(claims_of(caller)))
    assert caller_of(through_the_database, 9.0) == replace(caller, expires_at=9.0, from_id_token=False)


def test_no_field_of_a_caller_is_forgotten():
    # Whoever adds one must say here whether an exchanged token keeps it.
    known = {"issuer", "project", *claims_of_everything(), "expires_at", "from_id_token", "recheck_s"}
    assert {field.name for field in dataclasses.fields(Caller)} == known


def claims_of_everything() -> set[str]:
    everything = Caller(
        issuer="github",
        project="acme/web",
        project_id="1",
        group_ids=("2",),
        ref="main",
        ref_type="branch",
        ref_protected=True,
        is_fork=True,
        environment=Environment("a"),
        pipeline_id="3",
        job_id="4",
        username="ana",
        user_id="5",
        roles=("guest",),
        is_public_issuer=True,
        speaks_gitlab=True,
        forge_agents=frozenset(),
    )
    return set(claims_of(everything))


ID_CALLER = Caller(issuer="github", project="acme/web", group_ids=("5",), from_id_token=True, expires_at=1.0)


@pytest.fixture
async def exchanged(store) -> bytes:
    return (await store.job_tokens.issue(claims_of(ID_CALLER), 900)).encode()


async def test_an_exchanged_token_counts_as_long_as_its_issuer_is_configured(store, exchanged):
    found = await OwnTokens(store.job_tokens, [Configured()]).caller(exchanged)
    assert found == replace(ID_CALLER, expires_at=1_700_000_900.0, from_id_token=False)
    for others in ([], [Configured("gitlab")]):
        with pytest.raises(Unauthenticated, match="github, which is no issuer any more"):
            await OwnTokens(store.job_tokens, others).caller(exchanged)


@pytest.mark.parametrize(("owners", "counts"), [((), True), (("acme",), True), (("id:5",), True), (("other",), False)])
async def test_it_counts_as_long_as_its_owner_may_use_kas(store, exchanged, owners, counts):
    issuer = OwnTokens(store.job_tokens, [Configured(owners=owners)])
    if counts:
        assert await issuer.caller(exchanged) is not None
    else:
        with pytest.raises(Unauthenticated, match=r"issuers, github: owners"):
            await issuer.caller(exchanged)


async def test_an_issuer_that_is_called_public_now_is_so_for_tokens_of_before(store, exchanged):
    found = await OwnTokens(store.job_tokens, [Configured(is_public=True)]).caller(exchanged)
    assert found is not None
    assert found.is_public_issuer


@pytest.mark.covers("A-09", "A-11")
@pytest.mark.parametrize("error", [JobIsOver(), IssuerUnavailable("github cannot be asked")])
async def test_where_the_forge_can_be_asked_access_ends_with_the_job(store, exchanged, error):
    watch = Watch()
    issuer = OwnTokens(store.job_tokens, [Configured()], {"github": watch})
    found = await issuer.caller(exchanged)
    assert found is not None
    assert found.recheck_s == 5.0
    assert watch.asked[0].project == "acme/web"
    watch.error = error
    with pytest.raises(type(error)):
        await issuer.caller(exchanged)


async def test_nobody_is_asked_about_tokens_that_were_not_exchanged(store):
    token = await store.job_tokens.issue({"project": "group/app"}, 900)
    watch = Watch()
    assert await OwnTokens(store.job_tokens, [], {"kas": watch, "github": watch}).caller(token.encode()) is not None
    assert watch.asked == []
