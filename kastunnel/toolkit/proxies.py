"""Which HTTP proxy leads to a host, by the variables that curl and Go read: HTTPS_PROXY and NO_PROXY, in either spelling."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import NamedTuple
from urllib.parse import unquote_to_bytes, urlsplit

from kastunnel.toolkit.hosts import host_port

PROXIES = ("https_proxy", "HTTPS_PROXY")  # the first that says something
EXCEPTIONS = ("no_proxy", "NO_PROXY")
_DEFAULT_PORT = 80  # of a proxy's URL without one, as in Go


class Proxy(NamedTuple):
    """An HTTP proxy that is asked to CONNECT; its own connection is in clear, TLS runs through it."""

    host: str
    port: int
    login: str = ""  # user:password, percent-encoded as in the URL: a secret

    def __str__(self) -> str:
        return host_port(self.host, self.port)

    def __repr__(self) -> str:
        return f"<Proxy {self}>"

    @property
    def url(self) -> str:
        """With the login: not for people."""
        return f"http://{f'{self.login}@' if self.login else ''}{self}"

    @property
    def authorization(self) -> str:
        """The value of Proxy-Authorization (RFC 7617); "" without a login."""
        if not self.login:
            return ""
        user, _, password = self.login.partition(":")
        return f"Basic {b64encode(unquote_to_bytes(user) + b':' + unquote_to_bytes(password)).decode()}"

    @property
    def headers(self) -> dict[str, str]:
        """What is said with CONNECT: a secret."""
        return {"Proxy-Authorization": self.authorization} if self.login else {}


def proxy_for(host: str, port: int, environ: Mapping[str, str]) -> Proxy | None:
    """The proxy for ``host``; None: it is reached directly. Loopback always is.

    Raises ValueError that names the variable and never its value, which may hold a password.
    """
    name = next((name for name in PROXIES if environ.get(name, "").strip()), None)
    if name is None or _is_excepted(host, port, next((environ[one] for one in EXCEPTIONS if environ.get(one)), "")):
        return None
    return _read(environ[name].strip(), name)


def _read(text: str, name: str) -> Proxy:
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port = parts.port
    except ValueError:
        raise ValueError(f"{name}: http://HOST:PORT was expected") from None
    if parts.scheme != "http":
        raise ValueError(f"{name}: gRPC speaks to a proxy over plain http only: use http://HOST:PORT")
    if not parts.hostname or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(f"{name}: http://HOST:PORT was expected")
    login = parts.netloc.rpartition("@")[0]
    return Proxy(parts.hostname, _DEFAULT_PORT if port is None else port, login)


def _is_excepted(host: str, port: int, rules: str) -> bool:
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    return any(_fits(rule, host.lower().rstrip("."), port, address) for rule in rules.lower().replace(",", " ").split())


def _fits(rule: str, host: str, port: int, address: IPv4Address | IPv6Address | None) -> bool:
    """``*``, a name with everything below it, an address or a network in CIDR form; each but the last with or without a port."""
    if rule == "*":
        return True
    if "/" in rule:
        try:
            return address is not None and address in ip_network(rule, strict=False)
        except ValueError:
            return False
    name, colon, of_port = rule.rpartition(":")
    if colon and of_port.isdigit() and _address(rule) is None:
        if int(of_port) != port:
            return False
        rule = name
    if address is not None:
        return _address(rule) == address
    rule = rule.removeprefix("*").strip(".")
    return bool(rule) and (host == rule or host.endswith(f".{rule}"))


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None
