from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from kas import config_reference
from kas.config import Config, ConfigurationRepository, GitlabIssuer, OidcIssuer, Section, Tls, load_config

ROOT = Path(__file__).parents[3]


def options(model: type[Section], path: str = "") -> Iterator[tuple[str, object]]:
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Section):
            yield from options(inner, f"{path}{name}.")
        else:
            yield f"{path}{name}", field


def test_the_reference_is_what_the_code_says():
    assert (ROOT / "docs/configuration.md").read_text() == config_reference.markdown(), "write it again: make docs"


def test_the_example_is_what_the_code_says():
    assert (ROOT / "examples/kas.yaml").read_text() == config_reference.example(), "write it again: make docs"


def test_the_example_is_the_defaults():
    assert load_config(ROOT / "examples/kas.yaml") == Config()


def test_the_example_with_every_comment_uncommented_is_valid(tmp_path: Path):
    text = re.sub(r"^( *)# ([a-z_]+: \S.*)$", r"\1\2", (ROOT / "examples/kas.yaml").read_text(), flags=re.MULTILINE)
    file = tmp_path / "kas.yaml"
    file.write_text("\n".join(line for line in text.splitlines() if not line.startswith("false:")))
    config = load_config(file)
    assert config.kubernetes_api.tls is not None
    assert config.configuration_repositories
    assert config.database.password_file is not None


@pytest.mark.parametrize("model", [Config, Tls, ConfigurationRepository, GitlabIssuer, OidcIssuer])
def test_every_option_is_documented_with_a_default_and_a_reason(model: type[Section]):
    text = config_reference.markdown()
    for path, field in options(model):
        assert f"{path}`" in text
        assert len(getattr(field, "description", "") or "") > 15, path


def test_every_number_of_seconds_or_bytes_says_so_in_its_name():
    for path, field in options(Config):
        if getattr(field, "annotation", None) is float:
            assert path.endswith("_s"), path


def test_the_defaults_in_the_example_are_plain_yaml():
    assert yaml.safe_load((ROOT / "examples/kas.yaml").read_text())["link"]["detach_s"] == 30


@pytest.mark.parametrize(
    ("flag", "first"), [("--markdown", "# Configuration of kas"), ("--example", "# The defaults of kas")]
)
def test_both_can_be_written_by_a_command(
    flag: str, first: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys, "argv", ["kas.config", flag])
    config_reference.main()
    assert capsys.readouterr().out.startswith(first)


def test_the_module_itself_is_the_command():
    done = subprocess.run([sys.executable, "-m", "kas.config", "--example"], capture_output=True, text=True, check=True)
    assert done.stdout == config_reference.example()
