"""The composition root: builds the server, starts it in order, stops it in reverse. Reads top to bottom."""

from __future__ import annotations

import asyncio
import logging
import resource
import secrets
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager, suppress
from importlib.metadata import version as installed_version
from pathlib import Path

from kas.access.directory import AgentDirectory
from kas.access.gate import Gate
from kas.access.issuers import Issuer
from kas.access.issuers.building import build_issuers, build_job_watches
from kas.access.issuers.own_tokens import OwnTokens
from kas.agent_api.door import AgentApiDoor
from kas.agent_config.repositories.configured import ConfiguredRepositories
from kas.agent_config.watcher import AgentConfigs
from kas.audit.keeper import AuditKeeper
from kas.certificates import Certificates
from kas.changes import ChangeFollower
from kas.clock import system_clock
from kas.config import Config, doubts, load_config, needs_restart
from kas.errors import ConfigurationError
from kas.expiries import Expiries
from kas.kubernetes_api.door import KubernetesApiDoor
from kas.kubernetes_api.settings import DoorSettings
from kas.limits.limits import Limits
from kas.limits.settings import limit_settings
from kas.links.held import HeldLink
from kas.links.registry import Links
from kas.management_api.door import open_management_api
from kas.management_api.job_tokens import JobTokens, Lives
from kas.management_api.webhooks import Webhooks
from kas.metrics import Metrics
from kas.observability import open_observability
from kas.operator_api.door import Explainer, open_operator_api
from kas.outbound import Outbound
from kas.preflight import listening_socket, prepare_state_dir, read_secret
from kas.presence.memory import MemoryPresence
from kas.routing.router import Router
from kas.store import Store, open_store
from kastunnel.toolkit import logs, memory
from kastunnel.toolkit.logs import fields
from kastunnel.toolkit.tasks import background

log = logging.getLogger(__name__)

CERTIFICATES_S = 3600.0  # how often own certificates are looked at for renewal
FIRST_LOOK_S = 5.0  # for configuration repositories on other machines, before jobs are let in
MAX_FILES = 1 << 20  # a watch is a connection, so a file


async def serve(config: Config, config_path: Path) -> None:
    """Run until SIGTERM or SIGINT. Raises KasError for what an operator can cure."""
    logs.set_up(config.logging.level, config.logging.format)
    for doubt in doubts(config):
        log.warning("configuration looks unintended", extra=fields(notice=doubt))
    prepare_state_dir(config.state_dir)
    _allow_many_files()
    password = None
    if config.database.password_file is not None:
        password = read_secret(config.database.password_file, "database.password_file")
    async with open_store(config.database_url, password=password) as store:
        await Server(config, config_path, store).run()


class Server:
    """All parts of one kas, wired. ``run`` is its life."""

    def __init__(self, config: Config, config_path: Path, store: Store) -> None:
        self._config = config
        self._config_path = config_path
        self._store = store
        self.version = installed_version("kubernetes-agent-server")
        self.metrics = Metrics(version=self.version, process=True)
        self.certificates = Certificates(config, system_clock)
        self.directory = AgentDirectory(store.agents)
        self.outbound = Outbound(self.version)
        self.repositories = self._repositories(config)
        self.configs = AgentConfigs(
            self.repositories,
            lambda: self.directory,
            self.metrics.configs,
            poll_s=config.poll_interval_s,
            allow_system_identities=config.access.allow_system_identities,
        )
        self.gate = Gate(
            self._issuers(config),
            self.directory,
            self.configs,
            self.metrics.gate,
            positive_s=config.access.positive_cache_s,
            negative_s=config.access.negative_cache_s,
        )
        self.presence = MemoryPresence(time.monotonic)
        self.links = Links(
            f"kas-{secrets.token_hex(4)}",
            self.presence,
            self.metrics.links,
            max_links=config.agent_api.max_links,
            detach_s=config.link.detach_s,
        )
        self.router = Router(self.links, self.presence, hold_s=config.link.hold_s)
        self.expiries = Expiries(store.agent_tokens, self._token_expired, system_clock)
        self.limits = Limits(limit_settings(config.fair_use), self.metrics.limits, time.monotonic)
        self.job_tokens = JobTokens(self.gate, store.job_tokens, store.registrations, self._lives, self.limits)
        self.audit_keeper = AuditKeeper(config, store, self.metrics.audit, self.version)
        self.audit = self.audit_keeper.log
        self.links.on_change = self._record_link
        self.changes = ChangeFollower(
            store, self.directory, self.gate, self.configs, self.links, self.audit_keeper.record
        )
        self.agent_api = AgentApiDoor(store.agent_tokens, self.links)
        self.kubernetes_api = KubernetesApiDoor(
            self.gate, self.router, _door_settings(config), self.metrics, limits=self.limits, audit=self.audit
        )
        self._stopping = asyncio.Event()
        self._started = False
        self.configs.listen(self.gate.forget_agent)
        self.configs.listen(self._record_configuration)
        self._observe()

    async def run(self) -> None:
        """Start in order; stop in reverse when told to."""
        config = self._config
        with _signals(self._stopping, self._reload):
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(self.audit_keeper.keep())
                await stack.enter_async_context(self.outbound)
                await stack.enter_async_context(self._open_observability())
                await self.audit_keeper.catch_up(await self.changes.begin())
                await self.configs.refresh_local()
                stack.callback(lambda: self.repositories.close())
                await stack.enter_async_context(
                    background(
                        changes=self.changes.run,
                        configs=self.configs.run,
                        expiries=self.expiries.run,
                        certificates=self._renew_certificates,
                    )
                )
                key_pair = self.certificates["agent_api"]
                await self.agent_api.start(str(config.agent_api.listen), lambda: key_pair.key_pair)
                stack.push_async_callback(self.agent_api.stop)
                stack.push_async_callback(self.links.close)
                await stack.enter_async_context(self._open_management())
                await stack.enter_async_context(self._open_operator())
                await self._look_elsewhere()
                await self._expect_agents()
                await stack.enter_async_context(self._open_kubernetes())
                memory.settle()
                self._started = True
                self._announce()
                await self._stopping.wait()
                await self._drain()
        log.info("kas has stopped")

    def _repositories(self, config: Config) -> ConfiguredRepositories:
        found = ConfiguredRepositories(
            config.configuration_repositories, self.outbound, config.state_dir / "repositories"
        )
        found.use(asyncio.get_running_loop())
        return found

    def _issuers(self, config: Config) -> list[Issuer]:
        watches = build_job_watches(config.issuers, self.outbound)
        own = OwnTokens(self._store.job_tokens, config.issuers, watches)
        return [own, *build_issuers(config.issuers, self.outbound, system_clock)]

    async def _expect_agents(self) -> None:
        """Agents that have been linked before dial again within a second or two: requests wait for them, as after a cut."""
        for token in await self._store.agent_tokens.active():
            if token.last_used_at is not None:
                self.presence.expect(token.agent_id)

    async def _look_elsewhere(self) -> None:
        """No job is refused for a configuration that comes a moment later; nor does a machine that is down hold the door shut."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_LOOK_S):
                await self.configs.looked()

    def _open_observability(self) -> AbstractAsyncContextManager[None]:
        door = self._config.observability
        tls = self.certificates["observability"].ssl_context() if door.tls is not None else None
        return open_observability(
            listening_socket("observability", door.listen),
            self.metrics.registry,
            self._why_not_ready,
            self.metrics.doors,
            tls=tls,
        )

    def _open_management(self) -> AbstractAsyncContextManager[None]:
        return open_management_api(
            listening_socket("management_api", self._config.management_api.listen, reuse_port=True),
            self.certificates["management_api"].ssl_context(),
            self.gate,
            self.job_tokens,
            self.metrics.doors,
            webhooks=Webhooks(lambda *push: self.repositories.pushed(*push), self.configs.wake_project),
            server=lambda: str(self._config.kubernetes_api.external_url),
            ca=lambda: self.certificates.client_ca("kubernetes_api"),
        )

    def _lives(self) -> Lives:
        of = self._config.job_tokens
        return Lives(of.exchanged_ttl_s, of.max_exchanged_ttl_s, self._config.access.max_job_token_ttl_s)

    def _open_operator(self) -> AbstractAsyncContextManager[None]:
        explainer = Explainer(
            self.gate,
            lambda: self.directory,
            self.configs,
            self.router,
            lambda: {issuer.name: issuer for issuer in self._config.issuers},
            system_clock,
        )
        return open_operator_api(self._config.state_dir, explainer, self.metrics.doors)

    @asynccontextmanager
    async def _open_kubernetes(self) -> AsyncIterator[None]:
        listen = self._config.kubernetes_api.listen
        listening_socket("kubernetes_api", listen).close()  # for its words about what is wrong with the address
        tls = self.certificates["kubernetes_api"].ssl_context()
        async with self.kubernetes_api:
            await self.kubernetes_api.start(listen.host, listen.port, tls, reuse_port=True)
            yield

    def _record_configuration(self, agent_id: int) -> None:
        status = self.configs.status(agent_id)
        if self.audit is not None and status is not None:
            self.audit.event(
                "configuration_closed" if status.config is None else "configuration_in_force",
                agent_id=agent_id,
                repository=status.repository,
                commit=status.commit,
                entries=0 if status.config is None else status.config.entries,
            )

    def _record_link(self, held: HeldLink) -> None:
        if self.audit is not None:
            self.audit.event(
                "agent_unlinked" if held.over else "agent_linked",
                agent_id=held.agent_id,
                instance=held.instance,
                cluster=held.cluster or None,
                link=str(held.number),
                token_id=held.token_id,
                peer=held.peer,
                reason=held.end_reason or None,
            )

    def _announce(self) -> None:
        config = self._config
        for door in ("agent_api", "observability", "management_api", "kubernetes_api"):
            log.info("door is open", extra=fields(door=door, address=str(getattr(config, door).listen)))
        for doubt in self.certificates.doubts():
            log.warning("certificate will be refused by clients", extra=fields(notice=doubt))
        log.info("kas has started", extra=fields(version=self.version))

    def _why_not_ready(self) -> str:
        if self.links.draining or self._stopping.is_set():
            return "draining"
        return "" if self._started else "starting"

    async def _drain(self) -> None:
        """Readiness is red; accept a little longer, since balancers need seconds to notice; then let what is open end."""
        link = self._config.link
        log.info("draining", extra=fields(links=len(self.links), delay_s=link.listen_grace_s))
        if len(self.links) or self.kubernetes_api.open_requests:
            await asyncio.sleep(link.listen_grace_s)
        self.kubernetes_api.drain()
        await self.kubernetes_api.stop_listening()
        self.links.drain(link.drain_timeout_s)
        if not await self.kubernetes_api.drained(link.drain_timeout_s):
            log.warning("requests were still open at the end of the drain", extra=fields(links=len(self.links)))

    def _token_expired(self, token_id: int) -> None:
        self.links.revoke_token(token_id, "the agent's token has expired")

    async def _renew_certificates(self) -> None:
        while True:
            for door in ("agent_api", "management_api", "kubernetes_api"):
                not_after = self.certificates[door].not_after
                self.metrics.certificate_end.labels(door).set(not_after.timestamp())
            await asyncio.sleep(CERTIFICATES_S)
            try:
                for door in self.certificates.reload():
                    log.info("certificate renewed", extra=fields(door=door))
            except ConfigurationError as error:
                log.error("certificates cannot be renewed: the old ones stay in force", extra=fields(error=str(error)))

    def _reload(self) -> None:
        """SIGHUP: read kas.yaml and the certificates again. Nothing is cut; a broken file keeps the old one in force."""
        try:
            config = load_config(self._config_path)
            issuers = self._issuers(config)  # before anything is in force
            renewed = self.certificates.reload(config)
            repositories = self._repositories(config)
        except ConfigurationError as error:
            for line in str(error).splitlines():
                log.error("not reloaded: the old configuration stays in force", extra=fields(error=line))
            return
        for option in needs_restart(self._config, config):
            log.warning("an option needs a restart to change", extra=fields(notice=option))
        before_config, self._config = self._config, config
        logs.set_up(config.logging.level, config.logging.format)
        self.gate.reconfigure(
            issuers,
            positive_s=config.access.positive_cache_s,
            negative_s=config.access.negative_cache_s,
            forgets=config.issuers != before_config.issuers,
        )
        before, self.repositories = self.repositories, repositories
        self.configs.reconfigure(
            repositories,
            poll_s=config.poll_interval_s,
            allow_system_identities=config.access.allow_system_identities,
        )
        before.close()
        self.kubernetes_api.settings = _door_settings(config)
        self.limits.reconfigure(limit_settings(config.fair_use))
        if self.audit is not None:
            self.audit.event("configuration_reloaded")
        log.info("configuration reloaded", extra=fields(names=" ".join(renewed)))

    def _observe(self) -> None:
        metrics, links = self.metrics, self.links
        metrics.agents.set_function(lambda: len(self.directory))
        metrics.linked_agents.set_function(lambda: len(self.presence))
        metrics.open_links.set_function(lambda: len(links))
        metrics.detached_links.set_function(lambda: sum(not held.attached for held in links))
        metrics.open_requests.set_function(lambda: self.kubernetes_api.open_requests)
        metrics.credit_bytes.set_function(lambda: links.credit_bytes)
        metrics.broken_configs.set_function(lambda: self.configs.broken)
        metrics.expiring_agent_tokens.set_function(lambda: self.expiries.soon)
        metrics.limits_waiting.set_function(lambda: self.limits.waiting)
        if (audit := self.audit) is not None:
            metrics.audit_waiting.set_function(lambda: audit.waiting)
            metrics.audit_failing.set_function(lambda: int(audit.is_failing))
        metrics.draining.set_function(lambda: int(links.draining))


def _door_settings(config: Config) -> DoorSettings:
    return DoorSettings.from_config(config.kubernetes_api, log_all_requests=config.logging.requests == "all")


def _allow_many_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextmanager
def _signals(stopping: asyncio.Event, reload: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and SIGINT stop, a second one at once; SIGHUP reloads."""
    loop = asyncio.get_running_loop()

    def stop(number: signal.Signals) -> None:
        log.info("told to stop", extra=fields(signal=number.name))
        stopping.set()
        loop.remove_signal_handler(number)  # the next one has its default effect

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    loop.add_signal_handler(signal.SIGHUP, reload)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)
