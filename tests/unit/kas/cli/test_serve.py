from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from kas.config import Config
from kas.errors import ConfigurationError
from tests.support.kas_command import Kas


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Config, Path]]:
    """What kas.app.serve was called with."""
    calls: list[tuple[Config, Path]] = []

    async def serve(config: Config, path: Path) -> None:
        calls.append((config, path))

    monkeypatch.setitem(sys.modules, "kas.app", types.SimpleNamespace(serve=serve))
    return calls


def test_the_server_gets_the_configuration_and_its_path(kas: Kas, folder: Path, served: list[tuple[Config, Path]]):
    assert kas("serve").code == 0
    ((config, path),) = served
    assert config.state_dir == folder / "state"
    assert path == Path("kas.yaml")


def test_the_path_may_come_from_the_environment(
    kas: Kas, folder: Path, served: list[tuple[Config, Path]], monkeypatch: pytest.MonkeyPatch
):
    (folder / "other.yaml").write_text("poll_interval_s: 7")
    monkeypatch.setenv("KAS_CONFIG", str(folder / "other.yaml"))
    kas("serve")
    assert served[0][0].poll_interval_s == 7


def test_switched_off_it_says_so_and_ends_well(kas: Kas, folder: Path, served: list[tuple[Config, Path]]):
    (folder / "kas.yaml").write_text("enable: false")
    outcome = kas("serve")
    assert outcome.code == 0
    assert outcome.out == "kas is switched off: kas.yaml says enable: false\n"
    assert served == []


def test_every_mistake_is_a_line_and_the_exit_code_is_2(kas: Kas, folder: Path, served: list[tuple[Config, Path]]):
    (folder / "kas.yaml").write_text("enabel: true\nagent_api: {listen: 8150}\n")
    outcome = kas("serve")
    assert outcome.code == 2
    assert outcome.err.splitlines() == [
        "kas: kas.yaml:1:1: enabel: there is no such key (did you mean 'enable'?)",
        "kas: kas.yaml:2:21: agent_api.listen: host:port was expected, like 127.0.0.1:8154 or [::1]:8154",
    ]
    assert served == []


def test_a_missing_file_says_how_to_name_it(kas: Kas):
    outcome = kas("serve", "--config", "nowhere.yaml")
    assert outcome.code == 2
    assert outcome.err == "kas: nowhere.yaml: there is no such file; name it with --config or KAS_CONFIG\n"


def test_check_reads_only(kas: Kas, folder: Path, served: list[tuple[Config, Path]]):
    outcome = kas("serve", "--check")
    assert outcome.code == 0
    assert outcome.out.startswith("kas.yaml: no mistakes\n")
    assert "configuration_repositories is empty" in outcome.out
    assert served == []
    assert [path.name for path in folder.iterdir()] == ["kas.yaml"]


def test_what_the_server_cannot_start_with_is_told(kas: Kas, monkeypatch: pytest.MonkeyPatch):
    async def serve(config: Config, path: Path) -> None:
        raise ExceptionGroup("doors", [ConfigurationError("agent_api.listen: in use")])

    monkeypatch.setitem(sys.modules, "kas.app", types.SimpleNamespace(serve=serve))
    outcome = kas("serve")
    assert outcome.code == 2
    assert outcome.err == "kas: agent_api.listen: in use\n"
