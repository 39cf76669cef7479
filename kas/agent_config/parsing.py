"""Reads the text of a configuration file without stalling requests: a large one in a process of its own.

Five thousand entries are a second of work that would hold the interpreter; a thread would stall every request of kas meanwhile.
"""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing import get_context

from kas.agent_config.entries import AgentConfig
from kas.agent_config.schema import read_agent_config
from kas.located_yaml import Mistake, MistakesInFile, Position

LARGE_BYTES = 32 * 1024  # about 200 entries, 30 ms
LIMIT_S = 20.0
MAX_MEMORY_BYTES = 2 << 30


_Told = tuple[str, int, int, str, str]


class Parser:
    """Parses in the calling thread, or in its process. ``close`` ends that; several threads may ask at once."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None
        self._lock = threading.Lock()

    def parse(self, text: bytes, source: str, *, allow_system_identities: bool, max_bytes: int) -> AgentConfig:
        """What the text says. Blocks. Raises MistakesInFile."""
        if len(text) < LARGE_BYTES or len(text) > max_bytes:
            return read_agent_config(text, source, allow_system_identities=allow_system_identities, max_bytes=max_bytes)
        try:
            found = self._process().submit(_read, text, source, allow_system_identities, max_bytes).result(LIMIT_S)
        except TimeoutError:
            self.close()
            raise _mistake(source, f"reading this file takes longer than {LIMIT_S:g} s: make it smaller") from None
        except BrokenProcessPool:
            self.close()
            raise _mistake(source, "reading this file needs more memory than there is: make it smaller") from None
        if isinstance(found, AgentConfig):
            return found
        raise MistakesInFile(
            [Mistake(where, Position(line, column), path, said) for where, line, column, path, said in found]
        )

    def close(self) -> None:
        """End the process, also in the midst of a file. Idempotent; the next large file starts another."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            for process in list((pool._processes or {}).values()):  # noqa: SLF001 - shutdown alone would wait for it
                process.kill()
            pool.shutdown(wait=True, cancel_futures=True)

    def _process(self) -> ProcessPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ProcessPoolExecutor(
                    1, mp_context=get_context("spawn"), initializer=_settle, initargs=(os.getpid(),)
                )
            return self._pool


def _mistake(source: str, message: str) -> MistakesInFile:
    return MistakesInFile([Mistake(source, Position(1, 1), "", message)])


def _settle(parent: int) -> None:
    """In the process: be bounded, and never outlive kas."""
    import resource
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(10)  # requests come first
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(0)


def _read(text: bytes, source: str, allow_system_identities: bool, max_bytes: int) -> AgentConfig | list[_Told]:
    try:
        return read_agent_config(text, source, allow_system_identities=allow_system_identities, max_bytes=max_bytes)
    except MistakesInFile as error:  # its own pickle would lose where the mistakes are
        return [(one.source, *one.position, one.path, one.message) for one in error.mistakes]
