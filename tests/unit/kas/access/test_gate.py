"""The gate: what is remembered, for how long, and that nothing is remembered that has become untrue."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from hashlib import sha256

import pytest

from kas.access.caller import Caller
from kas.access.gate import Gate
from kas.access.grants import AgentRef
from kas.agent_config.entries import EMPTY, AgentConfig
from kas.agent_config.schema import read_agent_config
from kas.errors import AccessDenied, IssuerUnavailable, JobIsOver, Unauthenticated
from kas.metrics import GateMetrics
from kas.store.records import Change, ChangeKind

OWN = AgentRef(1, "group/app", "own")
SHARED = AgentRef(2, "infra/agents", "shared")
CLOSED = AgentRef(3, "infra/agents", "closed")
TOKEN = b"kasjob-good"


class World:
    """A gate whose issuer, agents, configurations and clocks are in the test's hands."""

    def __init__(self, **options) -> None:
        self.monotonic = 1000.0
        self.unix = 1_700_000_000.0
        self.tokens: dict[bytes, Caller] = {TOKEN: self.caller()}
        self.asked: list[bytes] = []
        self.down = False
        self.refusal: Unauthenticated | None = None
        self.hold: asyncio.Event | None = None
        self.agents = {agent.id: agent for agent in (OWN, SHARED, CLOSED)}
        self.configs: dict[int, AgentConfig] = {1: EMPTY, 2: shared_with("group/app"), 3: EMPTY}
        self.looked_up: list[str] = []
        self.metrics = GateMetrics()
        self.gate = Gate(
            [IssuerOf(self)],
            self,
            Configs(self),
            self.metrics,
            clock=lambda: self.monotonic,
            wall_clock=lambda: self.unix,
            **options,
        )

    def caller(self, project: str = "group/app", ttl_s: float = 3600) -> Caller:
        return Caller(issuer="kas", project=project, job_id="12", expires_at=self.unix + ttl_s)

    def pass_s(self, seconds: float) -> None:
        self.monotonic += seconds
        self.unix += seconds

    # Issuer

    async def caller_of(self, token: bytes) -> Caller | None:
        self.asked.append(token)
        answer = self.tokens.get(token)  # the answer is that of the moment of the question
        if self.hold is not None:
            await self.hold.wait()
        if self.down:
            raise IssuerUnavailable("the forge is down")
        if self.refusal is not None:
            raise self.refusal
        return answer

    # AgentDirectory

    def get(self, agent_id: int) -> AgentRef | None:
        self.looked_up.append("agent")
        return self.agents.get(agent_id)

    def __iter__(self):
        return iter(self.agents.values())


class IssuerOf:
    def __init__(self, world: World) -> None:
        self.caller = world.caller_of


class Configs:
    def __init__(self, world: World) -> None:
        self._world = world

    def get(self, agent: AgentRef) -> AgentConfig | None:
        self._world.looked_up.append("config")
        return self._world.configs.get(agent.id)


def shared_with(project: str) -> AgentConfig:
    return read_agent_config(f"ci_access: {{projects: [{{id: {project}}}]}}".encode(), "f")


@pytest.fixture
def world() -> World:
    return World()


def revoked(token: bytes) -> Change:
    return Change(1, ChangeKind.JOB_TOKEN_REVOKED, 5, None, sha256(token).digest(), 0)


def deleted(agent_id: int) -> Change:
    return Change(1, ChangeKind.AGENT_DELETED, agent_id, agent_id, None, 0)


async def test_a_known_token_is_admitted_from_memory(world):
    assert world.gate.admitted(1, TOKEN) is None

    grant = await world.gate.admit(1, TOKEN)

    assert grant.first.agent == OWN
    assert world.gate.admitted(1, TOKEN) is grant
    assert world.asked == [TOKEN]


async def test_another_agent_for_the_same_token_asks_no_issuer_again(world):
    await world.gate.admit(1, TOKEN)
    assert world.gate.admitted(2, TOKEN) is None
    assert (await world.gate.admit(2, TOKEN)).first.agent == SHARED
    assert world.asked == [TOKEN]


async def test_a_verdict_is_kept_for_a_minute_at_most(world):
    await world.gate.admit(1, TOKEN)
    world.pass_s(59.9)
    assert world.gate.admitted(1, TOKEN) is not None
    world.pass_s(0.1)
    assert world.gate.admitted(1, TOKEN) is None
    await world.gate.admit(1, TOKEN)
    assert len(world.asked) == 2


@pytest.mark.covers("A-09")
async def test_a_verdict_is_never_kept_past_the_expiry_of_the_token(world):
    world.tokens[TOKEN] = world.caller(ttl_s=20)
    await world.gate.admit(1, TOKEN)
    world.pass_s(19.9)
    assert world.gate.admitted(1, TOKEN) is not None
    world.pass_s(0.2)
    assert world.gate.admitted(1, TOKEN) is None
    with pytest.raises(Unauthenticated):
        await world.gate.admit(1, TOKEN)


async def test_a_wall_clock_that_jumps_back_does_not_lengthen_a_verdict(world):
    await world.gate.admit(1, TOKEN)
    world.monotonic += 61
    world.unix -= 86_400
    assert world.gate.admitted(1, TOKEN) is None


async def test_an_unknown_token_is_remembered_for_ten_seconds(world):
    for _ in range(3):
        with pytest.raises(Unauthenticated):
            await world.gate.admit(1, b"wrong")
    assert world.asked == [b"wrong"]

    world.pass_s(10)
    world.tokens[b"wrong"] = world.caller()
    assert (await world.gate.admit(1, b"wrong")).first.agent == OWN


@pytest.mark.covers("A-08", "A-16", "T28")
async def test_unknown_and_forbidden_agents_are_the_same_error_by_the_same_path(world):
    said = []
    for agent_id in (CLOSED.id, 99, 0, -1, 2**63):
        world.looked_up.clear()
        with pytest.raises(AccessDenied) as caught:
            await world.gate.admit(agent_id, TOKEN)
        said.append((str(caught.value), caught.value.args, caught.value.__cause__, tuple(world.looked_up)))
    assert len(set(said)) == 1


async def test_the_operator_reads_in_the_log_why(world, caplog):
    caplog.set_level(logging.INFO)
    with pytest.raises(AccessDenied) as caught:
        await world.gate.admit(CLOSED.id, TOKEN)
    assert caught.value.why == "group/app job 12: no entry of ci_access lets group/app in"
    (record,) = caplog.records
    assert record.fields["reason"] == "no entry of ci_access lets group/app in"
    assert record.fields["caller"] == "group/app job 12"
    assert TOKEN.decode() not in str(record.__dict__)
    assert world.metrics.denials.value == 1


@pytest.mark.covers("Z-10")
async def test_nobody_is_admitted_before_the_configuration_has_been_read(world):
    del world.configs[1]
    with pytest.raises(AccessDenied):
        await world.gate.admit(1, TOKEN)

    world.configs[1] = EMPTY
    assert await world.gate.admit(1, TOKEN)


@pytest.mark.covers("A-11")
async def test_an_issuer_that_is_down_lets_nobody_in_and_is_asked_again(world):
    world.down = True
    for _ in range(2):
        with pytest.raises(IssuerUnavailable, match="the forge is down"):
            await world.gate.admit(1, TOKEN)
    assert len(world.asked) == 2

    world.down = False
    assert await world.gate.admit(1, TOKEN)


@pytest.mark.covers("A-11")
async def test_a_verdict_that_is_known_outlasts_an_issuer_that_is_down_for_its_time_only(world):
    await world.gate.admit(1, TOKEN)
    world.down = True
    world.pass_s(30)
    assert world.gate.admitted(1, TOKEN)
    world.pass_s(30)
    with pytest.raises(IssuerUnavailable):
        await world.gate.admit(1, TOKEN)


async def test_many_requests_with_one_token_are_one_question(world):
    world.hold = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(world.gate.admit(1 + n % 2, TOKEN)) for n in range(20)]
        await asyncio.sleep(0)
        world.hold.set()
    assert world.asked == [TOKEN]
    assert {task.result().first.agent for task in tasks} == {OWN, SHARED}


async def test_all_who_wait_hear_that_the_issuer_is_down_from_one_question(world):
    world.hold = asyncio.Event()
    world.down = True
    tasks = [asyncio.create_task(world.gate.admit(1, TOKEN)) for _ in range(5)]
    await asyncio.sleep(0)
    world.hold.set()
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(error) for error in errors] == [IssuerUnavailable] * 5
    assert len({id(error) for error in errors}) == 5
    assert world.asked == [TOKEN]


async def test_a_question_whose_asker_was_cancelled_is_asked_by_the_next(world):
    world.hold = asyncio.Event()
    first = asyncio.create_task(world.gate.admit(1, TOKEN))
    await asyncio.sleep(0)
    second = asyncio.create_task(world.gate.admit(1, TOKEN))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    world.hold.set()

    assert (await second).first.agent == OWN
    assert len(world.asked) == 2
    assert first.cancelled()
    assert not world.gate._flights


async def test_a_revoked_token_is_forgotten(world):
    await world.gate.admit(1, TOKEN)
    del world.tokens[TOKEN]
    world.gate.forget(revoked(TOKEN))
    assert world.gate.admitted(1, TOKEN) is None
    with pytest.raises(Unauthenticated):
        await world.gate.admit(1, TOKEN)


async def test_an_answer_from_before_the_revocation_is_not_believed(world):
    world.hold = asyncio.Event()
    task = asyncio.create_task(world.gate.admit(1, TOKEN))
    await asyncio.sleep(0)
    del world.tokens[TOKEN]  # the issuer has answered already; its answer is under way
    world.gate.forget(revoked(TOKEN))
    world.hold.set()

    with pytest.raises(Unauthenticated):
        await task
    assert len(world.asked) == 2
    assert world.gate.admitted(1, TOKEN) is None


async def test_a_token_that_was_issued_after_it_was_refused_is_known_at_once(world):
    with pytest.raises(Unauthenticated):
        await world.gate.admit(1, b"new")
    world.tokens[b"new"] = world.caller()
    world.gate.forget(Change(1, ChangeKind.JOB_TOKEN_ISSUED, 6, None, sha256(b"new").digest(), 0))
    assert await world.gate.admit(1, b"new")


async def test_grants_for_a_deleted_agent_are_forgotten(world):
    await world.gate.admit(1, TOKEN)
    await world.gate.admit(2, TOKEN)
    del world.agents[2]
    world.gate.forget(deleted(2))
    assert world.gate.admitted(2, TOKEN) is None
    assert world.gate.admitted(1, TOKEN) is not None
    with pytest.raises(AccessDenied):
        await world.gate.admit(2, TOKEN)


@pytest.mark.covers("Z-08", "T23")
async def test_another_configuration_is_in_force_for_the_next_request(world):
    await world.gate.admit(2, TOKEN)
    world.configs[2] = shared_with("somebody/else")
    world.gate.forget_agent(2)
    assert world.gate.admitted(2, TOKEN) is None
    with pytest.raises(AccessDenied):
        await world.gate.admit(2, TOKEN)
    world.configs[2] = shared_with("group/app")
    assert await world.gate.admit(2, TOKEN), "a denial is not remembered"


async def test_a_kubeconfig_gets_every_agent_of_the_job_in_order(world):
    grants = await world.gate.grants(TOKEN)
    assert [grant.agent for grant in grants] == [OWN, SHARED]
    with pytest.raises(Unauthenticated):
        await world.gate.grants(b"wrong")


@pytest.mark.covers("A-12")
async def test_a_flood_of_wrong_tokens_costs_bounded_memory_and_pushes_no_good_one_out():
    world = World(max_unknown=100, max_callers=10)
    await world.gate.admit(1, TOKEN)
    for n in range(1000):
        with pytest.raises(Unauthenticated):
            await world.gate.admit(1, b"wrong-%d" % n)
    assert len(world.gate._refused) == 100
    assert world.gate.admitted(1, TOKEN) is not None


async def test_the_least_recently_used_callers_are_forgotten_first():
    world = World(max_callers=3)
    for name in (b"a", b"b", b"c", b"d"):
        world.tokens[name] = world.caller()
    for name in (b"a", b"b", b"c"):
        await world.gate.admit(1, name)
    assert world.gate.admitted(1, b"a")
    await world.gate.admit(1, b"d")
    assert world.gate.admitted(1, b"a")
    assert world.gate.admitted(1, b"b") is None


async def test_no_token_is_kept(world):
    await world.gate.admit(1, TOKEN)
    kept = repr([list(world.gate._callers.items()), world.gate._refused, world.gate._flights])
    assert TOKEN.decode() not in kept


async def test_without_memory_every_request_asks():
    world = World(positive_s=0, negative_s=0)
    await world.gate.admit(1, TOKEN)
    assert world.gate.admitted(1, TOKEN) is None
    await world.gate.admit(1, TOKEN)
    assert len(world.asked) == 2


async def test_an_open_stream_is_asked_about_sooner_where_the_issuer_can_tell_that_a_job_is_over(world):
    world.tokens[TOKEN] = replace(world.caller(), recheck_s=5)
    access = await world.gate.admit(1, TOKEN)
    world.pass_s(4.9)
    assert world.gate.admitted(1, TOKEN, is_open=True) is access
    world.pass_s(0.1)
    assert world.gate.admitted(1, TOKEN) is access
    assert world.gate.admitted(1, TOKEN, is_open=True) is None

    await world.gate.admit(1, TOKEN, is_open=True)
    assert len(world.asked) == 2
    assert world.gate.admitted(1, TOKEN, is_open=True) is not None


@pytest.mark.covers("A-09")
async def test_a_job_that_is_over_ends_the_access_of_new_requests_too_and_says_so(world):
    world.tokens[TOKEN] = replace(world.caller(), recheck_s=5)
    await world.gate.admit(1, TOKEN)
    world.refusal = JobIsOver()
    world.pass_s(5)
    with pytest.raises(JobIsOver):
        await world.gate.admit(1, TOKEN, is_open=True)
    assert world.gate.admitted(1, TOKEN) is None
    asked = len(world.asked)
    with pytest.raises(JobIsOver, match="is over"):
        await world.gate.admit(1, TOKEN)
    assert len(world.asked) == asked


async def test_an_issuer_that_is_down_ends_no_open_stream_by_itself(world):
    world.tokens[TOKEN] = replace(world.caller(), recheck_s=5)
    await world.gate.admit(1, TOKEN)
    world.down = True
    world.pass_s(5)
    with pytest.raises(IssuerUnavailable):
        await world.gate.admit(1, TOKEN, is_open=True)
    assert world.gate.admitted(1, TOKEN) is not None


async def test_access_ends_with_the_entry_that_gave_it(world):
    expires = "2023-11-14T22:13:30Z"  # ten seconds from now
    world.configs[1] = read_agent_config(
        f"ci_access: {{projects: [{{id: group/app, expires: '{expires}'}}]}}".encode(), "f"
    )
    await world.gate.admit(1, TOKEN)
    world.pass_s(9)
    assert world.gate.admitted(1, TOKEN) is not None
    world.pass_s(1)
    assert world.gate.admitted(1, TOKEN) is None
    with pytest.raises(AccessDenied) as caught:
        await world.gate.admit(1, TOKEN)
    assert caught.value.told == "the entry has expired (ci_access.projects[0], line 1)"


async def test_an_outsider_is_told_nothing(world):
    with pytest.raises(AccessDenied) as caught:
        await world.gate.admit(CLOSED.id, TOKEN)
    assert caught.value.told == ""
    assert caught.value.caller == world.tokens[TOKEN]


async def test_who_holds_a_token_can_be_asked(world):
    assert await world.gate.identify(TOKEN) == world.tokens[TOKEN]
    with pytest.raises(Unauthenticated):
        await world.gate.identify(b"wrong")


class Nobody:
    """An issuer that knows no token."""

    async def caller(self, token: bytes) -> Caller | None:
        return None


async def test_other_issuers_judge_every_token_anew_also_one_that_is_being_asked_about(world):
    await world.gate.admit(1, TOKEN)
    with pytest.raises(Unauthenticated):
        await world.gate.admit(1, b"wrong")
    world.gate.reconfigure([Nobody()], positive_s=60, negative_s=10, forgets=True)
    assert world.gate.admitted(1, TOKEN) is None
    with pytest.raises(Unauthenticated):
        await world.gate.admit(1, TOKEN)
    world.gate.reconfigure([IssuerOf(world)], positive_s=60, negative_s=10, forgets=True)
    world.hold = asyncio.Event()
    asking = asyncio.create_task(world.gate.admit(1, TOKEN))
    await asyncio.sleep(0)
    world.gate.reconfigure([Nobody()], positive_s=60, negative_s=10, forgets=True)
    world.hold.set()
    with pytest.raises(Unauthenticated):
        await asking
    assert world.gate.admitted(1, TOKEN) is None


async def test_issuers_that_think_the_same_are_not_asked_again(world):
    access = await world.gate.admit(1, TOKEN)
    world.gate.reconfigure([Nobody()], positive_s=60, negative_s=10, forgets=False)
    assert world.gate.admitted(1, TOKEN) is access
