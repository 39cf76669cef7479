"""Administrative acts that were done while kas was down stand in the log once it is up."""

from __future__ import annotations

from pathlib import Path

import pytest

from kas.audit.acts import Acts
from kas.audit.keys import instance_of
from kas.errors import ConfigurationError
from kas.store import Change, ChangeKind


class Log:
    instance = "0123abcd"

    def __init__(self) -> None:
        self.said: list[object] = []

    def event(self, name: str, **values: object) -> None:
        self.said.append(values.get("change", f"{name} {values.get('count')}"))


class World:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.changes: list[Change] = []
        self.done(1)

    def done(self, *numbers: int) -> None:
        self.changes += [Change(n, ChangeKind.AGENT_REGISTERED, n, n, None, n) for n in numbers]

    async def since(self, seq: int) -> list[Change]:
        return [change for change in self.changes if change.seq > seq][:2]

    async def started(self, newest: int | None = None) -> tuple[Acts, list[object]]:
        log = Log()
        acts = Acts(log, self.folder)
        await acts.begin(self.changes[-1].seq if newest is None else newest, self.since)
        return acts, log.said


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_what_was_done_meanwhile_is_recorded_once(world: World) -> None:
    acts, said = await world.started()
    assert said == []  # the first time there is nothing to compare with
    acts.record(Change(2, ChangeKind.AGENT_DELETED, 2, 2, None, 2))
    world.done(2, 3, 4, 5)
    assert (await world.started())[1] == [3, 4, 5]
    assert (await world.started())[1] == []


async def test_what_came_after_the_start_is_left_to_the_follower(world: World) -> None:
    await world.started()
    world.done(2, 3)
    assert (await world.started(newest=2))[1] == [2]


async def test_changes_that_the_database_has_forgotten_are_counted(world: World) -> None:
    await world.started()
    world.changes.clear()
    world.done(5, 6)
    assert (await world.started())[1] == ["acts_lost 3", 5, 6]


@pytest.mark.parametrize(("text", "said"), [("", []), ("rubbish", []), ("99", ["database_went_back 98"])])
async def test_a_file_that_says_nothing_or_too_much_begins_anew(world: World, text: str, said: list[object]) -> None:
    (world.folder / "audit-acts-0123abcd").write_text(text)
    assert (await world.started())[1] == said
    world.done(2)
    assert (await world.started())[1] == [2]


def test_a_chain_belongs_to_a_state_directory_and_a_folder(tmp_path: Path) -> None:
    key, one, other = b"k" * 64, tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    name = instance_of(key, tmp_path / "audit", one)
    assert instance_of(key, tmp_path / "audit", one) == name
    names = {name, instance_of(key, tmp_path / "audit", other), instance_of(key, tmp_path / "else", one)}
    assert len(names) == 3
    with pytest.raises(ConfigurationError, match="state_dir"):
        instance_of(key, tmp_path, tmp_path / "missing")
