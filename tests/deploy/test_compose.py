"""docker-compose.yml, read as a linter would: there is no engine to run it with here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from kas.config import load_config

TOP = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((TOP / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = sorted(name for name, service in SERVICES.items() if "build" in service)
# Keys of the Compose specification that we use; a misspelt one would be refused by docker compose.
SERVICE_KEYS = {
    *("build", "cap_add", "cap_drop", "command", "depends_on", "entrypoint", "environment", "healthcheck", "image"),
    *("network_mode", "ports", "privileged", "read_only", "restart", "security_opt", "stop_grace_period", "tmpfs"),
    *("user", "volumes"),
}


def test_top_level_keys_are_composes() -> None:
    assert {key for key in COMPOSE if not key.startswith("x-")} == {"name", "services", "volumes"}


@pytest.mark.parametrize("name", sorted(SERVICES))
class TestService:
    def test_its_keys_are_composes(self, name: str) -> None:
        assert set(SERVICES[name]) <= SERVICE_KEYS

    def test_its_image_has_a_version(self, name: str) -> None:
        assert re.search(r":v?\d+\.\d+", SERVICES[name]["image"])

    def test_what_it_waits_for_exists_and_can_be_waited_for(self, name: str) -> None:
        for other, how in SERVICES[name].get("depends_on", {}).items():
            assert how["condition"] in ("service_healthy", "service_completed_successfully")
            if how["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[other]
            else:
                assert "restart" not in SERVICES[other]

    def test_its_volumes_are_declared_and_its_files_are_there(self, name: str) -> None:
        for volume in SERVICES[name].get("volumes", []):
            source, *_ = volume.split(":")
            if source.startswith("."):
                assert (TOP / source).exists()
                assert volume.endswith(":ro")
            else:
                assert source in COMPOSE["volumes"]

    def test_its_ports_are_published_on_localhost_only(self, name: str) -> None:
        for port in SERVICES[name].get("ports", []):
            assert port.startswith("127.0.0.1:")


@pytest.mark.parametrize("name", OURS)
class TestOurService:
    def test_its_dockerfile_is_there(self, name: str) -> None:
        build = SERVICES[name]["build"]
        assert (TOP / build["context"] / build["dockerfile"]).exists()

    def test_it_is_hardened(self, name: str) -> None:
        service = SERVICES[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert "privileged" not in service


def test_the_configuration_is_one_that_kas_takes() -> None:
    config = load_config(TOP / "deploy" / "compose" / "kas.yaml")
    assert str(config.agent_api.external_url) == "grpcs://kas:8150"
    published = {port.split(":")[-1] for port in SERVICES["kas"]["ports"]}
    assert published == {str(config.management_api.listen.port), str(config.kubernetes_api.listen.port)}


def test_agentk_dials_what_kas_says_that_it_is() -> None:
    config = load_config(TOP / "deploy" / "compose" / "kas.yaml")
    assert f"--kas-address={config.agent_api.external_url}" in SERVICES["agentk"]["command"]


def test_agentks_options_exist() -> None:
    help_text = (TOP / "agentk" / "cli.py").read_text()
    for word in SERVICES["agentk"]["command"]:
        option = word.partition("=")[0]
        assert f'"{option}"' in help_text
