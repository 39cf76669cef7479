"""HTTP/2 is not offered at the HTTP doors, so none of its floods has a door to knock at."""

from __future__ import annotations

import socket
import ssl
from urllib.parse import urlsplit

import pytest

from tests.support.product import Product

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@pytest.mark.covers("S-22", "S-09")
@pytest.mark.parametrize("door", ["kubernetes", "management"])
def test_alpn_never_chooses_it_and_its_preface_is_refused(product: Product, door: str) -> None:
    url = urlsplit(product.kubernetes_url if door == "kubernetes" else product.management_url)
    trust = ssl.create_default_context(cafile=str(product.ca_file))
    trust.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection(("127.0.0.1", url.port or 0), timeout=10) as plain,
        trust.wrap_socket(plain, server_hostname="localhost") as tls,
    ):
        assert tls.selected_alpn_protocol() == "http/1.1"
        tls.sendall(PREFACE)
        said = b""
        while data := tls.recv(4096):
            said += data
    assert said.split(b"\r\n")[0].split()[1] in (b"400", b"405", b"505")
    assert said.count(b"HTTP/1.") == 1
