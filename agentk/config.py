"""The settings of agentk: each one a flag and an environment variable, checked once at the start, frozen from then on."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from agentk.errors import ConfigurationError
from kastunnel.toolkit.hosts import host_port
from kastunnel.toolkit.proxies import Proxy, proxy_for

DEFAULT_KAS_PORT = 8150  # the agent door of kas
MAX_TOKEN_BYTES = 1024  # an agent token has 52 bytes; more is the wrong file
LOG_LEVELS = ("debug", "info", "warning", "error")
_TOKEN = re.compile(rb"[\x21-\x7e]+")
_INSTANCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,252}")


class Address(NamedTuple):
    """A host and a port; ``host`` without brackets even if it is an IPv6 address."""

    host: str
    port: int

    def __str__(self) -> str:
        return host_port(self.host, self.port)


class KasAddress(NamedTuple):
    """Where kas is: ``grpcs://HOST:PORT``, or ``grpc://`` without TLS."""

    address: Address
    tls: bool

    def __str__(self) -> str:
        return f"{'grpcs' if self.tls else 'grpc'}://{self.address}"

    @property
    def target(self) -> str:
        """``HOST:PORT`` as gRPC wants it."""
        return str(self.address)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that can be set. Build it with ``settings``: that is where values are checked."""

    kas: KasAddress
    """--kas-address, AGENTK_KAS_ADDRESS. ``grpc://`` is for tests: the agent token would travel in clear."""

    token_file: Path | None = None
    """--token-file, AGENTK_TOKEN_FILE. Read again at every dial, so that a rotated token needs no restart."""

    token: bytes = field(default=b"", repr=False)
    """AGENTK_TOKEN: the agent token itself, where no file can be had. There is no flag: argv can be read by everybody."""

    ca_cert_file: Path | None = None
    """--ca-cert-file, AGENTK_CA_CERT_FILE: the certificate authority of kas; the system's own where not given."""

    proxy: Proxy | None = None
    """HTTPS_PROXY and NO_PROXY, in either case: the way to kas only. The API server is always dialled directly."""

    kubeconfig: Path | None = None
    """--kubeconfig, AGENTK_KUBECONFIG. Without it: the pod's service account, else KUBECONFIG, else ~/.kube/config."""

    context: str | None = None
    """--context, AGENTK_CONTEXT: of the kubeconfig; its current one where not given."""

    instance: str = ""
    """--instance, AGENTK_INSTANCE: unique and stable for each replica. POD_NAMESPACE/POD_NAME, else the host's name."""

    log_format: Literal["json", "console"] = "json"
    """--log-format, AGENTK_LOG_FORMAT."""

    log_level: str = "info"
    """--log-level, AGENTK_LOG_LEVEL: debug, info, warning or error."""

    observability: Address | None = None
    """--observability-listen, AGENTK_OBSERVABILITY_LISTEN: /metrics /liveness /readiness, by default on 127.0.0.1:8080; None for "off"."""

    head_timeout_s: float = 75.0
    """--head-timeout, AGENTK_HEAD_TIMEOUT. Seconds for the API server to begin its answer, unless kas names a time.

    Above the 60 s after which the API server itself answers 504, so that its answer wins."""

    drain_timeout_s: float = 20.0
    """--drain-timeout, AGENTK_DRAIN_TIMEOUT. Seconds that open requests get after SIGTERM; a pod is killed after 30."""

    def agent_token(self) -> bytes:
        """The agent token as it is now. Raises ConfigurationError naming the file (never what is in it)."""
        if self.token_file is None:
            return self.token
        name = f"--token-file {self.token_file}"
        try:
            raw = self.token_file.read_bytes()[: MAX_TOKEN_BYTES + 1]
        except OSError as error:
            raise ConfigurationError(
                f"{name}: {error.strerror}: mount the secret there, or correct the path"
            ) from error
        return _checked_token(raw, name)

    def kas_ca(self) -> bytes | None:
        """The PEM of kas's certificate authority, None for the system's. Raises ConfigurationError."""
        if self.ca_cert_file is None:
            return None
        try:
            pem = self.ca_cert_file.read_bytes()
        except OSError as error:
            raise ConfigurationError(
                f"--ca-cert-file {self.ca_cert_file}: {error.strerror}: mount kas's CA there, or correct the path"
            ) from error
        if b"-----BEGIN CERTIFICATE-----" not in pem:
            raise ConfigurationError(f"--ca-cert-file {self.ca_cert_file}: no PEM certificate in it")
        try:  # gRPC would skip what it cannot read
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=str(self.ca_cert_file))
        except ssl.SSLError as error:
            raise ConfigurationError(
                f"--ca-cert-file {self.ca_cert_file}: a certificate in it is malformed ({error.reason or 'not PEM'})"
            ) from None
        return pem


def settings(
    *,
    kas_address: str | None,
    token_file: Path | None = None,
    ca_cert_file: Path | None = None,
    kubeconfig: Path | None = None,
    context: str | None = None,
    instance: str | None = None,
    log_format: str = "json",
    log_level: str = "info",
    observability_listen: str = "127.0.0.1:8080",
    head_timeout_s: float = 75.0,
    drain_timeout_s: float = 20.0,
    environ: Mapping[str, str],
    read_files: bool = True,
) -> Settings:
    """Check every value, and unless told otherwise what is in the files of the token and of the CA.

    Raises ConfigurationError with one line that names the option and the remedy.
    """
    if log_format not in ("json", "console"):
        raise ConfigurationError(f"--log-format {log_format!r}: use json or console")
    if log_level.lower() not in LOG_LEVELS:
        raise ConfigurationError(f"--log-level {log_level!r}: use one of {', '.join(LOG_LEVELS)}")
    if head_timeout_s <= 0 or drain_timeout_s < 0:
        raise ConfigurationError("--head-timeout and --drain-timeout: use a positive number of seconds")
    if kubeconfig is not None and not kubeconfig.is_file():
        raise ConfigurationError(f"--kubeconfig {kubeconfig}: no such file: correct the path")
    kas = _kas_address(kas_address)
    made = Settings(
        kas=kas,
        proxy=_proxy(kas.address, environ),
        token_file=token_file,
        token=_token_of(token_file, environ),
        ca_cert_file=ca_cert_file,
        kubeconfig=kubeconfig,
        context=context,
        instance=_instance(instance, environ),
        log_format="json" if log_format == "json" else "console",
        log_level=log_level.lower(),
        observability=_listen(observability_listen),
        head_timeout_s=head_timeout_s,
        drain_timeout_s=drain_timeout_s,
    )
    if read_files:  # a wrong path is said now, not at the first dial
        made.agent_token()
        made.kas_ca()
    return made


def _proxy(kas: Address, environ: Mapping[str, str]) -> Proxy | None:
    try:
        return proxy_for(*kas, environ)
    except ValueError as error:
        raise ConfigurationError(str(error)) from error


def _kas_address(text: str | None) -> KasAddress:
    example = "use grpcs://HOST:8150, as `kas agent register` prints it"
    if not text:
        raise ConfigurationError(f"--kas-address (AGENTK_KAS_ADDRESS) is missing: {example}")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ConfigurationError(f"--kas-address {text!r}: {error}: {example}") from error
    if (
        parts.scheme not in ("grpc", "grpcs")
        or not parts.hostname
        or parts.path.strip("/")
        or parts.query
        or "@" in text
    ):
        raise ConfigurationError(f"--kas-address {text!r}: {example}")
    return KasAddress(Address(parts.hostname, DEFAULT_KAS_PORT if port is None else port), parts.scheme == "grpcs")


def _token_of(token_file: Path | None, environ: Mapping[str, str]) -> bytes:
    value = environ.get("AGENTK_TOKEN", "")
    if token_file is not None and value:
        raise ConfigurationError("--token-file and AGENTK_TOKEN are both given: leave one away")
    if token_file is None and not value:
        raise ConfigurationError(
            "the agent token is missing: give --token-file FILE (AGENTK_TOKEN_FILE), or AGENTK_TOKEN in the environment"
        )
    return _checked_token(value.encode(errors="surrogateescape"), "AGENTK_TOKEN") if value else b""


def _checked_token(raw: bytes, name: str) -> bytes:
    token = raw.strip()
    if not token:
        raise ConfigurationError(f"{name}: it is empty: put in the token that `kas agent register` printed")
    if len(raw) > MAX_TOKEN_BYTES or not _TOKEN.fullmatch(token):
        raise ConfigurationError(f"{name}: this is not an agent token: put in what `kas agent register` printed")
    return token


def _instance(text: str | None, environ: Mapping[str, str]) -> str:
    if not text:
        pod, namespace = environ.get("POD_NAME", ""), environ.get("POD_NAMESPACE", "")
        text = f"{namespace}/{pod}" if pod and namespace else pod or socket.gethostname()
    if not _INSTANCE.fullmatch(text):
        raise ConfigurationError(f"--instance {text!r}: use letters, digits and . _ / - (at most 253 characters)")
    return text


def _listen(text: str) -> Address | None:
    if text in ("off", ""):
        return None
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ConfigurationError(f"--observability-listen {text!r}: use HOST:PORT, for example 127.0.0.1:8080, or off")
    return Address(host.removeprefix("[").removesuffix("]"), int(port))
