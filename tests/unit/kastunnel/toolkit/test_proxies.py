from __future__ import annotations

from base64 import b64decode

import pytest

from kastunnel.toolkit.proxies import Proxy, proxy_for

KAS = ("kas.example.com", 8150)
PROXY = "http://proxy.example.com:3128"


@pytest.mark.parametrize("name", ["https_proxy", "HTTPS_PROXY"])
def test_either_spelling_names_the_proxy(name: str) -> None:
    assert proxy_for(*KAS, {name: PROXY}) == Proxy("proxy.example.com", 3128)


def test_lower_case_wins_as_in_curl_and_an_empty_variable_says_nothing() -> None:
    assert proxy_for(*KAS, {"https_proxy": "http://low:1", "HTTPS_PROXY": PROXY}) == Proxy("low", 1)
    assert proxy_for(*KAS, {"https_proxy": " ", "HTTPS_PROXY": PROXY}) == Proxy("proxy.example.com", 3128)


def test_without_a_variable_there_is_no_proxy_and_http_proxy_is_for_others() -> None:
    assert proxy_for(*KAS, {}) is None
    assert proxy_for(*KAS, {"http_proxy": PROXY, "ALL_PROXY": PROXY}) is None


@pytest.mark.parametrize(
    ("text", "proxy"),
    [
        ("proxy:3128", Proxy("proxy", 3128)),
        ("http://proxy", Proxy("proxy", 80)),
        ("http://[::1]:3128/", Proxy("::1", 3128)),
        ("http://u%40x:p%3Aw@proxy:3128", Proxy("proxy", 3128, "u%40x:p%3Aw")),
    ],
)
def test_a_proxy_is_read_as_curl_does(text: str, proxy: Proxy) -> None:
    assert proxy_for(*KAS, {"HTTPS_PROXY": text}) == proxy


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "::1"])
def test_this_machine_is_never_reached_through_a_proxy(host: str) -> None:
    assert proxy_for(host, 8150, {"HTTPS_PROXY": PROXY}) is None


@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
@pytest.mark.parametrize(
    "rules",
    [
        "*",
        "kas.example.com",
        "KAS.Example.COM",
        "example.com",
        ".example.com",
        "*.example.com",
        "kas.example.com:8150",
        "other.test, example.com",
        "other.test example.com",
    ],
)
def test_an_exception_is_reached_directly(name: str, rules: str) -> None:
    assert proxy_for(*KAS, {"HTTPS_PROXY": PROXY, name: rules}) is None


@pytest.mark.parametrize(
    "rules", ["", "com.example", "as.example.com", "kas.example.com:443", "10.0.0.0/8", "x/y", "."]
)
def test_what_only_looks_like_an_exception_is_none(rules: str) -> None:
    assert proxy_for(*KAS, {"HTTPS_PROXY": PROXY, "NO_PROXY": rules}) is not None


@pytest.mark.parametrize(
    ("host", "rules", "is_direct"),
    [
        ("10.1.2.3", "10.0.0.0/8", True),
        ("11.1.2.3", "10.0.0.0/8", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3", "10.1.2.3:8150", True),
        ("10.1.2.3", "10.1.2.3:443", False),
        ("fd00::1", "fd00::/8", True),
        ("fd00::1", "[fd00::1]:8150", True),
        ("fd00::1", "fd00::1", True),
        ("10.1.2.3", "2.3", False),
    ],
)
def test_addresses_are_compared_as_addresses(host: str, rules: str, is_direct: bool) -> None:
    assert (proxy_for(host, 8150, {"HTTPS_PROXY": PROXY, "NO_PROXY": rules}) is None) is is_direct


@pytest.mark.parametrize(
    "text", ["https://u:secret@proxy", "socks5://u:secret@p", "http://u:secret@", "http://u:secret@p:x"]
)
def test_a_proxy_that_cannot_be_used_is_told_without_its_password(text: str) -> None:
    with pytest.raises(ValueError, match="^HTTPS_PROXY: ") as caught:
        proxy_for(*KAS, {"HTTPS_PROXY": text})
    assert "secret" not in str(caught.value)


def test_the_login_is_shown_to_the_proxy_and_to_nobody_else() -> None:
    proxy = Proxy("proxy", 3128, "us%40er:p%3Aw%2Fd")
    assert b64decode(proxy.authorization.removeprefix("Basic ")) == b"us@er:p:w/d"
    assert proxy.url == "http://us%40er:p%3Aw%2Fd@proxy:3128"
    assert f"{proxy} {proxy!r}" == "proxy:3128 <Proxy proxy:3128>"
    assert Proxy("::1", 80).authorization == ""
    assert str(Proxy("::1", 80)) == "[::1]:80"
