"""Debian's Apache with a block of docs/operating.md, on free ports, in front of the doors for jobs of a running kas."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.haproxy import wait_until_it_listens
from tests.support.nginx import Front, block
from tests.support.ports import free_ports
from tests.support.product import Product

MODULES = Path("/usr/lib/apache2/modules")
_LOADED = ("mpm_event", "authz_core", "socache_shmcb", "ssl", "proxy", "proxy_http")


@contextmanager
def apache(name: str, product: Product, folder: Path, changes: Mapping[str, str] | None = None) -> Iterator[Front]:
    """Run the block ``name`` in front of ``product``, with mistakes where ``changes`` replaces; skips where there is no Apache."""
    program = shutil.which("apache2") or "/usr/sbin/apache2"
    if not Path(program).exists() or not MODULES.is_dir():
        pytest.skip("apache2 is not installed")
    folder.mkdir()
    ports = dict(zip(("8153", "8154"), free_ports(2), strict=True))
    text = block(name, "apache")
    for old, new in (changes or {}).items():
        assert old in text
        text = text.replace(old, new)
    for old, url in (("18153", product.management_url), ("18154", product.kubernetes_url)):
        text = text.replace(f"127.0.0.1:{old}", f"127.0.0.1:{urlsplit(url).port}")
    for old, port in ports.items():
        text = text.replace(f"Listen {old}", f"Listen 127.0.0.1:{port}").replace(f"*:{old}>", f"127.0.0.1:{port}>")
    leaf = product.state / "pki" / "leaf.pem"
    text = text.replace("/etc/apache2/tls/kas-ca.crt", str(product.ca_file)).replace("kas.example.com", "localhost")
    text = text.replace("/etc/apache2/tls/kas.crt", str(leaf)).replace("/etc/apache2/tls/kas.key", str(leaf))
    log, errors = folder / "access.log", folder / "error.log"
    log.touch()
    loaded = "".join(f"LoadModule {one}_module {MODULES}/mod_{one}.so\n" for one in _LOADED)
    config = folder / "apache.conf"
    config.write_text(
        f"ServerRoot {folder}\nServerName localhost\nPidFile {folder}/pid\nErrorLog {errors}\n{loaded}"
        f"DefaultRuntimeDir {folder}\nMutex pthread\n{_worker()}"
        f'LogFormat "%r %>s %R" seen\nCustomLog {log} seen\n{text}'  # %R: what made the answer, - for Apache itself
    )
    with (
        errors.open("ab") as output,
        subprocess.Popen([program, "-D", "FOREGROUND", "-f", config], stdout=output, stderr=output) as process,
    ):
        try:
            wait_until_it_listens(process, [*ports.values()], errors)
            yield Front(product.kas_address, f"https://localhost:{ports['8154']}", log)
        finally:
            process.terminate()
            process.wait(15)


def _worker() -> str:
    """Whom it becomes, where it begins as root."""
    return "User nobody\nGroup nogroup\n" if os.geteuid() == 0 else ""
