from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest
import yaml

from kas.access.caller import Caller
from kas.access.grants import AgentRef, Grant
from kas.addresses import ExternalUrl
from kas.cli.kubeconfig import answered, with_plugin
from kas.errors import KasError, Unauthenticated
from kas.management_api.kubeconfig import render_kubeconfig
from kastunnel.link.frames import AsAgent
from tests.support.kas_command import Kas

URL = ExternalUrl("https", "kas.example.com", 8153)
GRANT = Grant(Caller(issuer="kas", project="a/b"), AgentRef(7, "a/b", "prod"), AsAgent(), "", "rule")


def test_a_kubeconfig_is_passed_on_as_it_is():
    text = "# Keep this private\napiVersion: v1\nkind: Config\n"
    assert answered(URL, 200, text.encode()) == text


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, b"<html>", "answers with something else than a kubeconfig: is this the management door?"),
        (
            503,
            b'{"error": "The database cannot be used.", "remedy": "try again"}',
            "answers 503: The database cannot be used. try again",
        ),
        (404, b"<html>", "answers 404, not as the management door would: check --server"),
        (500, b'["error"]', "answers 500, not as the management door would"),
        (500, b'{"error": "\\u001b[31m", "remedy": ""}', "answers 500"),
        (302, b"", "answers 302, not as"),
    ],
)
def test_any_other_answer_is_one_printable_line(status: int, body: bytes, said: str):
    with pytest.raises(KasError, match="^https://kas.example.com:8153 answers") as caught:
        answered(URL, status, body)
    assert said in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_refused_token_says_what_to_do():
    with pytest.raises(Unauthenticated, match="unknown, expired or revoked; take a fresh one"):
        answered(URL, 401, b"")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--token-file", "nowhere"), "--token-file: nowhere cannot be read: No such file"),
        (("--token-file", "token", "--server", "http://kas"), "--server: https://kas.example.com was expected"),
        (("--token-file", "token", "--ca-file", "nowhere"), "--ca-file: nowhere cannot be read"),
        (("--token-file", "token", "--ca-file", "token"), "--ca-file: token holds no certificate in PEM form"),
        (("--token-file", "two"), "--token-file: this is not a token"),
        ((), "one of --token-file, --token-env, --token-command and --github was expected"),
    ],
)
def test_what_cannot_be_asked_is_wrong_usage(kas: Kas, folder: Path, words: tuple[str, ...], said: str):
    for name, text in (("token", "kasjob-x"), ("two", "two lines\nX-Header: injected")):
        (folder / name).touch(0o600)
        (folder / name).write_text(text)
    outcome = kas("kubeconfig", *words)
    assert outcome.code == 2
    (line,) = outcome.err.splitlines()
    assert said in line
    assert "kasjob-x" not in line


def test_with_a_server_no_configuration_is_needed(kas: Kas, folder: Path, monkeypatch: pytest.MonkeyPatch):
    (folder / "kas.yaml").unlink()
    monkeypatch.setattr("sys.stdin", io.StringIO("kasjob-x\n"))
    outcome = kas("kubeconfig", "--token-file", "-", "--server", "https://127.0.0.1:1")
    assert outcome.code == 1
    assert (
        outcome.err
        == "kas: https://127.0.0.1:1 cannot be reached: connection refused; check that kas runs, and --server\n"
    )
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--exec", "--token-file", "-"), "--exec reads the ID token again and again: name a file"),
        (("--token-file", "token", "--ttl", "1h"), "--ttl goes with --exec"),
        (("--token-file", "token", "--github"), "one of --token-file"),
        (("--exec", "--token-env", "ID", "--ttl", "soon"), "'soon' is not a duration"),
    ],
)
def test_options_that_do_not_go_together_are_wrong_usage(kas: Kas, words: tuple[str, ...], said: str):
    outcome = kas("kubeconfig", *words)
    assert (outcome.code, outcome.out) == (2, "")
    assert said in outcome.err


def test_with_the_plugin_no_user_holds_a_token():
    made = with_plugin(
        render_kubeconfig([GRANT], "kasjob-secret", "https://kas:8154", b"PEM"), ["--server", "https://kas:8153"], "PEM"
    )
    assert "kasjob-secret" not in made
    assert made.startswith("# Made for one job")
    (user,) = yaml.safe_load(made)["users"]
    assert user["name"] == "agent:7"
    (kind,) = user["user"]
    assert kind == "exec"
    run = user["user"]["exec"]
    assert run["apiVersion"] == "client.authentication.k8s.io/v1"
    assert Path(run["command"]).is_absolute()
    assert run["args"] == ["credential", "--agent", "7", "--server", "https://kas:8153"]
    assert run["env"] == [{"name": "KAS_CA_DATA", "value": base64.b64encode(b"PEM").decode()}]
    assert run["interactiveMode"] == "Never"
