"""The Dockerfiles, read as a linter would: there is no engine to build them with here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
DOCKERFILES = sorted((TOP / "deploy" / "docker").glob("*.Dockerfile"))


def instructions(path: Path) -> list[tuple[str, str]]:
    """Keyword and rest of each instruction, continued lines joined, comments left out."""
    lines = [line for line in path.read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(keyword.upper(), rest) for keyword, _, rest in (line.partition(" ") for line in joined.splitlines())]


def stages(path: Path) -> list[list[tuple[str, str]]]:
    result: list[list[tuple[str, str]]] = []
    for keyword, rest in instructions(path):
        if keyword == "FROM":
            result.append([])
        result[-1].append((keyword, rest))
    return result


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
class TestDockerfile:
    def test_base_images_have_a_version(self, path: Path) -> None:
        for keyword, rest in instructions(path):
            if keyword == "FROM":
                image = rest.split()[0]
                assert ":" in image
                assert not image.endswith(":latest")

    def test_it_builds_in_one_stage_and_runs_in_another(self, path: Path) -> None:
        *_, last = stages(path)
        assert len(stages(path)) > 1
        assert not [rest for keyword, rest in last if keyword == "RUN" and "pip" in rest]

    def test_it_runs_as_a_numbered_user_who_is_not_root(self, path: Path) -> None:
        # By number, since Kubernetes' runAsNonRoot cannot judge a name.
        users = [rest for keyword, rest in stages(path)[-1] if keyword == "USER"]
        assert users == ["65532:65532"]

    def test_it_starts_the_program_itself_so_that_signals_reach_it(self, path: Path) -> None:
        (entry,) = [rest for keyword, rest in stages(path)[-1] if keyword == "ENTRYPOINT"]
        assert entry == f'["{path.name.removesuffix(".Dockerfile")}"]'

    def test_dependencies_are_locked(self, path: Path) -> None:
        for keyword, rest in instructions(path):
            for command in re.split(r"&&", rest) if keyword == "RUN" else ():
                if " install " in command and "pip" in command:
                    assert "--require-hashes" in command or "dist/*.whl" in command
                    assert "--no-cache-dir" in command

    def test_what_it_copies_is_there_and_in_the_build_context(self, path: Path) -> None:
        allowed = [line[1:].rstrip("/") for line in (TOP / ".dockerignore").read_text().splitlines() if line[:1] == "!"]
        for keyword, rest in instructions(path):
            if keyword == "COPY" and "--from=" not in rest:
                for source in rest.split()[:-1]:
                    assert (TOP / source).exists(), source
                    assert any(source.rstrip("/").startswith(prefix) for prefix in allowed), source

    def test_nothing_is_added_from_the_network(self, path: Path) -> None:
        assert not [rest for keyword, rest in instructions(path) if keyword == "ADD"]


def test_the_agents_image_holds_nothing_of_the_server() -> None:
    copied = [
        rest.split()[0] for keyword, rest in instructions(TOP / "deploy/docker/agentk.Dockerfile") if keyword == "COPY"
    ]
    assert "kas" not in copied
    locked = (TOP / "requirements" / "agentk.txt").read_text()
    for package in ("sqlalchemy", "dulwich", "alembic", "aiosqlite", "cryptography"):
        assert f"\n{package}==" not in locked


@pytest.mark.parametrize("extra", ["kas", "agentk", "demo", "build"])
def test_every_lock_has_the_versions_that_the_tests_have(extra: str) -> None:
    def versions(name: str) -> set[str]:
        return set(re.findall(r"^\S+==\S+", (TOP / "requirements" / f"{name}.txt").read_text(), re.MULTILINE))

    assert versions(extra) <= versions("dev"), "run make lock"
