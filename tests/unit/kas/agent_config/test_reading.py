"""One look at a repository: what it comes to."""

from __future__ import annotations

import struct
from concurrent.futures import CancelledError

import pytest

from kas.agent_config.entries import EMPTY
from kas.agent_config.reading import Reading, path_of, read_configuration
from kas.agent_config.repositories import RepositoryProblem

PATH = ".gitlab/agents/prod/config.yaml"


class Repo:
    is_remote = False
    where = "/srv/git/g/p.git"

    def __init__(self, text: bytes | None, problem: str = "") -> None:
        self.text = text
        self.problem = problem

    def head(self) -> str:
        return "c1"

    def read(self, commit: str, path: str, max_bytes: int) -> bytes | None:
        assert (commit, path) == ("c1", PATH)
        if self.problem:
            raise RepositoryProblem(self.problem)
        return self.text


class Repos:
    def __init__(self, repo: Repo | None) -> None:
        self.repo = repo

    def poll_s(self, project: str, issuer: str) -> float:
        return 0.0

    def tell(self, project: str, issuer: str, name: str, commit: str, mistake: str) -> None:
        raise AssertionError("nothing is told here")

    def find(self, project: str, issuer: str = "kas") -> Repo | None:
        assert project == "g/p"
        return self.repo


def look(repo: Repo | None, known: str | None = None, *, system: bool = False) -> Reading | None:
    return read_configuration(Repos(repo), "g/p", "prod", known_commit=known, allow_system_identities=system)


def test_where_the_file_is() -> None:
    assert path_of("prod") == PATH


@pytest.mark.parametrize("text", [None, b"", b"# nothing\n", b"ci_access:\n"])
def test_no_file_and_an_empty_one_are_an_empty_configuration(text: bytes | None) -> None:
    reading = look(Repo(text))
    assert reading == Reading("/srv/git/g/p.git", PATH, "c1", text is not None, EMPTY)


def test_without_a_repository_the_configuration_is_empty_and_said_once() -> None:
    assert look(None) == Reading("", PATH, config=EMPTY)
    assert look(None, known="") is None


def test_a_commit_that_is_known_is_not_read() -> None:
    assert look(Repo(b"[", problem="is not asked"), known="c1") is None


def test_a_good_file() -> None:
    reading = look(Repo(b"ci_access: {projects: [{id: g/app}]}"), known="c0")
    assert reading is not None
    assert reading.config is not None
    assert list(reading.config.projects) == ["g/app"]
    assert reading.problem is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"ci_access: {projects: [{ib: g/app}]}", f"{PATH}:1:25: ci_access.projects[0].ib: there is no such key"),
        (b"[", PATH),
        (b"a: b\na: c", PATH),
        (b"\xff", PATH),
        (b"ci_access: {projects: [{id: g/app, access_as: {impersonate: {username: 'system:admin'}}}]}", "system:"),
    ],
)
def test_a_bad_file_is_a_problem_with_its_place_and_no_configuration(text: bytes, said: str) -> None:
    reading = look(Repo(text))
    assert reading is not None
    assert reading.config is None
    assert reading.problem is not None
    assert said in reading.problem.reason
    assert reading.problem.mistakes
    assert reading.present


def test_the_operator_may_allow_identities_of_kubernetes_itself() -> None:
    text = b"ci_access: {projects: [{id: g/app, access_as: {impersonate: {username: 'system:admin'}}}]}"
    reading = look(Repo(text), system=True)
    assert reading is not None
    assert reading.config is not None


def test_a_repository_that_cannot_be_read_is_a_problem_without_mistakes() -> None:
    reading = look(Repo(None, problem="no such folder"))
    assert reading is not None
    assert reading.problem is not None
    assert (reading.problem.reason, reading.problem.mistakes, reading.config) == ("no such folder", (), None)


@pytest.mark.parametrize(
    "damage",
    [
        struct.error("cut"),
        BufferError(),
        StopIteration(),
        UnicodeDecodeError("ascii", b"\xff", 0, 1, "x"),
        CancelledError(),
    ],
)
def test_whatever_damage_raises_is_a_problem_of_this_repository_alone(damage: Exception) -> None:
    class Damaged(Repo):
        def head(self) -> str:
            raise damage

    found = read_configuration(Repos(Damaged(None)), "g/p", "prod")
    assert found is not None
    assert found.config is None
    assert found.problem is not None
    assert "it cannot be read" in found.problem.reason
    assert not found.problem.mistakes
