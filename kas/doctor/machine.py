"""What kas keeps on its machine: state, database, certificates, audit log; and whether it runs."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from kas.audit.keys import load_key
from kas.certificates import covers
from kas.config import Config
from kas.doctor.files import Shown, shown_by
from kas.errors import KasError
from kas.operator_api.door import SOCKET
from kas.pki import LEAF_LIFE, LEAF_RENEWED_AT
from kas.preflight import read_secret
from kas.store import AgentRecord, open_store, schema_version
from kastunnel.doctor.findings import Check, Finding, broken, ok, skipped, warning
from kastunnel.doctor.road import utc_now

SOON = timedelta(days=14)
LATE = LEAF_LIFE * (1 - LEAF_RENEWED_AT) - timedelta(days=2)  # an own certificate with less than this was not renewed
FEW_BYTES = 512 * 1024 * 1024


class Machine:
    """``agents`` are those registered, once the database has been looked at."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.agents: Sequence[AgentRecord] = ()

    def checks(self) -> Iterator[Check]:
        """In the order in which kas needs them."""
        yield Check("state directory", self.state_directory)
        yield Check("database", self.database, () if self._config.database.url else ("state directory",))
        for door in ("agent_api", "management_api", "kubernetes_api", "observability"):
            if door != "observability" or self._config.observability.tls is not None:
                yield Check(f"{door}: certificate", partial(self.certificate, door))
        yield Check("audit log", self.audit)

    async def state_directory(self) -> Finding:
        """Whose it is, who may look into it, and whether there is room."""
        folder = self._config.state_dir
        try:
            found = folder.stat()
        except FileNotFoundError:
            return warning(
                f"there is no {folder} yet", "the first `kas serve` makes it; is this the kas.yaml that kas runs with?"
            )
        except OSError as error:
            return broken(
                f"{folder} cannot be looked at: {error.strerror}", f"run this as the user of kas, not as {_me()}"
            )
        owner = _user(found.st_uid)
        if os.geteuid() not in (0, found.st_uid):
            return broken(
                f"{folder} belongs to {owner}, this is {_me()}",
                f"sudo -u {owner} kas doctor …; kas itself must run as {owner}",
            )
        if found.st_mode & 0o077:
            return warning(
                f"others than {owner} may look into {folder} (mode {found.st_mode & 0o777:o})", f"chmod 700 {folder}"
            )
        if not os.access(folder, os.W_OK | os.X_OK):
            return broken(f"{folder} cannot be written", "is its disk mounted read-only?")
        return _room(folder, f"{folder} belongs to {owner} alone")

    async def database(self) -> Finding:
        """Opened as kas does; tables are left as they are."""
        config = self._config
        path = config.state_dir / "kas.db"
        if config.database.url is None and not path.exists():
            return warning(f"there is no {path} yet", "the first `kas serve` or `kas agent register` makes it")
        try:
            password = None
            if config.database.password_file is not None:
                password = read_secret(config.database.password_file, "database.password_file")
            found, known = await schema_version(config.database_url, password=password)
            if found != known:
                return warning(
                    f"its tables are of version {found or 'none'}, this kas makes {known}",
                    "back it up; the next start of kas brings it up",
                )
            async with open_store(config.database_url, password=password) as store:
                self.agents = await store.agents.list()
        except KasError as error:
            return broken(str(error), "docs/operating.md, Back up and restore; database in docs/configuration.md")
        return ok(f"opens, tables of version {found}, {len(self.agents)} agents")

    async def certificate(self, door: str) -> Finding:
        """On disk; what the door really shows is another check."""
        shown = shown_by(self._config, door)
        if isinstance(shown, str):
            return broken(shown, f"correct {door}.tls, and run this as the user of kas")
        if shown is None:
            return skipped("the first start makes it, by kas's own CA")
        return _dates(door, shown, utc_now()) or self._names(door, shown)

    def _names(self, door: str, shown: Shown) -> Finding:
        url = getattr(getattr(self._config, door), "external_url", None)
        names = ", ".join(shown.about.names) or "no name"
        if url is not None and not covers(shown.about.names, url.host):
            return warning(
                f"it is for {names}, not for {url.host} of {door}.external_url",
                "right only behind a proxy that shows a certificate of its own; else clients refuse it: have it made for that name",
            )
        return ok(f"{shown.source}, for {names}, until {shown.about.not_after:%Y-%m-%d}")

    async def audit(self) -> Finding:
        """Where records go, and the key of their chain."""
        config = self._config
        if not config.audit.enabled:
            return warning("nothing is recorded", "audit.enabled: true, if requests are to leave a trace")
        folder, key = config.audit_folder, config.audit_key_file
        if not folder.exists():
            return warning(f"there is no {folder} yet", "the first start of kas makes it")
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            return broken(f"{_me()} may not write {folder}", "it must belong to the user that runs kas: audit.folder")
        if config.audit.key_file is None and not key.exists():
            return warning(
                f"there is no {key} yet", "the next start of kas makes one, and begins a new chain; was it removed?"
            )
        try:
            load_key(key, folder, may_create=False)
        except KasError as error:
            return broken(str(error), "audit.key_file in docs/configuration.md")
        return _room(folder, f"{folder} can be written, its key is {key}")

    async def operator_socket(self) -> Finding:
        """Whether a kas with this state directory runs."""
        path = self._config.state_dir / SOCKET
        asking = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            folder = os.open(self._config.state_dir, os.O_RDONLY | os.O_DIRECTORY)
            try:
                asking.connect(
                    f"/proc/self/fd/{folder}/{SOCKET}"
                )  # addresses of sockets end at 107 bytes, paths do not
            finally:
                os.close(folder)
        except FileNotFoundError:
            return broken(
                f"no kas runs with this state directory: there is no {path}",
                "start it: systemctl start kas; its log says what stops it",
            )
        except ConnectionRefusedError:
            return broken(
                f"nobody listens on {path}: kas was killed",
                "start it again; its log, or the kernel's, says why it ended",
            )
        except OSError as error:
            return warning(f"{path} cannot be asked: {error.strerror}", "run this as the user of kas")
        finally:
            asking.close()
        return ok(f"kas runs, and answers on {path}")


def _dates(door: str, shown: Shown, now: datetime) -> Finding | None:
    end, left = shown.about.not_after, shown.about.not_after - now
    if end <= now:
        return broken(f"{shown.source} expired on {end:%Y-%m-%d}", "renew it, then systemctl reload kas")
    if shown.about.not_before > now:
        return broken(
            f"{shown.source} is valid from {shown.about.not_before:%Y-%m-%d %H:%M} UTC on",
            "is this machine's clock right?",
        )
    if shown.is_own and left < LATE:
        return warning(
            f"{shown.source} ends on {end:%Y-%m-%d} and was not renewed in time",
            "kas renews it while it runs: look at its log",
        )
    if not shown.is_own and left < SOON:
        return warning(
            f"{shown.source} ends on {end:%Y-%m-%d}", f"renew {door}.tls.certificate_file, then systemctl reload kas"
        )
    return None


def _room(folder: Path, said: str) -> Finding:
    free = shutil.disk_usage(folder).free
    if free < FEW_BYTES:
        return warning(
            f"{folder} has only {free // 2**20} MiB left",
            "free some on its disk: without room kas can neither register nor record",
        )
    return ok(said)


def _me() -> str:
    return _user(os.geteuid())


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
