"""Where fresh ID tokens come from, and what is said when none comes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from kas.credential.id_tokens import Source, fresh, identity
from kas.errors import KasError

TOKEN = "eyJhbGciOi.eyJpc3MiOi.c2lnbmF0dXJl"


def test_a_file_is_read_each_time(tmp_path: Path) -> None:
    source = Source("file", str(tmp_path / "token"))
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    assert fresh(source, {}) == identity(source, {}) == TOKEN
    (tmp_path / "token").write_text("eyJ.b.c")
    assert fresh(source, {}) == "eyJ.b.c"


def test_a_variable() -> None:
    assert fresh(Source("env", "ID_TOKEN"), {"ID_TOKEN": TOKEN}) == TOKEN


def test_a_command_runs_without_a_shell_in_the_jobs_environment(tmp_path: Path) -> None:
    script = tmp_path / "print token"
    script.write_text(f"#!{sys.executable}\nimport os, sys; print(os.environ['ID'], *sys.argv[1:], sep='')\n")
    script.chmod(0o755)
    source = Source("command", f"'{script}' '$(id);'")
    assert fresh(source, {"ID": "eyJ."}) == "eyJ.$(id);"
    assert identity(source, {"ID": "eyJ."}) == ""


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (Source("file", "/nowhere/token"), "--token-file /nowhere/token cannot be read: No such file"),
        (Source("file", "{folder}/empty"), "gives no ID token"),
        (Source("file", "{folder}/huge"), "gives no ID token"),
        (Source("file", "{folder}/two"), "gives no ID token"),
        (Source("env", "NOT_THERE"), "there is no variable NOT_THERE"),
        (Source("env", "EMPTY"), "gives no ID token"),
        (Source("env", "SECRET"), "gives no ID token"),
        (Source("command", "/nowhere/program"), "--token-command cannot be run"),
        (Source("command", "'"), "--token-command cannot be run"),
        (Source("command", ""), "--token-command cannot be run"),
        (Source("command", "false"), "--token-command ended with 1"),
        (Source("command", "true"), "gives no ID token"),
        (Source("github"), "give the job `permissions: {id-token: write}`"),
    ],
)
def test_what_gives_none_is_named_and_nothing_secret_is_said(tmp_path: Path, source: Source, said: str) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "huge").write_text("x" * 20_000)
    (tmp_path / "two").write_text("hush one two")
    environment = {"EMPTY": " ", "SECRET": "hush hush", "PATH": "/usr/bin:/bin"}
    with pytest.raises(KasError) as caught:
        fresh(source._replace(what=source.what.format(folder=tmp_path)), environment)
    assert said in str(caught.value)
    assert "hush" not in str(caught.value)


def test_the_jobs_of_one_machine_are_told_apart() -> None:
    for name, source in (("ID", Source("env", "ID")), ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", Source("github"))):
        assert identity(source, {name: "a"}) != identity(source, {name: "b"})


def test_each_source_is_named_by_the_options_that_it_came_from() -> None:
    assert Source("file", "/a").words == ["--token-file", "/a"]
    assert Source("env", "ID").words == ["--token-env", "ID"]
    assert Source("command", "a b").words == ["--token-command", "a b"]
    assert Source("github").words == ["--github"]
    assert Source("github", audience="kas").words == ["--github", "--audience", "kas"]
