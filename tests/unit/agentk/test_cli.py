from __future__ import annotations

import dataclasses
import inspect
import os
import sys
import types

import pytest

from agentk import cli
from agentk.config import Settings
from agentk.errors import AgentkError, ConfigurationError

GOOD = ["--kas-address", "grpcs://kas.example:8150", "--instance", "me"]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """What would have been run."""
    seen: list[Settings] = []
    app = types.ModuleType("agentk.app")
    app.serve = seen.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "agentk.app", app)
    for name in list(os.environ):
        if name.startswith("AGENTK_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AGENTK_TOKEN", "kasagent-secret")
    return seen


def test_flags_become_settings_and_the_token_leaves_the_environment(served: list[Settings]) -> None:
    assert cli.exit_code([*GOOD, "--log-format", "console", "--observability-listen", "off"]) == 0
    assert (served[0].instance, served[0].log_format, served[0].observability) == ("me", "console", None)
    assert served[0].agent_token() == b"kasagent-secret"
    assert "AGENTK_TOKEN" not in os.environ


def test_every_setting_has_a_flag_an_environment_variable_and_a_text() -> None:
    parameters = set(inspect.signature(cli.run).parameters)
    renamed = {"kas": "kas_address", "observability": "observability_listen"}
    for name in (field.name for field in dataclasses.fields(Settings)):
        if name not in ("token", "proxy"):  # never by a flag: argv can be read, and a proxy has its own two variables
            assert renamed.get(name, name).removesuffix("_s") in parameters
    for name, annotation in inspect.get_annotations(cli.run, eval_str=True).items():
        if name in ("return", "version"):
            continue
        option = annotation.__metadata__[0]
        assert option.envvar == f"AGENTK_{name.upper()}"
        assert option.default == f"--{name.replace('_', '-')}"  # typer takes the first name for it
        assert option.help


def test_the_environment_stands_in_for_flags(served: list[Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTK_KAS_ADDRESS", "grpc://127.0.0.1:1")
    monkeypatch.setenv("AGENTK_INSTANCE", "there")
    monkeypatch.setenv("AGENTK_DRAIN_TIMEOUT", "3")
    assert cli.exit_code([]) == 0
    assert (str(served[0].kas), served[0].instance, served[0].drain_timeout_s) == ("grpc://127.0.0.1:1", "there", 3.0)


@pytest.mark.covers("C-05")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "--kas-address (AGENTK_KAS_ADDRESS) is missing"),
        (["--kas-adress", "x"], "--kas-adress"),
        ([*GOOD, "extra"], "extra"),
        ([*GOOD, "--drain-timeout", "soon"], "--drain-timeout"),
        ([*GOOD, "--log-level", "loud"], "--log-level"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    served: list[Settings], capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert cli.exit_code(arguments) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("agentk: ")
    assert told.err.count("\n") == 1
    assert says in told.err
    assert served == []


@pytest.mark.parametrize(("error", "code"), [(ConfigurationError("no"), 2), (AgentkError("no"), 1)])
def test_what_fails_later_is_one_line_too(
    served: list[Settings],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    code: int,
) -> None:
    def serve(_: Settings) -> None:
        raise error

    monkeypatch.setattr(sys.modules["agentk.app"], "serve", serve)
    assert cli.exit_code(GOOD) == code
    assert capsys.readouterr().err == "agentk: no\n"


def test_version_and_help_need_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.exit_code(["--version"]) == 0
    assert capsys.readouterr().out.startswith("agentk 0.")
    assert cli.exit_code(["--help"]) == 0
    assert "--kas-address" in capsys.readouterr().out


def test_doctor_takes_the_options_of_agentk_itself(capsys: pytest.CaptureFixture[str]) -> None:
    own, doctors = (inspect.signature(command).parameters for command in (cli.run, cli.doctor))
    for name in ("kas_address", "token_file", "ca_cert_file", "kubeconfig", "context", "instance"):
        assert doctors[name] == own[name]
    assert cli.exit_code(["doctor", "--access-as", "root"]) == 2
    assert cli.exit_code(["doctor", "extra"]) == 2
    assert cli.exit_code(["doctor", "--help"]) == 0
    assert "Exit code 0" in capsys.readouterr().out


def test_an_environment_that_was_made_for_kas_is_named_as_the_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AGENTK_TOKEN", "kasagent-x")
    monkeypatch.setitem(sys.modules, "agentk.app", None)
    assert cli.exit_code(GOOD) == 2
    assert "is not installed: this environment was made for another program" in capsys.readouterr().err
