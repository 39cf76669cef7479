"""Debian's nginx with a block of docs/operating.md, on free ports, in front of a running kas."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.ports import free_ports
from tests.support.product import Product

OPERATING = Path(__file__).parents[2] / "docs" / "operating.md"
_STREAM_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")


@dataclass(frozen=True)
class Front:
    """Where clients find kas through a proxy, and what the proxy has logged."""

    agents: str
    kubernetes: str
    access_log: Path

    def requests(self) -> list[str]:
        """A line for each request that the proxy read: method, target, version, status, and - where it did not ask kas."""
        return self.access_log.read_text(errors="replace").replace("<NOSRV>", "-").splitlines()


def block(name: str, language: str = "nginx") -> str:
    """A fenced block of the document by its name. An example that nobody can find is no example."""
    found = re.search(rf"^```{language} {name}\n(.*?)^```", OPERATING.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None, name
    return found[1]


@contextmanager
def nginx(name: str, product: Product, folder: Path, changes: Mapping[str, str] | None = None) -> Iterator[Front]:
    """Run the block ``name`` in front of ``product``, with mistakes where ``changes`` replaces; skips where there is no nginx."""
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    if not Path(program).exists():
        pytest.skip("nginx is not installed")
    if "stream {" in block(name) and not _STREAM_MODULE.exists():
        pytest.skip("nginx has no stream module here (libnginx-mod-stream)")
    folder.mkdir()
    ports = dict(zip(("8150", "8153", "8154"), free_ports(3), strict=True))
    behind = {
        "18150": urlsplit(product.kas_address).port,
        "18153": urlsplit(product.management_url).port,
        "18154": urlsplit(product.kubernetes_url).port,
    }
    text = block(name)
    for old, new in (changes or {}).items():
        assert old in text
        text = text.replace(old, new)
    for old, new in behind.items():
        text = text.replace(f"127.0.0.1:{old}", f"127.0.0.1:{new}")
    for old, new in ports.items():
        text = text.replace(f"listen {old}", f"listen 127.0.0.1:{new}")
    certificate = product.state / "pki" / "leaf.pem"
    text = text.replace("/etc/nginx/tls/kas-ca.crt", str(product.ca_file)).replace("kas.example.com", "localhost")
    text = text.replace("/etc/nginx/tls/kas.crt", str(certificate)).replace("/etc/nginx/tls/kas.key", str(certificate))
    log = folder / "access.log"
    places = "".join(
        f"{each}_temp_path {folder}/{each}; " for each in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    format_ = "log_format seen '$request $status $upstream_status';"
    text = text.replace("http {", f"http {{\n{format_} access_log {log} seen; {places}", 1)
    modules = f"load_module {_STREAM_MODULE};\n" if "stream {" in text else ""
    config = folder / "nginx.conf"
    config.write_text(
        f"{modules}daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;\n"
        f"events {{ worker_connections 512; }}\n{text}"
    )
    log.touch()
    with subprocess.Popen([program, "-p", folder, "-c", config], stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 10
        while not (folder / "pid").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        if process.poll() is not None:
            assert process.stderr is not None
            raise AssertionError(process.stderr.read())
        try:
            yield Front(f"grpcs://localhost:{ports['8150']}", f"https://localhost:{ports['8154']}", log)
        finally:
            process.terminate()
            process.wait(10)
