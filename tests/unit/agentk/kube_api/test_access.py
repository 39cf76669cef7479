from __future__ import annotations

import ssl

import pytest

from agentk.errors import ConfigurationError
from agentk.kube_api.access import access


@pytest.fixture
def tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def test_host_and_port_of_the_server_are_dialled_and_said(tls: ssl.SSLContext) -> None:
    made = access("https://[fd00::1]:6443/k8s/c-1/", "Bearer t", tls, None)
    assert (made.endpoint.host, made.endpoint.port, made.endpoint.server_name) == ("fd00::1", 6443, "fd00::1")
    assert made.host == b"[fd00::1]:6443"
    assert made.prefix == b"/k8s/c-1"
    assert made.credential == ((b"Authorization", b"Bearer t"),)


def test_defaults_are_those_of_the_scheme(tls: ssl.SSLContext) -> None:
    assert access("https://kubernetes", "", tls, "other").endpoint[1:] == (443, tls, "other")
    assert access("http://kubernetes", "", tls, "other").endpoint[1:] == (80, None, None)
    assert access("http://kubernetes", "", None, None).credential == ()
    assert access("http://kubernetes", "", None, None).host == b"kubernetes"


def test_its_repr_has_no_secret() -> None:
    assert "secret" not in repr(access("http://kubernetes", "Bearer secret", None, None))


@pytest.mark.parametrize(
    ("server", "authorization"),
    [
        ("kubernetes:6443", ""),
        ("ftp://kubernetes", ""),
        ("https://", ""),
        ("https://kubernetes:port", ""),
        ("https://kubernetes:99999", ""),
        ("https://user@kubernetes", ""),
        ("https://kubernetes/?a=b", ""),
        ("https://kubernetes/\r\nX: y", ""),
        ("https://kubernetes", "Bearer a\r\nX: y"),
        ("https://kubernetes", "Bearer ä"),
    ],
)
def test_what_makes_no_sense_is_refused_without_saying_the_secret(server: str, authorization: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        access(server, authorization, None, None)
    assert not authorization or authorization not in str(error.value)
