"""An issuer of ID tokens that a test runs beside real processes: the fake forge, on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.fakes.forge import Forge, SigningKey

KAS = "https://kas.example.com"  # the audience


class IdTokens:
    """Signs ID tokens of GitHub's form for jobs of ``acme/web``."""

    def __init__(self, forge: Forge, key: SigningKey) -> None:
        self.forge = forge
        self._key = key

    @property
    def config(self) -> dict[str, Any]:
        """Its entry in kas.yaml."""
        return {
            "name": "github",
            "type": "github",
            "issuer": self.forge.url,
            "audience": KAS,
            "owners": ["acme"],
            "ca_file": str(self.forge.authority.ca),
        }

    def token(self, **changed: Any) -> str:
        """A fresh one, in force for five minutes."""
        now = int(time.time())
        claims = {
            "iss": self.forge.url,
            "aud": KAS,
            "iat": now,
            "exp": now + 300,
            "repository": "acme/web",
            "repository_id": "17",
            "repository_owner_id": "5",
            "ref": "refs/heads/main",
            "event_name": "push",
            "run_id": "900",
            "run_attempt": "1",
            "actor": "ana",
            "actor_id": "3",
            **changed,
        }
        return self._key.sign(claims).decode()


@contextmanager
def id_tokens(folder: Path) -> Iterator[IdTokens]:
    """One that serves while the block runs."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    forge, key = Forge(folder), SigningKey()
    try:
        asyncio.run_coroutine_threadsafe(forge.__aenter__(), loop).result(10)
        forge.publish(key)
        yield IdTokens(forge, key)
    finally:
        asyncio.run_coroutine_threadsafe(forge.__aexit__(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
