from __future__ import annotations

from pathlib import Path

import pytest

from kas import cli
from tests.support.kas_command import Kas, Outcome


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where kas.yaml is, and the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KAS_CONFIG", raising=False)
    (tmp_path / "kas.yaml").write_text("state_dir: state\nagent_api: {external_url: 'grpcs://kas.example.com:8150'}\n")
    return tmp_path


@pytest.fixture
def kas(folder: Path, capsys: pytest.CaptureFixture[str]) -> Kas:
    """Runs a command as the console script would; anything but an exit code is a bug that the test shows."""

    def run(*words: str) -> Outcome:
        code = cli.run(words)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Outcome(code, captured.out, captured.err)

    return run
