from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kas.addresses import ExternalUrl, ListenAddress


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:8154", "127.0.0.1", 8154),
        ("0.0.0.0:0", "0.0.0.0", 0),
        ("[::1]:8154", "::1", 8154),
        ("[0:0:0:0:0:0:0:1]:1", "::1", 1),
        ("LocalHost:65535", "localhost", 65535),
        ("kas-1.example.com:443", "kas-1.example.com", 443),
    ],
)
def test_a_listen_address_is_host_and_port(text: str, host: str, port: int):
    assert ListenAddress.parse(text) == ListenAddress(host, port)


@pytest.mark.covers("C-05")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("127.0.0.1", "port is missing"),
        ("127.0.0.1:", "port is missing"),
        (":8154", "0.0.0.0:8154"),
        ("::1:8154", "in brackets"),
        ("[::g]:1", "not an IPv6 address"),
        ("127.0.0.300:1", "not an IPv4 address"),
        ("127.0.0.1:65536", "not a port"),
        ("127.0.0.1:-1", "not a port"),
        ("127.0.0.1:http", "not a port"),
        ("a b:1", "neither an address nor a host name"),
        ("-a:1", "neither an address nor a host name"),
        ("a\x1b[31m:1", "neither an address nor a host name"),
        (8154, "host:port was expected"),
        (None, "host:port was expected"),
    ],
)
def test_a_bad_listen_address_says_what_was_expected(text: object, said: str):
    with pytest.raises(ValueError) as caught:
        ListenAddress.parse(text)
    assert said in str(caught.value)
    assert str(caught.value).isprintable()


@given(st.ip_addresses(), st.integers(0, 65535))
def test_a_listen_address_survives_writing_and_reading(ip: object, port: int):
    address = ListenAddress(str(ip), port)
    assert ListenAddress.parse(str(address)) == address


@pytest.mark.parametrize(
    ("text", "scheme", "written"),
    [
        ("https://kas.example.com", "https", "https://kas.example.com"),
        ("https://kas.example.com:443/", "https", "https://kas.example.com"),
        ("HTTPS://KAS.example.com:8154", "https", "https://kas.example.com:8154"),
        ("https://[::1]", "https", "https://[::1]"),
        ("https://[::1]:8154", "https", "https://[::1]:8154"),
        ("grpcs://kas.example.com:443", "grpcs", "grpcs://kas.example.com:443"),
    ],
)
def test_an_external_url_is_written_without_what_goes_without_saying(text: str, scheme: str, written: str):
    assert str(ExternalUrl.parse(text, scheme)) == written


@pytest.mark.parametrize(
    ("text", "scheme", "said"),
    [
        ("http://kas.example.com", "https", "must start with https://"),
        ("kas.example.com", "https", "must start with https://"),
        ("grpcs://kas.example.com", "grpcs", "port is missing"),
        ("https://kas.example.com/kas", "https", "path is not supported"),
        ("https://user:word@kas.example.com", "https", "without user"),
        ("https://kas.example.com?a=b", "https", "without user, query or fragment"),
        ("https://", "https", "host is missing"),
        ("https://:8154", "https", "host is missing"),
        ("https://kas.example.com:0", "https", "not a port"),
        ("https://käs.example.com", "https", "ASCII"),
        ("https://kas example.com", "https", "without spaces"),
        (7, "https", "was expected"),
    ],
)
def test_a_bad_external_url_says_what_was_expected(text: object, scheme: str, said: str):
    with pytest.raises(ValueError) as caught:
        ExternalUrl.parse(text, scheme)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("host", "answer"),
    [
        ("localhost", True),
        ("a.localhost", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("10.0.0.1", False),
        ("a.b", False),
    ],
)
def test_loopback_is_what_only_this_machine_reaches(host: str, answer: bool):
    assert ListenAddress(host, 1).is_loopback is answer
    assert ExternalUrl("https", host, 1).is_loopback is answer
