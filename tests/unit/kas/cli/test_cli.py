from __future__ import annotations

import pytest
import typer

from kas import cli
from kas.errors import AgentNotConnected, ConfigurationError, KasError
from tests.support.kas_command import Kas


@pytest.mark.parametrize(
    "words",
    [(), ("agent",), ("agent", "token"), ("job-token",)],
)
def test_a_group_without_a_command_shows_its_help(kas: Kas, words: tuple[str, ...]):
    outcome = kas(*words)
    assert outcome.code == 2
    assert "Usage: kas" in outcome.out + outcome.err


@pytest.mark.parametrize(
    "words",
    [
        ("serve",),
        ("agent", "register"),
        ("agent", "manifest"),
        ("agent", "list"),
        ("agent", "show"),
        ("agent", "delete"),
        ("agent", "token", "create"),
        ("agent", "token", "list"),
        ("agent", "token", "revoke"),
        ("job-token", "issue"),
        ("job-token", "list"),
        ("job-token", "revoke"),
        ("kubeconfig",),
    ],
)
def test_every_command_has_help_and_takes_a_configuration(kas: Kas, words: tuple[str, ...]):
    outcome = kas(*words, "--help")
    assert outcome.code == 0
    assert "--config" in outcome.out
    assert "KAS_CONFIG" in outcome.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nonsense",), "kas: No such command 'nonsense' (see: kas --help)"),
        (("agent", "register"), "kas: Missing argument 'NAME' (see: kas agent register --help)"),
        (("agent", "register", "a"), "kas: Missing option '--project'"),
        (("agent", "list", "--bogus"), "kas: No such option: --bogus (see: kas agent list --help)"),
        (("agent", "list", "-o", "xml"), "kas: Invalid value for '--output'"),
        (("agent", "token", "revoke", "x"), "kas: Invalid value for 'ID'"),
    ],
)
def test_wrong_usage_is_one_line_with_where_to_look(kas: Kas, words: tuple[str, ...], said: str):
    outcome = kas(*words)
    assert outcome.code == 2
    assert outcome.out == ""
    assert len(outcome.err.splitlines()) == 1
    assert outcome.err.startswith(said)


def test_the_version_is_that_of_the_package(kas: Kas):
    assert kas("--version").out.startswith("kas 0.")


@pytest.mark.parametrize(
    ("error", "code", "lines"),
    [
        (KasError("it failed"), 1, ["kas: it failed"]),
        (AgentNotConnected(), 1, ["kas: The agent is not connected to kas."]),
        (ConfigurationError("a: wrong\nb: wrong"), 2, ["kas: a: wrong", "kas: b: wrong"]),
        (
            ExceptionGroup("tasks", [KasError("one"), ExceptionGroup("more", [ConfigurationError("two")])]),
            2,
            ["kas: one", "kas: two"],
        ),
        (typer.Abort(), 130, []),
        (KeyboardInterrupt(), 130, []),
    ],
)
def test_expected_trouble_is_words_and_an_exit_code(
    kas: Kas, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, lines: list[str]
):
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(cli, "app", fail)
    outcome = kas("agent", "list")
    assert outcome.code == code
    assert outcome.err.splitlines() == lines


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("a bug"), ExceptionGroup("tasks", [KasError("one"), ZeroDivisionError("a bug")])]
)
def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, error: Exception):
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(type(error)) as caught:
        cli.run(["agent", "list"])
    assert caught.value is error


def test_the_console_script_exits_with_the_code(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr("sys.argv", ["kas", "nonsense"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    assert "nonsense" in capsys.readouterr().err
