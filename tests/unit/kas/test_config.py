from __future__ import annotations

from pathlib import Path

import pytest

from kas.addresses import ListenAddress
from kas.config import MAX_FILE_BYTES, Config, doubts, load_config, needs_restart
from kas.errors import ConfigurationError


def config_of(folder: Path, text: str) -> Config:
    file = folder / "kas.yaml"
    file.write_text(text)
    return load_config(file)


def mistakes_of(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        config_of(folder, text)
    return [line.removeprefix(f"{folder}/") for line in str(caught.value).splitlines()]


def test_an_empty_file_is_the_defaults(tmp_path: Path):
    assert config_of(tmp_path, "") == Config()


def test_the_doors_are_on_localhost_unless_told_otherwise():
    config = Config()
    doors = (config.agent_api, config.observability, config.management_api, config.kubernetes_api)
    assert [str(door.listen) for door in doors] == [f"127.0.0.1:{port}" for port in (8150, 8151, 8153, 8154)]


def test_relative_paths_are_relative_to_the_file(tmp_path: Path):
    config = config_of(
        tmp_path,
        "state_dir: state\n"
        "kubernetes_api: {tls: {certificate_file: tls.crt, key_file: /etc/tls.key}}\n"
        "configuration_repositories: [{root: git}, {project: g/p, path: ../p.git, ref: main}]\n",
    )
    assert config.state_dir == tmp_path / "state"
    assert config.kubernetes_api.tls is not None
    assert config.kubernetes_api.tls.certificate_file == tmp_path / "tls.crt"
    assert config.kubernetes_api.tls.key_file == Path("/etc/tls.key")
    assert config.configuration_repositories[0].root == tmp_path / "git"
    assert config.configuration_repositories[1].path == tmp_path / ".." / "p.git"


def test_an_unknown_key_is_refused_with_its_place_and_a_suggestion(tmp_path: Path):
    assert mistakes_of(tmp_path, "enable: true\nkubernetes_api:\n  listn: 127.0.0.1:1\n") == [
        "kas.yaml:3:3: kubernetes_api.listn: there is no such key (did you mean 'listen'?)"
    ]


def test_every_mistake_has_a_line_of_its_own(tmp_path: Path):
    found = mistakes_of(
        tmp_path,
        "enable: 'yes'\nstate_dir: 7\nagent_api: {listen: 8150, max_links: 0}\n"
        "link: {detach_s: -1, drain_timeout_s: .inf}\naccess: {positive_cache_s: 61}\n",
    )
    assert [line.split(": ")[1] for line in found] == [
        "enable",
        "state_dir",
        "agent_api.listen",
        "agent_api.max_links",
        "link.detach_s",
        "link.drain_timeout_s",
        "access.positive_cache_s",
    ]


@pytest.mark.covers("C-05")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("management_api: {listen: '127.0.0.1:8154'}", "management_api.listen and kubernetes_api.listen are both"),
        ("kubernetes_api: {max_connections: 10, max_unauthenticated_connections: 11}", "cannot be more than"),
        ("kubernetes_api: {tls: {certificate_file: a}}", "kubernetes_api.tls.key_file: this key is missing"),
        ("kubernetes_api: {allowed_origins: ['http://a.example.com']}", "kubernetes_api.allowed_origins[0]: https://"),
        ("database: {url: 'mysql://a/b'}", "sqlite:////absolute/path or postgresql"),
        ("database: {url: 'sqlite:///kas.db'}", "four slashes"),
        ("configuration_repositories: [{root: a, path: b}]", "either root, or project and path"),
        ("configuration_repositories: [{path: b}]", "either root, or project and path"),
        (
            "configuration_repositories: [{project: p, path: b}]",
            "configuration_repositories[0].project: 'p' is not a project",
        ),
        ("configuration_repositories: {root: a}", "a list was expected"),
        ("logging: {level: loud}", "'debug', 'info', 'warning' or 'error'"),
        ("poll_interval_s: 0", "at least 0.1"),
        ("- enable", "a mapping (key: value) was expected"),
        ("a: &a 1\n", "anchors and aliases"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, text: str, said: str):
    found = mistakes_of(tmp_path, text)
    assert said in "\n".join(found)


def test_a_password_in_the_database_url_is_refused_and_never_shown(tmp_path: Path):
    (line,) = mistakes_of(tmp_path, "database: {url: 'postgresql+asyncpg://kas:tr0ub4dor@db/kas'}")
    assert "password_file" in line
    assert "tr0ub4dor" not in line


def test_a_missing_or_unreadable_file_says_how_to_name_it(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="no such file; name it with --config or KAS_CONFIG"):
        load_config(tmp_path / "kas.yaml")
    with pytest.raises(ConfigurationError, match="Is a directory"):
        load_config(tmp_path)


@pytest.mark.covers("C-01")
def test_a_huge_file_is_not_read(tmp_path: Path):
    assert "larger than" in mistakes_of(tmp_path, "#" * (MAX_FILE_BYTES + 1))[0]


def test_port_zero_may_stand_for_several_doors(tmp_path: Path):
    config = config_of(tmp_path, "management_api: {listen: 'localhost:0'}\nkubernetes_api: {listen: 'localhost:0'}")
    assert config.management_api.listen == config.kubernetes_api.listen == ListenAddress("localhost", 0)


def test_the_database_is_in_the_state_directory_unless_told_otherwise(tmp_path: Path):
    assert config_of(tmp_path, "state_dir: state").database_url == f"sqlite:///{tmp_path}/state/kas.db"
    url = "postgresql+asyncpg://kas@db.example.com/kas"
    assert config_of(tmp_path, f"database: {{url: '{url}'}}").database_url == url


def test_certificates_carry_every_external_name_once(tmp_path: Path):
    config = config_of(
        tmp_path,
        "agent_api: {external_url: 'grpcs://agents.example.com:443'}\n"
        "management_api: {external_url: 'https://kas.example.com:8153'}\n"
        "kubernetes_api: {external_url: 'https://kas.example.com'}\n",
    )
    assert config.certificate_names == ("agents.example.com", "kas.example.com", "localhost", "127.0.0.1", "::1")


def test_a_reload_is_told_what_it_cannot_change(tmp_path: Path):
    old = Config()
    new = config_of(tmp_path, "state_dir: /elsewhere\nagent_api: {listen: '127.0.0.1:1'}\nlogging: {level: debug}\n")
    assert needs_restart(old, new) == ["state_dir", "agent_api.listen"]
    assert needs_restart(old, old) == []


def test_a_door_that_is_open_under_a_name_that_nobody_can_use_is_doubted(tmp_path: Path):
    (tmp_path / "git").mkdir()
    config = config_of(tmp_path, "kubernetes_api: {listen: '0.0.0.0:8154'}\nconfiguration_repositories: [{root: git}]")
    (doubt,) = doubts(config)
    assert "kubernetes_api.external_url" in doubt
    assert "configuration_repositories is empty" in doubts(Config())[0]


def test_a_folder_of_repositories_that_is_not_there_is_doubted(tmp_path: Path):
    config = config_of(tmp_path, "configuration_repositories: [{root: nowhere}, {project: shop/web, path: web.git}]")
    assert [doubt.partition(": the agents")[0] for doubt in doubts(config)] == [
        f"configuration_repositories: there is no folder {tmp_path}/{name}" for name in ("nowhere", "web.git")
    ]


def test_a_configuration_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Config().enable = False  # type: ignore[misc]
