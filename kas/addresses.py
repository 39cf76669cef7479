"""Where a door listens and what it is called from outside, checked when kas.yaml is read."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator

from kastunnel.toolkit.hosts import bracketed, host_port

_LABEL = r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)"
_HOST_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_MAX_HOST_CHARACTERS = 253  # RFC 1035
_MAX_PORT = 65535
_HTTPS_PORT = 443
_FORM = "host:port was expected, like 127.0.0.1:8154 or [::1]:8154"


@dataclass(frozen=True)
class ListenAddress:
    """Host (an address without brackets, or a name of this machine) and port (0: any free one) of a listener."""

    host: str
    port: int

    def __str__(self) -> str:
        return host_port(self.host, self.port)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)

    @classmethod
    def parse(cls, text: object) -> ListenAddress:
        """From ``host:port``. Raises ValueError with what was expected."""
        if not isinstance(text, str):
            raise ValueError(_FORM)
        host, colon, port = text.rpartition(":")
        if not colon or not port:
            raise ValueError(f"{_FORM}: the port is missing")
        if not host:
            raise ValueError(
                f"{_FORM}; for every address of this machine write 0.0.0.0:{_shown(port)} or [::]:{_shown(port)}"
            )
        return cls(_host(host), _port(port, lowest=0))


@dataclass(frozen=True)
class ExternalUrl:
    """What others call a door: scheme, host and port, never a path."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"

    @property
    def authority(self) -> str:
        """Host, and the port unless it is that of https; what a Host header carries."""
        if self.port != _HTTPS_PORT or self.scheme != "https":
            return host_port(self.host, self.port)
        return bracketed(self.host)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can use it."""
        return is_loopback(self.host)

    @classmethod
    def parse(cls, text: object, scheme: str) -> ExternalUrl:
        """From ``https://host[:port]`` or ``grpcs://host:port``. Raises ValueError with what was expected."""
        example = f"{scheme}://kas.example.com{'' if scheme == 'https' else ':8150'} was expected"
        if not isinstance(text, str) or not text.isascii() or not text.isprintable() or " " in text:
            raise ValueError(f"{example} (ASCII, without spaces)")
        found, separator, rest = text.partition("://")
        if not separator or found.lower() != scheme:
            raise ValueError(f"{example}: it must start with {scheme}://")
        if "@" in rest or "?" in rest or "#" in rest:
            raise ValueError(f"{example}, without user, query or fragment")
        authority, _, path = rest.partition("/")
        if path:
            raise ValueError(f"{example}: a path is not supported, give this door a host name or a port of its own")
        return cls(scheme, *_split_authority(authority, scheme, example))


def is_loopback(host: str) -> bool:
    """Whether the name or address means this machine only."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _split_authority(authority: str, scheme: str, example: str) -> tuple[str, int]:
    if not authority.endswith("]") and ":" in authority:
        host, _, port = authority.rpartition(":")
        return _host(host), _port(port, lowest=1)
    if scheme != "https":  # grpcs has no port of its own that everybody would guess alike
        raise ValueError(f"{example}: the port is missing")
    return _host(authority), _HTTPS_PORT


def _host(text: str) -> str:
    if not text:
        raise ValueError("the host is missing")
    if text.startswith("[") and text.endswith("]"):
        try:
            return str(ipaddress.IPv6Address(text[1:-1]))
        except ValueError:
            raise ValueError(f"{_shown(text)} is not an IPv6 address") from None
    if ":" in text:
        raise ValueError(f"an IPv6 address stands in brackets: [{_shown(text)}]")
    if re.fullmatch(r"[0-9.]+", text):
        try:
            return str(ipaddress.IPv4Address(text))
        except ValueError:
            raise ValueError(f"{_shown(text)} is not an IPv4 address") from None
    if len(text) > _MAX_HOST_CHARACTERS or not _HOST_NAME.fullmatch(text):
        raise ValueError(f"{_shown(text)} is neither an address nor a host name")
    return text.lower()


def _port(text: str, lowest: int) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or not lowest <= int(text) <= _MAX_PORT:
        raise ValueError(f"{_shown(text)} is not a port: a number from {lowest} to {_MAX_PORT} was expected")
    return int(text)


def _shown(text: str) -> str:
    cut = text[:80]
    return cut if cut.isprintable() else ascii(cut)


def _listen(value: Any) -> ListenAddress:
    return value if isinstance(value, ListenAddress) else ListenAddress.parse(value)


def _https(value: Any) -> ExternalUrl:
    return value if isinstance(value, ExternalUrl) else ExternalUrl.parse(value, "https")


def _grpcs(value: Any) -> ExternalUrl:
    return value if isinstance(value, ExternalUrl) else ExternalUrl.parse(value, "grpcs")


Listen = Annotated[ListenAddress, PlainValidator(_listen), PlainSerializer(str)]
HttpsUrl = Annotated[ExternalUrl, PlainValidator(_https), PlainSerializer(str)]
GrpcsUrl = Annotated[ExternalUrl, PlainValidator(_grpcs), PlainSerializer(str)]
