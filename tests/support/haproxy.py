"""Debian's HAProxy with a block of docs/operating.md, on free ports, in front of a running kas."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.nginx import Front, block
from tests.support.ports import free_ports
from tests.support.product import Product

START_LIMIT_S = 10


@contextmanager
def haproxy(name: str, product: Product, folder: Path, changes: Mapping[str, str] | None = None) -> Iterator[Front]:
    """Run the block ``name`` in front of ``product``, with mistakes where ``changes`` replaces; skips where there is no HAProxy."""
    program = shutil.which("haproxy") or "/usr/sbin/haproxy"
    if not Path(program).exists():
        pytest.skip("haproxy is not installed")
    folder.mkdir()
    ports = dict(zip(("8150", "8153", "8154"), free_ports(3), strict=True))
    behind = {
        "18150": urlsplit(product.kas_address).port,
        "18153": urlsplit(product.management_url).port,
        "18154": urlsplit(product.kubernetes_url).port,
    }
    text = block(name, "haproxy")
    for old, new in (changes or {}).items():
        assert old in text
        text = text.replace(old, new)
    for old, new in behind.items():
        text = text.replace(f"127.0.0.1:{old}", f"127.0.0.1:{new}")
    for old, new in ports.items():
        text = text.replace(f"bind :{old}", f"bind 127.0.0.1:{new}")
    text = text.replace("/etc/haproxy/tls/kas-ca.crt", str(product.ca_file)).replace("kas.example.com", "localhost")
    text = text.replace("/etc/haproxy/tls/kas.pem", str(product.state / "pki" / "leaf.pem"))
    seen = 'defaults\n    log stdout format raw daemon\n    log-format "%r %ST %s"\n'  # the server's name, or <NOSRV>
    if "mode http" in text:
        text = text.replace("defaults\n", seen, 1)
    config = folder / "haproxy.cfg"
    config.write_text(f"global\n    maxconn 500\n{text}")
    log = folder / "access.log"
    with (
        log.open("wb") as output,
        subprocess.Popen([program, "-db", "-f", config], stdout=output, stderr=subprocess.STDOUT) as process,
    ):
        try:
            wait_until_it_listens(process, [*ports.values()], log)
            yield Front(f"grpcs://localhost:{ports['8150']}", f"https://localhost:{ports['8154']}", log)
        finally:
            process.terminate()
            process.wait(10)


def wait_until_it_listens(process: subprocess.Popen[bytes], ports: list[int], log: Path) -> None:
    """Of a proxy; what it logged, where it does not."""
    deadline = time.monotonic() + START_LIMIT_S
    for port in ports:
        while process.poll() is None and time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        else:
            raise AssertionError(log.read_text())
