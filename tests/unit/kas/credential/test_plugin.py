"""kubectl's plugin: when it exchanges, what it prints, and what it does when it cannot."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kas.credential import asking, plugin
from kas.credential.asking import JobToken
from kas.errors import KasError, Unauthenticated
from tests.fakes.clock import Time

V1 = "client.authentication.k8s.io/v1"
V1BETA1 = "client.authentication.k8s.io/v1beta1"


class World:
    """Runs the plugin; kas answers ``life_s`` and a new token each time, or ``error``."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.capsys = capsys
        self.time = Time()
        self.life_s = 3600
        self.error: KasError | None = None
        self.exchanged: list[tuple[str, str, int | None]] = []
        self.environment = {"XDG_RUNTIME_DIR": str(folder), "ID": "eyJ.first.x"}

    def exchange(self, url: str, id_token: str, context: Any, ttl_s: int | None = None) -> JobToken:
        self.exchanged.append((url, id_token, ttl_s))
        if self.error is not None:
            raise self.error
        return JobToken(f"kasjob-{len(self.exchanged)}", self.life_s)

    def run(self, *more: str, agent: int = 7) -> dict[str, Any]:
        words = ["--server", "https://kas:8153", "--agent", str(agent), "--token-env", "ID", *more]
        options = plugin._parser().parse_args(words)
        said: dict[str, Any] = json.loads(plugin.exec_credential(options, self.environment, self.time))
        return said

    def token(self, *more: str, agent: int = 7) -> str:
        return str(self.run(*more, agent=agent)["status"]["token"])


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> World:
    made = World(tmp_path, capsys)
    monkeypatch.setattr(asking, "exchange", made.exchange)
    return made


def test_the_credential_is_the_one_of_kubeconfigs(world: World) -> None:
    said = world.run()
    assert (said["apiVersion"], said["kind"]) == (V1, "ExecCredential")
    assert said["status"]["token"] == "ci:7:kasjob-1"
    until = datetime.fromtimestamp(world.time.now + 3300, UTC)
    assert said["status"]["expirationTimestamp"] == until.strftime("%Y-%m-%dT%H:%M:%SZ")


def test_one_exchange_is_enough_until_little_is_left_for_every_agent(world: World) -> None:
    assert world.token() == "ci:7:kasjob-1"
    world.time.now += 3299
    assert world.token() == "ci:7:kasjob-1"
    assert world.token(agent=8) == "ci:8:kasjob-1"
    world.time.now += 1
    assert world.token() == "ci:7:kasjob-2"
    assert len(world.exchanged) == 2


def test_the_id_token_is_fresh_each_time(world: World, tmp_path: Path) -> None:
    (tmp_path / "id").write_text("eyJ.a.b")
    for text in ("eyJ.a.b", "eyJ.c.d"):
        (tmp_path / "id").write_text(text)
        options = ["--server", "https://kas", "--agent", "7", "--token-file", str(tmp_path / "id"), "--ttl", "2h"]
        plugin.exec_credential(plugin._parser().parse_args(options), world.environment, world.time)
    assert world.exchanged == [("https://kas", "eyJ.a.b", 7200), ("https://kas", "eyJ.c.d", 7200)]


def test_another_job_never_gets_this_ones_token(world: World) -> None:
    assert world.token() == "ci:7:kasjob-1"
    world.environment["ID"] = "eyJ.second.x"
    assert world.token() == "ci:7:kasjob-2"
    assert world.token("--session", "a") == "ci:7:kasjob-3"
    assert world.token("--session", "b") == "ci:7:kasjob-4"
    assert world.token("--ttl", "60") == "ci:7:kasjob-5"


def test_while_kas_is_away_a_token_that_still_counts_is_used(world: World) -> None:
    world.token()
    world.error = KasError("https://kas:8153 cannot be reached")
    world.time.now += 3400
    assert world.token() == "ci:7:kasjob-1"
    assert (
        world.capsys.readouterr().err == "kas: the token could not be renewed yet: https://kas:8153 cannot be reached\n"
    )
    world.time.now += 200
    with pytest.raises(KasError, match="cannot be reached"):
        world.token()


def test_a_refusal_is_one_line_without_a_secret(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world.error = Unauthenticated("https://kas:8153 does not exchange the ID token: it has expired")
    monkeypatch.setenv("ID", "eyJ.secret.x")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(world.folder))
    assert plugin.main(["--server", "https://kas:8153", "--agent", "7", "--token-env", "ID"]) == 1
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "kas: https://kas:8153 does not exchange the ID token: it has expired\n")


@pytest.mark.parametrize(("info", "answered"), [(None, V1), (V1, V1), (V1BETA1, V1BETA1)])
def test_it_answers_in_the_version_that_kubectl_asks_for(world: World, info: str | None, answered: str) -> None:
    if info is not None:
        asked = {"kind": "ExecCredential", "apiVersion": info, "spec": {"interactive": False}}
        world.environment["KUBERNETES_EXEC_INFO"] = json.dumps(asked)
    assert world.run()["apiVersion"] == answered


@pytest.mark.parametrize("info", ["", "x", "[]", "{}", '{"apiVersion": "client.authentication.k8s.io/v1alpha1"}'])
def test_any_other_question_is_refused_before_anything_is_exchanged(world: World, info: str) -> None:
    world.environment["KUBERNETES_EXEC_INFO"] = info
    with pytest.raises(KasError, match="kubectl"):
        world.run()
    assert world.exchanged == []


def test_a_ca_that_is_none_is_named(world: World) -> None:
    for data in ("%", base64.b64encode("é".encode()).decode()):
        world.environment["KAS_CA_DATA"] = data
        with pytest.raises(KasError, match="KAS_CA_DATA"):
            world.run()
    world.environment["KAS_CA_DATA"] = base64.b64encode(b"no certificate").decode()
    with pytest.raises(KasError, match="holds no certificate in PEM form"):
        world.run()


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--agent", "7", "--token-env", "ID"],
        ["--server", "https://kas", "--token-env", "ID"],
        ["--server", "https://kas", "--agent", "7"],
        ["--server", "https://kas", "--agent", "x", "--token-env", "ID"],
        ["--server", "https://kas", "--agent", "0", "--token-env", "ID"],
        ["--server", "https://kas", "--agent", "7", "--token-env", "ID", "--github"],
        ["--server", "https://kas", "--agent", "7", "--token-env", "ID", "--ttl", "soon"],
    ],
)
def test_wrong_usage_ends_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        plugin.main(words)
    assert ended.value.code == 2
    assert capsys.readouterr().out == ""
