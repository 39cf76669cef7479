"""The log of one kas from its start to its end: made as kas.yaml says, its heads signed into the database, acts caught up with."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kas.audit.acts import Acts
from kas.audit.chain import Head, sign
from kas.audit.keys import instance_of, load_key
from kas.audit.writer import AuditLog, AuditSettings
from kas.clock import system_clock
from kas.config import Config
from kas.errors import ConfigurationError, StoreUnavailable
from kas.metrics import AuditMetrics
from kas.store import Change, Store
from kastunnel.toolkit.logs import fields
from kastunnel.toolkit.tasks import background

log = logging.getLogger(__name__)

HEADS_S = 60.0  # the longest time in which a cut-off end of the log would not be noticed


class AuditKeeper:
    """``log`` is None where the operator wants none. Raises ConfigurationError for a key or folder that cannot be used."""

    def __init__(self, config: Config, store: Store, metrics: AuditMetrics, version: str) -> None:
        self._config = config
        self._store = store
        self._version = version
        self.log = _made(config, metrics) if config.audit.enabled else None
        self._acts = None if self.log is None else Acts(self.log, config.state_dir)

    @asynccontextmanager
    async def keep(self) -> AsyncIterator[None]:
        """Records from here on; the head of the chain is signed into the database from time to time, and at the end."""
        if self.log is None:
            yield
            return
        try:
            self.log.start(asyncio.get_running_loop().call_later)
        except OSError as error:
            raise ConfigurationError(
                f"audit.folder: {error.filename or self._config.audit_folder} cannot be used: {error.strerror}"
            ) from error
        self.log.event("kas_started", version=self._version)
        try:
            async with background(heads=self._sign_heads):
                yield
        finally:
            self.log.event("kas_stopped")
            await asyncio.to_thread(self.log.stop)
            await self._sign(self.log.written)

    async def catch_up(self, newest: int) -> None:
        """Record the acts up to this change that were done while kas was down. Raises StoreUnavailable."""
        if self._acts is None:
            return
        try:
            await self._acts.begin(newest, self._store.changes.since)
        except OSError as error:
            raise ConfigurationError(f"state_dir: {self._config.state_dir} cannot be used: {error.strerror}") from error

    def record(self, change: Change) -> None:
        """An act, now."""
        if self._acts is None:
            return
        try:
            self._acts.record(change)
        except OSError as error:
            log.error("state directory cannot be written: an act may be recorded twice", extra=fields(error=str(error)))

    async def _sign_heads(self) -> None:
        if self.log is None:
            return
        signed, at = self.log.written, time.monotonic()
        while True:
            await asyncio.sleep(1)
            head, now = self.log.written, time.monotonic()
            is_due = head.seq - signed.seq >= self._config.audit.head_records or now - at >= HEADS_S
            if head != signed and is_due and await self._sign(head):
                signed, at = head, now

    async def _sign(self, head: Head) -> bool:
        if self.log is None:
            return False
        try:
            await self._store.audit_heads.add(self.log.instance, *head, sign(self.log.key, self.log.instance, head))
        except StoreUnavailable as error:
            log.error("head of the audit log was not signed", extra=fields(error=str(error)))
            return False
        return True


def _made(config: Config, metrics: AuditMetrics) -> AuditLog:
    audit, folder = config.audit, config.audit_folder
    key = load_key(config.audit_key_file, folder, may_create=audit.key_file is None)
    settings = AuditSettings(
        folder,
        audit.stdout,
        audit.max_file_bytes,
        audit.max_file_age_s,
        audit.max_files,
        audit.fsync,
        audit.on_loss == "refuse",
        audit.max_waiting,
    )
    return AuditLog(key, instance_of(key, folder, config.state_dir), settings, metrics, system_clock)
