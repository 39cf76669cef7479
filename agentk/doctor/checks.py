"""The table of checks of `agentk doctor`, and those about agentk itself and the way to kas."""

from __future__ import annotations

import socket
import stat
from collections.abc import Callable, Mapping
from datetime import datetime

from agentk.config import Settings
from agentk.doctor.cluster import Cluster
from agentk.errors import ConfigurationError
from agentk.kube_api.credentials import Credentials
from kastunnel.doctor import programs, tunnel
from kastunnel.doctor.certificates import trusting
from kastunnel.doctor.clocks import skew
from kastunnel.doctor.findings import Check, Finding, broken, ok, skipped, warning
from kastunnel.doctor.road import Road, Words, utc_now
from kastunnel.toolkit.proxies import PROXIES

TOKEN_PREFIX = b"kasagent-"
_KAS = Words("--kas-address", "--ca-cert-file", "kas's agent_api")


class Doctor:
    """One examination of one agentk. It changes nothing, here or there, but what kastunnel/doctor/tunnel.py says."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        environ: Mapping[str, str],
        access_as: str = "",
        namespace: str = "",
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        """``settings`` raises ConfigurationError. ``access_as``: what the agent's configuration says, "" where that is not known.

        ``namespace``: where jobs exec; "" for everywhere.
        """
        self._environ = environ
        self._namespace = namespace
        self._access_as = access_as
        self._now = now
        self._told = tunnel.Told(None)
        try:
            self._settings: Settings | None = settings()
            self._mistake = ""
        except ConfigurationError as error:
            self._settings, self._mistake = None, str(error)

    def checks(self) -> tuple[Check, ...]:
        """In the order of the way: agentk itself, kas, the API server."""
        begin = (Check("configuration", self._configuration), Check("programs", self._programs))
        if self._settings is None:
            return begin
        kas, settings = self._settings.kas, self._settings
        road = Road(
            "kas",
            *kas.address,
            _KAS,
            trust=lambda: trusting(settings.kas_ca(), "h2") if kas.tls else None,
            now=self._now,
            proxy=settings.proxy,
        )
        hops = road.checks("kas: CA", http2=kas.tls)
        cluster = Cluster(
            Credentials(settings.kubeconfig, settings.context), self._access_as, self._namespace, self._now
        )
        return (
            *begin,
            Check("token", self._token),
            Check("kas: CA", self._ca),
            Check("kas: proxy", self._proxy),
            *hops,
            Check("kas: gRPC", self._grpc, (hops[-1].name, "token")),
            Check("kas: token", self._verdict, ("kas: gRPC",)),
            Check("kas: clock", self._clock, ("kas: gRPC",)),
            *cluster.checks(),
        )

    @property
    def _set(self) -> Settings:
        if self._settings is None:
            raise AssertionError("only behind a configuration that can be used")
        return self._settings

    async def _configuration(self) -> Finding:
        if self._settings is None:
            return broken(self._mistake, "correct it; everything else is looked at then")
        return ok(f"kas at {self._settings.kas}, this instance is called {self._settings.instance}")

    async def _programs(self) -> Finding:
        return await programs.parts("grpcio", "kubernetes_asyncio")

    async def _token(self) -> Finding:
        """That it is there, well-formed, and nobody else's to read. Whether it is good, only kas can say."""
        try:
            token = self._set.agent_token()
        except ConfigurationError as error:
            return broken(str(error), "`kas agent token create NAME` makes a new one")
        if not token.startswith(TOKEN_PREFIX):
            return broken(
                f"an agent token begins with {TOKEN_PREFIX.decode()}, this one does not",
                "put in what `kas agent register` or `kas agent token create` printed; tokens of jobs and projects are others",
            )
        path = self._set.token_file
        if path is None:
            return ok("from AGENTK_TOKEN, well-formed")
        if path.stat().st_mode & stat.S_IROTH:
            return warning(
                f"every user of this machine may read {path}", f"chmod o-r {path}; in a pod defaultMode: 0440"
            )
        return ok(f"from {path}, well-formed")

    async def _ca(self) -> Finding:
        try:
            pem = self._set.kas_ca()
        except ConfigurationError as error:
            return broken(
                str(error), "`kas agent manifest` prints the right one, and on kas's machine it is state_dir/pki/ca.crt"
            )
        if pem is None:
            return ok("none given: what this machine trusts is trusted")
        return ok(f"trusted is what {self._set.ca_cert_file} holds")

    async def _proxy(self) -> Finding:
        if self._set.proxy is not None:
            login = ", with a login" if self._set.proxy.login else ""
            return ok(f"kas is dialled through {self._set.proxy}{login}; the API server is not")
        if name := next((name for name in PROXIES if self._environ.get(name)), None):
            return skipped(f"{name} is set, but not for this host: NO_PROXY, or it is this machine")
        return skipped("none: HTTPS_PROXY is not set")

    async def _grpc(self) -> Finding:
        settings = self._set
        self._told = await tunnel.ask(
            settings.kas.target,
            tls=settings.kas.tls,
            ca=settings.kas_ca(),
            token=settings.agent_token().decode(),
            proxy=settings.proxy,
            instance=f"doctor/{socket.gethostname()}"[:128],
        )
        return tunnel.reachability(self._told)

    async def _verdict(self) -> Finding:
        return tunnel.verdict(self._told)

    async def _clock(self) -> Finding:
        return skew("kas", self._told.date, self._now())
