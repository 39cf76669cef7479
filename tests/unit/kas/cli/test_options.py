from __future__ import annotations

import io
from pathlib import Path

import pytest
import typer

from kas.cli import options
from kas.config import Config, Database, load_config
from kas.errors import ConfigurationError, KasError


@pytest.mark.parametrize(("text", "value"), [("90", 90), ("90s", 90), ("15m", 900), ("8h", 28_800), ("1d", 86_400)])
def test_a_duration_is_a_number_and_a_unit(text: str, value: int):
    assert options.seconds(text) == value


@pytest.mark.parametrize("text", ["", "0", "0m", "-1", "1.5h", "15 m", "15min", "m", "1w", "٣m", "9" * 10])
def test_anything_else_is_no_duration(text: str):
    with pytest.raises(typer.BadParameter, match="like 15m"):
        options.seconds(text)


def test_a_token_comes_from_a_private_file_or_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "token"
    with options.secret_file(file) as write:
        write("kasjob-x")
    assert file.stat().st_mode & 0o777 == 0o600
    assert options.token_from(file) == "kasjob-x"
    monkeypatch.setattr("sys.stdin", io.StringIO("kasjob-y\n"))
    assert options.token_from(Path("-")) == "kasjob-y"
    with pytest.raises(ConfigurationError, match="no token on standard input"):
        options.token_from(Path("-"))


def test_a_secret_never_replaces_a_file(tmp_path: Path):
    file = tmp_path / "token"
    file.write_text("precious")
    with pytest.raises(KasError, match="File exists; name a file that does not exist yet"):
        options.hand_over(file, lambda: pytest.fail("nothing may be made"))
    assert file.read_text() == "precious"


def test_a_file_for_a_secret_that_is_not_made_goes_away(tmp_path: Path):
    def refuse() -> tuple[int, str]:
        raise KasError("refused")

    with pytest.raises(KasError, match="refused"):
        options.hand_over(tmp_path / "token", refuse)
    assert list(tmp_path.iterdir()) == []


def test_what_is_handed_over_is_returned_too(tmp_path: Path):
    assert options.hand_over(None, lambda: (1, "secret")) == (1, "secret")
    assert options.hand_over(tmp_path / "token", lambda: (1, "secret")) == (1, "secret")
    assert (tmp_path / "token").read_text() == "secret\n"


def test_the_databases_password_comes_from_its_file(tmp_path: Path):
    assert options.database_password(Config()) is None
    file = tmp_path / "password"
    options.hand_over(file, lambda: (None, "word"))
    config = Config(database=Database(url="postgresql+asyncpg://kas@db/kas", password_file=file))
    assert options.database_password(config) == "word"
    with pytest.raises(ConfigurationError, match=r"database\.password_file: .*nothing cannot be read"):
        options.database_password(config.model_copy(update={"database": Database(password_file=tmp_path / "nothing")}))


def test_the_store_is_opened_where_the_configuration_says(tmp_path: Path):
    (tmp_path / "kas.yaml").write_text("state_dir: state")
    config = load_config(tmp_path / "kas.yaml")
    assert options.with_store(config, lambda store: store.agents.list()) == []
    assert (tmp_path / "state/kas.db").exists()


def test_with_another_database_no_state_directory_is_needed(tmp_path: Path):
    config = Config(state_dir=Path("/proc/nowhere"), database=Database(url=f"sqlite:///{tmp_path}/other.db"))
    assert options.with_store(config, lambda store: store.agents.list()) == []
