"""Free ports of localhost, for programs that cannot be told to take any."""

from __future__ import annotations

import random
import socket

PORTS = range(20000, 32000)  # below the ports that the kernel hands out for outgoing connections


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, at random, so that two runs that start at once do not meet."""
    found: list[int] = []
    while len(found) < count:
        port = random.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found
