"""Who has stopped reading is not taken for one who has vanished (who has: tests/e2e/test_vanished_clients.py)."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from kastunnel.toolkit.vanished import is_vanished


class Transport:
    """As much of one as is looked at."""

    def __init__(self, sock: socket.socket | None) -> None:
        self.sock = sock

    def get_extra_info(self, name: str) -> socket.socket | None:
        assert name == "socket"
        return self.sock


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_connection(listening.getsockname()) as far:
        near, _ = listening.accept()
        with near:
            near.setblocking(False)
            yield near, far


def fill(sock: socket.socket) -> None:
    """Write until neither end's kernel takes more."""
    with pytest.raises(BlockingIOError):
        while True:
            sock.send(bytes(65536))


def test_a_quiet_client_is_there(pair) -> None:
    assert not is_vanished(Transport(pair[0]), silent_s=0)


def test_one_that_has_stopped_reading_is_there(pair) -> None:
    near, _ = pair
    fill(near)
    assert not is_vanished(Transport(near), silent_s=0)


def test_of_what_is_closed_or_no_tcp_nothing_is_known(pair) -> None:
    near, _ = pair
    near.close()
    assert not is_vanished(Transport(near), silent_s=0)
    assert not is_vanished(Transport(None), silent_s=0)
    one, other = socket.socketpair()
    with one, other:
        assert not is_vanished(Transport(one), silent_s=0)
