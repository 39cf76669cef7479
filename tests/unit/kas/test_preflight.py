from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from kas import preflight
from kas.addresses import ListenAddress
from kas.errors import ConfigurationError

LOCAL = ListenAddress("127.0.0.1", 0)


def test_the_state_directory_is_made_for_its_owner_alone(tmp_path: Path):
    state = tmp_path / "a" / "state"
    preflight.prepare_state_dir(state)
    preflight.prepare_state_dir(state)
    assert state.stat().st_mode & 0o777 == 0o700
    assert list(state.iterdir()) == []


@pytest.mark.parametrize("place", ["file/state", "/proc/nowhere"])
def test_a_state_directory_that_cannot_be_written_says_what_to_do(tmp_path: Path, place: str):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        ConfigurationError, match=r"state_dir: .* cannot be written: .*; make it a directory of the user"
    ):
        preflight.prepare_state_dir(tmp_path / place)


def test_root_does_not_work_in_another_users_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    preflight.refuse_foreign_state(tmp_path / "not there yet")
    preflight.refuse_foreign_state(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    real = Path.stat

    def owned_by_other(self: Path) -> os.stat_result:
        fields = list(real(self))
        fields[4] = 64000
        return os.stat_result(fields)

    monkeypatch.setattr(Path, "stat", owned_by_other)
    with pytest.raises(ConfigurationError, match="belongs to uid 64000: run this command as that user"):
        preflight.refuse_foreign_state(tmp_path)


def test_a_listener_listens_at_once():
    with preflight.listening_socket("kubernetes_api", LOCAL) as listener:
        with socket.create_connection(listener.getsockname(), timeout=1):
            pass
        assert not listener.getblocking()


@pytest.mark.covers("C-05")
def test_a_port_in_use_names_the_option_and_the_remedy():
    with preflight.listening_socket("kubernetes_api", LOCAL) as first:
        address = ListenAddress(*first.getsockname())
        with pytest.raises(ConfigurationError, match=rf"kubernetes_api.listen: {address} is in use by another program"):
            preflight.listening_socket("kubernetes_api", address)


def test_a_port_can_be_shared_when_both_want_it():
    with preflight.listening_socket("a", LOCAL, reuse_port=True) as first:
        address = ListenAddress(*first.getsockname())
        preflight.listening_socket("a", address, reuse_port=True).close()


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (ListenAddress("203.0.113.7", 0), "is not an address of this machine"),
        (ListenAddress("no-such-host.invalid", 1), "is not known to this machine"),
    ],
)
def test_an_address_that_cannot_be_had_says_why(address: ListenAddress, said: str):
    with pytest.raises(ConfigurationError, match=said):
        preflight.listening_socket("agent_api", address)


def test_a_forbidden_port_says_what_to_do(monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(ConfigurationError, match="CAP_NET_BIND_SERVICE"):
        preflight.listening_socket("agent_api", ListenAddress("127.0.0.1", 1))


def test_a_secret_is_read_without_white_space(tmp_path: Path):
    file = tmp_path / "secret"
    file.touch(0o600)
    file.write_text(" word\n")
    assert preflight.read_secret(file, "option") == "word"


@pytest.mark.covers("C-05")
@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        (b"word", 0o644, "every user may read"),
        (b" \n", 0o600, "is empty"),
        (b"\xff", 0o600, "is not text"),
        (b"a" * (preflight.MAX_SECRET_BYTES + 1), 0o600, "larger than"),
    ],
)
def test_what_is_no_secret_is_refused(tmp_path: Path, content: bytes, mode: int, said: str):
    file = tmp_path / "secret"
    file.write_bytes(content)
    file.chmod(mode)
    with pytest.raises(ConfigurationError, match=f"option: .*{said}") as caught:
        preflight.read_secret(file, "option")
    assert "word" not in str(caught.value)


def test_a_missing_secret_names_option_and_file(tmp_path: Path):
    with pytest.raises(ConfigurationError, match=r"option: .*/nothing cannot be read: No such file"):
        preflight.read_secret(tmp_path / "nothing", "option")
