from __future__ import annotations

import io
from pathlib import Path

import pytest

from kas.addresses import ExternalUrl
from kas.cli.kubeconfig import answered
from kas.errors import KasError, Unauthenticated
from tests.support.kas_command import Kas

URL = ExternalUrl("https", "kas.example.com", 8153)


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
        ((), "Missing option '--token-file'"),
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
