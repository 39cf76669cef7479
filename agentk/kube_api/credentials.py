"""agentk's own credential for its API server. The only module that knows kubernetes_asyncio.

In a pod: the service account's token and CA files, which the kubelet replaces. Elsewhere a kubeconfig: client certificates,
tokens, token files, exec plugins. Whatever it is, ``access`` is at hand without an await; a loop of ours keeps it fresh.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import yaml
from kubernetes_asyncio.client import Configuration
from kubernetes_asyncio.config import ConfigException, load_incluster_config, load_kube_config

from agentk.errors import ConfigurationError, CredentialUnavailable
from agentk.kube_api.access import Access, Endpoint, access
from kastunnel.toolkit.logs import fields

log = logging.getLogger(__name__)

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
REFRESH_S = (
    60.0  # files are read again this often, as client-go does: the kubelet replaces a token 12 min before its end
)
MIN_REFRESH_S = 5.0  # however many 401 come, and however short-lived a plugin's token is
MAX_EXPIRY_MARGIN_S = 300.0  # kubernetes_asyncio too counts a token as expired 5 min before its end
PLUGIN_TIMEOUT_S = 30.0  # an exec plugin that hangs must not stop refreshing for ever
_HOUR_S = 3600.0


class _Loaded(NamedTuple):
    configuration: Configuration
    expires_at: datetime | None  # of an exec plugin's credential
    plugin: bool


class Credentials:
    """The current ``access``, and who keeps it current. ``load`` once before use, then run ``keep_fresh`` beside everything else."""

    def __init__(
        self,
        kubeconfig: Path | None = None,
        context: str | None = None,
        *,
        environ: Mapping[str, str] = os.environ,
        service_account: Path = SERVICE_ACCOUNT,
    ) -> None:
        self._kubeconfig = kubeconfig
        self._context = context
        self._environ = environ
        self._service_account = service_account
        self._access: Access | None = None
        self._fingerprint = b""
        self._wanted = asyncio.Event()
        self._due_s = REFRESH_S
        self.refreshes = 0

    def __repr__(self) -> str:
        return f"<Credentials {self.source} refreshes={self.refreshes}>"

    @property
    def source(self) -> str:
        """Where the credential comes from, for people."""
        return "service account" if self._in_cluster() else f"kubeconfig {self._kubeconfig_path()}"

    @property
    def access(self) -> Access:
        """How to reach the API server right now. The same object until something changes."""
        if self._access is None:
            raise RuntimeError("load() comes first")
        return self._access

    def refused(self) -> None:
        """The API server answered 401 to this credential: get another one soon. Called from the fast path."""
        self._wanted.set()

    async def load(self) -> None:
        """Get the credential, replacing the present one. Raises ConfigurationError or CredentialUnavailable, which change nothing."""
        try:
            async with asyncio.timeout(PLUGIN_TIMEOUT_S):
                loaded = await self._load()
        except TimeoutError as error:
            raise CredentialUnavailable(
                f"{self.source}: the exec plugin took more than {PLUGIN_TIMEOUT_S:g} s"
            ) from error
        except yaml.MarkedYAMLError as error:
            where = f" in line {error.problem_mark.line + 1}" if error.problem_mark is not None else ""
            raise ConfigurationError(f"{self.source}: {error.context or 'YAML'}: {error.problem}{where}") from error
        except (ConfigException, OSError, ValueError, LookupError, TypeError, AttributeError, AssertionError) as error:
            # kubernetes_asyncio asserts and indexes its way through a kubeconfig; what it says names the key.
            what = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ConfigurationError(f"{self.source}: {what}") from error
        self._access = self._made(loaded.configuration)
        self._due_s = _due_s(loaded)
        self.refreshes += 1

    async def keep_fresh(self) -> None:
        """Refresh for ever: when files may have been replaced, before a plugin's token expires, and soon after a 401."""
        while True:
            try:
                async with asyncio.timeout(self._due_s):
                    await self._wanted.wait()
            except TimeoutError:
                pass
            self._wanted.clear()
            before = self._access
            try:
                await self.load()
            except (ConfigurationError, CredentialUnavailable) as error:
                log.warning("credential for the API server could not be refreshed", extra=fields(error=str(error)))
            else:
                if self._access != before:
                    log.info("credential for the API server has changed")
            await asyncio.sleep(MIN_REFRESH_S)

    async def _load(self) -> _Loaded:
        configuration = Configuration()
        if self._in_cluster():
            load_incluster_config(  # type: ignore[no-untyped-call]
                configuration,
                token_filename=str(self._service_account / "token"),
                cert_filename=str(self._service_account / "ca.crt"),
                environ=self._environ,
            )
            return _Loaded(configuration, None, False)
        path = self._kubeconfig_path()
        _check_there(path)
        # A plugin is asked anew each time: kubernetes_asyncio's loader keeps no state for us, when to ask is our matter.
        loader = await load_kube_config(path, self._context, configuration, persist_config=os.access(path, os.W_OK))
        if configuration.proxy:
            raise ConfigurationError(f"{self.source}: proxy-url is not supported: use a context without it")
        expires_at = getattr(loader, "exec_plugin_expiry", None)
        return _Loaded(configuration, expires_at, _has_plugin(loader))

    def _in_cluster(self) -> bool:
        if self._kubeconfig is not None or self._context is not None:
            return False
        return "KUBERNETES_SERVICE_HOST" in self._environ and (self._service_account / "token").is_file()

    def _kubeconfig_path(self) -> str:
        if self._kubeconfig is not None:
            return str(self._kubeconfig)
        return self._environ.get("KUBECONFIG") or os.path.join(self._environ.get("HOME", "~"), ".kube", "config")

    def _made(self, configuration: Configuration) -> Access:
        """The access for this configuration, sharing the present endpoint if nothing about connections has changed."""
        authorization = " ".join(str(configuration.api_key.get("BearerToken", "")).split())
        fingerprint = _fingerprint(configuration)
        present = self._access
        server = configuration.host or ""
        if present is not None and fingerprint == self._fingerprint:
            endpoint = present.endpoint
            made = access(server, authorization, endpoint.tls, configuration.tls_server_name)
            return present if made.credential == present.credential else made._replace(endpoint=endpoint)
        tls = _tls_context(configuration) if server.startswith("https:") else None
        made = access(server, authorization, tls, configuration.tls_server_name)
        self._fingerprint = fingerprint
        return made


def _check_there(path: str) -> None:
    """Raises ConfigurationError if none of the files that a kubeconfig path names is there."""
    if not any(os.path.isfile(os.path.expanduser(one)) for one in path.split(os.pathsep)):
        raise ConfigurationError(
            f"{path}: no such file, and this is no pod with a service account: name a kubeconfig with --kubeconfig"
        )


def _due_s(loaded: _Loaded) -> float:
    """Seconds until the next look: a plugin's expiry less a margin, never more often than it makes sense."""
    if loaded.expires_at is None:
        return (
            _HOUR_S if loaded.plugin else REFRESH_S
        )  # a plugin without expiry is asked again after a 401, as client-go does
    left_s = (loaded.expires_at - datetime.now(UTC)).total_seconds()
    return min(max(left_s - min(MAX_EXPIRY_MARGIN_S, left_s / 5), MIN_REFRESH_S), _HOUR_S)


def _has_plugin(loader: object) -> bool:
    user = getattr(loader, "_user", None)
    return user is not None and "exec" in user


def _fingerprint(configuration: Configuration) -> bytes:
    """Of everything that makes a TLS context and a connection; the files' content, not their names."""
    digest = hashlib.sha256()
    for name in ("host", "tls_server_name", "verify_ssl"):
        digest.update(f"{name}={getattr(configuration, name)}\n".encode())
    for file in (configuration.ssl_ca_cert, configuration.cert_file, configuration.key_file):
        digest.update(hashlib.sha256(Path(file).read_bytes() if file else b"").digest())
    return digest.digest()


def _tls_context(configuration: Configuration) -> ssl.SSLContext:
    """For HTTP/1.1 to this API server. Raises ConfigurationError."""
    try:
        context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
        if configuration.cert_file:
            context.load_cert_chain(configuration.cert_file, configuration.key_file)
    except (ssl.SSLError, OSError) as error:
        raise ConfigurationError(f"the API server's CA or the client certificate cannot be used: {error}") from error
    # Python 3.13 refuses CAs without key identifiers, which many clusters have; Go's verifier, kubectl's, does not mind.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.set_alpn_protocols(["http/1.1"])
    if not configuration.verify_ssl:
        log.warning("insecure-skip-tls-verify: the API server is not authenticated")
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


__all__ = ["Access", "Credentials", "Endpoint"]
