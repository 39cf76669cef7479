"""Reads the text of a configuration file without stalling requests: a large one in a process of its own.

Five thousand entries are a second of work that would hold the interpreter; a thread would stall every request of kas meanwhile. So
would unpickling them in one go (30 ms): they come in pieces, and requests have the interpreter between two of them.
"""

from __future__ import annotations

import gc
import os
import pickle
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from hashlib import sha256
from multiprocessing import get_context
from typing import Any, NamedTuple

from kas.agent_config.entries import AgentConfig, Entry
from kas.agent_config.repositories import RepositoryProblem
from kas.agent_config.schema import read_agent_config
from kas.located_yaml import Mistake, MistakesInFile, Position

LARGE_BYTES = 32 * 1024  # about 200 entries, 30 ms
LIMIT_S = 20.0
MAX_MEMORY_BYTES = 2 << 30
MAX_FAILURES = 3  # then it is the file's fault, and only another file is tried
_REMEMBERED = 64  # files that failed
PIECE = 64  # projects or groups that are unpickled at once: about half a millisecond
PAUSE_S = 0.001

_Told = tuple[str, int, int, str, str]
_Piece = bytes  # an AgentConfig, pickled; the file's are merged


class Parser:
    """Parses in the calling thread, or in its process, one file at a time. ``close`` ends that; several threads may ask at once."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None
        self._lock = threading.Lock()
        self._turn = threading.Lock()  # the wait for another file must not count as this one's time
        self._failures: OrderedDict[bytes, int] = OrderedDict()  # by digest of the text, the oldest first

    def parse(self, text: bytes, source: str, *, allow_system_identities: bool, max_bytes: int) -> AgentConfig:
        """What the text says. Blocks. Raises MistakesInFile; RepositoryProblem where the process failed, which may be nobody's fault."""
        if len(text) < LARGE_BYTES or len(text) > max_bytes:
            return read_agent_config(text, source, allow_system_identities=allow_system_identities, max_bytes=max_bytes)
        with self._turn:
            found = self._asked(text, source, allow_system_identities, max_bytes)
        if found.mistakes:
            raise MistakesInFile([_mistake(*told) for told in found.mistakes], found.in_all)
        return _merged(found.pieces)

    def close(self) -> None:
        """End the process, also in the midst of a file. Idempotent; the next large file starts another."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            for process in list((pool._processes or {}).values()):  # noqa: SLF001 - shutdown alone would wait for it
                process.kill()
            pool.shutdown(wait=True, cancel_futures=True)

    def _asked(self, text: bytes, source: str, *more: Any) -> _Found:
        digest = sha256(text).digest()
        if self._failures.get(digest, 0) >= MAX_FAILURES:
            said = f"reading this file takes longer than {LIMIT_S:g} s or more memory than there is: make it smaller"
            raise MistakesInFile([_mistake(source, 1, 1, "", said)])
        pool = self._process()
        try:
            found = pool.submit(_read, text, source, *more).result(LIMIT_S)
        except (TimeoutError, BrokenProcessPool, MemoryError, CancelledError, RuntimeError) as error:
            if self._pool is pool:  # else it is ``close`` that ended it
                self._failed(digest)
                self.close()
            what = f"took longer than {LIMIT_S:g} s" if isinstance(error, TimeoutError) else "ended before it was done"
            raise RepositoryProblem(f"{source}: reading this file {what}; it is tried again") from None
        self._failures.pop(digest, None)
        return found

    def _failed(self, digest: bytes) -> None:
        self._failures[digest] = self._failures.pop(digest, 0) + 1
        while len(self._failures) > _REMEMBERED:
            self._failures.popitem(last=False)

    def _process(self) -> ProcessPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ProcessPoolExecutor(
                    1, mp_context=get_context("spawn"), initializer=_settle, initargs=(os.getpid(),)
                )
            return self._pool


def _mistake(source: str, line: int, column: int, path: str, message: str) -> Mistake:
    return Mistake(source, Position(line, column), path, message)


def _settle(parent: int) -> None:
    """In the process: be bounded, and never outlive kas."""
    import resource
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(15)  # requests come first, yet a busy machine has a thirtieth of a processor for it
    gc.disable()  # a file is a tree, which needs none, and a fifth of the time went into looking for cycles
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(0)


class _Found(NamedTuple):
    """What the process says of a file: what it holds, or what is wrong with it (MistakesInFile's own pickle would lose where)."""

    pieces: list[_Piece]
    mistakes: list[_Told]  # the first ones
    in_all: int  # mistakes


def _read(text: bytes, source: str, allow_system_identities: bool, max_bytes: int) -> _Found:
    try:
        config = read_agent_config(text, source, allow_system_identities=allow_system_identities, max_bytes=max_bytes)
    except MistakesInFile as error:
        told = [(one.source, *one.position, one.path, one.message) for one in error.mistakes]
        return _Found([], told, error.count)
    return _Found([pickle.dumps(piece) for piece in _pieces(config)], [], 0)


def _pieces(config: AgentConfig) -> Iterator[AgentConfig]:
    yield AgentConfig(instance=config.instance, notices=config.notices)
    for projects in _slices(config.projects):
        yield AgentConfig(projects=projects)
    for groups in _slices(config.groups):
        yield AgentConfig(groups=groups)


def _slices(named: Mapping[str, tuple[Entry, ...]]) -> Iterator[dict[str, tuple[Entry, ...]]]:
    items = list(named.items())
    for begin in range(0, len(items), PIECE):
        yield dict(items[begin : begin + PIECE])


def _merged(pieces: list[_Piece]) -> AgentConfig:
    projects: dict[str, tuple[Entry, ...]] = {}
    groups: dict[str, tuple[Entry, ...]] = {}
    first: AgentConfig = pickle.loads(pieces[0])  # noqa: S301 - our own process made it
    for piece in pieces[1:]:
        time.sleep(PAUSE_S)
        more: AgentConfig = pickle.loads(piece)  # noqa: S301
        projects.update(more.projects)
        groups.update(more.groups)
    return AgentConfig(projects, groups, first.instance, first.notices)
