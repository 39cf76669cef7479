"""Configurations in force: new commits, bad files, repositories that fail, agents that come and go."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import NamedTuple

import pytest

from kas.agent_config.entries import EMPTY
from kas.agent_config.repositories import RepositoryProblem
from kas.agent_config.watcher import AgentConfigs
from kas.metrics import ConfigMetrics

PATH = ".gitlab/agents/demo/config.yaml"
GOOD = b"ci_access: {projects: [{id: web/app}]}\n"
OTHER = b"ci_access: {projects: [{id: web/other}]}\n"
BAD = b"ci_access:\n  projects:\n    - ib: web/app\n"


class Agent(NamedTuple):
    id: int
    project: str
    name: str
    issuer: str = "kas"


DEMO = Agent(1, "infra/agents", "demo")


class Repo:
    is_remote = False
    """One repository: a list of commits, each a mapping of files."""

    where = "/srv/git/infra/agents.git"

    def __init__(self, *commits: dict[str, bytes]) -> None:
        self.commits = list(commits)
        self.down: str | None = None
        self.heads = 0
        self.reads = 0

    def head(self) -> str:
        self.heads += 1
        if self.down:
            raise RepositoryProblem(self.down)
        return str(len(self.commits))

    def read(self, commit: str, path: str, max_bytes: int) -> bytes | None:
        self.reads += 1
        return self.commits[int(commit) - 1].get(path)


class World:
    def __init__(self, *commits: dict[str, bytes]) -> None:
        self.repo: Repo | None = Repo(*commits)
        self.agents = [DEMO]
        self.now = 1000.0
        self.metrics = ConfigMetrics()
        self.changed: list[int] = []
        self.configs = AgentConfigs(
            self, lambda: self.agents, self.metrics, poll_s=2, clock=lambda: self.now, rng=random.Random(1)
        )
        self.configs.listen(self.changed.append)

    def poll_s(self, project: str, issuer: str) -> float:
        return 0.0

    def tell(self, project: str, issuer: str, name: str, commit: str, mistake: str) -> None:
        raise AssertionError("nothing is told here")

    def find(self, project: str, issuer: str = "kas") -> Repo | None:
        return self.repo if project == "infra/agents" else None

    def allowed(self) -> list[str] | None:
        config = self.configs.get(DEMO)
        return None if config is None else list(config.projects)

    @property
    def status(self):
        return self.configs.status(DEMO.id)


@pytest.mark.covers("Z-10")
async def test_nothing_is_in_force_before_the_first_look():
    world = World({PATH: GOOD})
    assert world.configs.get(DEMO) is None
    assert world.status is None


async def test_a_good_file_is_in_force_after_a_look():
    world = World({PATH: GOOD})
    await world.configs.refresh()
    assert world.allowed() == ["web/app"]
    assert world.status.commit == "1"
    assert world.status.loaded_at == 1000.0
    assert world.status.problem is None
    assert world.changed == [1]


async def test_a_file_is_read_once_for_each_commit():
    world = World({PATH: GOOD})
    for _ in range(5):
        await world.configs.refresh()
    assert (world.repo.heads, world.repo.reads) == (5, 1)


async def test_who_listens_hears_only_of_another_configuration():
    world = World({PATH: GOOD})
    await world.configs.refresh()
    world.repo.commits.append({PATH: GOOD, "README": b"x"})
    await world.configs.refresh()
    assert world.changed == [1]
    assert world.status.commit == "2"
    world.repo.commits.append({PATH: OTHER})
    await world.configs.refresh()
    assert world.changed == [1, 1]
    assert world.allowed() == ["web/other"]


@pytest.mark.covers("G-04", "C-01")
async def test_a_bad_file_keeps_the_last_good_one_in_force_and_says_what_is_wrong_where(caplog):
    caplog.set_level(logging.INFO)
    world = World({PATH: GOOD})
    await world.configs.refresh()
    world.repo.commits.append({PATH: BAD})
    for _ in range(3):
        await world.configs.refresh()

    assert world.allowed() == ["web/app"]
    assert world.changed == [1]
    assert world.configs.broken == 1
    assert world.metrics.bad.value == 1
    assert world.status.commit == "1"
    assert world.status.problem_commit == "2"
    assert world.status.problem.reason.splitlines() == [
        f"{PATH}:3:7: ci_access.projects[0].id: this key is missing",
        f"{PATH}:3:7: ci_access.projects[0].ib: there is no such key (did you mean 'id'?)",
    ]
    (warning,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert warning.fields == {
        "agent_id": 1,
        "agent": "demo",
        "project": "infra/agents",
        "commit": "2",
        "count": 2,
        "file": PATH,
        "line": 3,
        "column": 7,
        "reason": "ci_access.projects[0].id: this key is missing",
    }

    world.repo.commits.append({PATH: OTHER})
    await world.configs.refresh()
    assert world.allowed() == ["web/other"]
    assert world.status.problem is None
    assert world.configs.broken == 0


@pytest.mark.covers("G-04")
async def test_the_same_good_file_after_a_bad_one_clears_the_problem():
    world = World({PATH: GOOD})
    await world.configs.refresh()
    for text in (BAD, GOOD):
        world.repo.commits.append({PATH: text})
        await world.configs.refresh()
    assert world.status.problem is None
    assert world.changed == [1]


@pytest.mark.covers("Z-10")
async def test_a_file_that_was_never_good_lets_nobody_in():
    world = World({PATH: BAD})
    await world.configs.refresh()
    assert world.configs.get(DEMO) is None
    assert world.status.problem.mistakes


@pytest.mark.covers("C-03")
async def test_deleting_the_file_closes_access():
    world = World({PATH: GOOD})
    await world.configs.refresh()
    world.repo.commits.append({"README": b"x"})
    await world.configs.refresh()
    assert world.configs.get(DEMO) == EMPTY
    assert world.changed == [1, 1]


async def test_without_a_repository_the_configuration_is_empty():
    world = World()
    world.repo = None
    for _ in range(2):
        await world.configs.refresh()
    assert world.configs.get(DEMO) == EMPTY
    assert world.status.repository == ""
    assert world.metrics.good.value == 1


@pytest.mark.covers("G-01")
async def test_a_repository_that_cannot_be_read_keeps_the_last_good_configuration(caplog):
    world = World({PATH: GOOD})
    await world.configs.refresh()
    world.repo.down = "/srv/git: there is no such folder"
    for _ in range(3):
        await world.configs.refresh()
    assert world.allowed() == ["web/app"]
    assert world.status.problem.reason == "/srv/git: there is no such folder"
    assert world.metrics.unreadable.value == 1
    assert [record.message for record in caplog.records] == ["configuration repository cannot be read"]

    world.repo.down = None
    await world.configs.refresh()
    assert world.status.problem is None
    assert world.changed == [1]


@pytest.mark.covers("G-01")
async def test_a_repository_that_was_never_read_lets_nobody_in_until_it_is():
    world = World({PATH: GOOD})
    world.repo.down = "down"
    await world.configs.refresh()
    assert world.configs.get(DEMO) is None
    world.repo.down = None
    await world.configs.refresh()
    assert world.allowed() == ["web/app"]


async def test_agents_come_and_go():
    world = World({PATH: GOOD, ".gitlab/agents/second/config.yaml": OTHER})
    await world.configs.refresh()
    second = Agent(2, "infra/agents", "second")
    world.agents.append(second)
    await world.configs.refresh()
    assert list(world.configs.get(second).projects) == ["web/other"]
    assert world.repo.reads == 2

    world.agents.remove(DEMO)
    await world.configs.refresh()
    assert world.configs.get(DEMO) is None
    assert world.status is None


async def test_the_operators_word_about_system_names_is_asked_at_each_reading():
    text = b"ci_access: {projects: [{id: g/p, access_as: {impersonate: {username: 'system:admin'}}}]}"
    world = World({PATH: text})
    await world.configs.refresh()
    assert world.configs.get(DEMO) is None
    world.configs.reconfigure(world, poll_s=2, allow_system_identities=True)
    await world.configs.refresh()
    assert world.allowed() == ["g/p"]
    changed = []
    world.configs.listen(changed.append)
    world.configs.reconfigure(world, poll_s=2, allow_system_identities=False)
    assert world.configs.get(DEMO) is None, "what is forbidden now is closed at once"
    assert changed == [DEMO.id]
    await world.configs.refresh()
    assert world.configs.get(DEMO) is None


async def test_parts_without_effect_are_named_in_the_log(caplog):
    caplog.set_level(logging.INFO)
    world = World({PATH: b"user_access: {}\n"})
    await world.configs.refresh()
    assert [record.fields.get("notice") for record in caplog.records] == [
        None,
        "user_access: accepted, does nothing here",
    ]


@pytest.mark.covers("G-03")
@pytest.mark.looptime
async def test_repositories_are_looked_at_again_and_again_however_many_commits_there_are(monkeypatch):
    async def in_line(function, *arguments, **options):
        return function(*arguments, **options)

    monkeypatch.setattr(asyncio, "to_thread", in_line)
    world = World({PATH: GOOD})
    task = asyncio.create_task(world.configs.run())
    for n in range(200):
        await asyncio.sleep(0.05)
        world.repo.commits.append({PATH: b"ci_access: {projects: [{id: web/app-%d}]}" % n})
    assert 5 <= world.repo.reads <= 8  # ten seconds, a look each 1.6 to 2 s
    await asyncio.sleep(2)
    assert world.allowed() == ["web/app-199"]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.looptime
async def test_it_looks_at_once_when_it_is_woken(monkeypatch):
    async def in_line(function, *arguments, **options):
        return function(*arguments, **options)

    monkeypatch.setattr(asyncio, "to_thread", in_line)
    world = World({PATH: GOOD})
    task = asyncio.create_task(world.configs.run())
    await asyncio.sleep(0.1)
    world.repo.commits.append({PATH: OTHER})
    world.configs.wake()
    await asyncio.sleep(0.01)
    assert world.allowed() == ["web/other"]
    task.cancel()


async def test_a_repository_of_many_agents_is_asked_once_in_a_look():
    world = World({PATH: GOOD})
    world.agents = [Agent(n, "infra/agents", "demo") for n in range(1, 51)]
    await world.configs.refresh()
    assert world.repo.heads == 1
    assert all(world.configs.get(agent) is not None for agent in world.agents)
    world.repo.down = "no such folder"
    await world.configs.refresh()
    assert world.repo.heads == 2
    assert world.configs.broken == 50
