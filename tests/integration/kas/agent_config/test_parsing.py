"""Large files are read in a process of their own: requests go on, and no file can take kas with it."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import time
from pathlib import Path
from threading import Thread, Timer
from typing import Any

import pytest

from kas.agent_config import parsing
from kas.agent_config.parsing import LARGE_BYTES, Parser
from kas.agent_config.repositories import RepositoryProblem
from kas.located_yaml import MistakesInFile

LIMIT = 1024 * 1024


def entries(count: int, more: str = "") -> bytes:
    lines = (
        f"    - id: group{n % 50}/project{n}\n      default_namespace: ns{n}\n      environments: [production]\n"
        for n in range(count)
    )
    return ("ci_access:\n  projects:\n" + "".join(lines) + more).encode()


@pytest.fixture
def parser():
    made = Parser()
    yield made
    made.close()


def read(parser: Parser, text: bytes):
    return parser.parse(text, "config.yaml", allow_system_identities=False, max_bytes=LIMIT)


def test_a_large_file_comes_out_as_a_small_one_would(parser):
    text = entries(1000)
    assert len(text) > LARGE_BYTES
    found = read(parser, text)
    assert found.entries == 1000
    assert found.projects["group7/project7"][0].where == "ci_access.projects[7], line 24"
    assert read(parser, entries(3)).entries == 3


def test_mistakes_of_a_large_file_keep_their_places(parser):
    with pytest.raises(MistakesInFile) as caught:
        read(parser, entries(1000, "    - ib: a/b\n"))
    assert str(caught.value.mistakes[0]).startswith("config.yaml:3003:7: ci_access.projects[1000]")


@pytest.mark.covers("C-02")
def test_five_thousand_entries_are_taken_and_a_hundred_thousand_are_refused(parser):
    assert read(parser, entries(5000)).entries == 5000
    with pytest.raises(MistakesInFile, match="larger than 1048576 bytes"):
        read(parser, entries(100_000))


def of_the_reader(parser: Parser) -> float:
    """Seconds of a processor that its process has used."""
    assert parser._pool is not None
    (pid,) = parser._pool._processes
    used = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, used)) / os.sysconf("SC_CLK_TCK")


async def test_requests_go_on_while_a_large_file_is_read(parser):
    """By the processor's time of who asks and of who reads: how long either waits for a processor says nothing of the parser.

    Nor does what the other tests have left for the garbage collector to look at; kas freezes what it begins with.
    """
    read(parser, entries(1000))  # the process is there
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.001)
            turns += 1

    text = entries(5000)

    def timed() -> float:
        before = time.thread_time()
        read(parser, text)
        return time.thread_time() - before

    turning = asyncio.create_task(turn())
    before = of_the_reader(parser)
    gc.disable()
    try:
        own = await asyncio.to_thread(timed)
    finally:
        gc.enable()
    reader = of_the_reader(parser) - before
    turning.cancel()
    await asyncio.gather(turning, return_exceptions=True)
    assert own < reader / 2  # in a thread it would be all of it
    assert turns > 10


def test_many_mistakes_are_counted_and_the_first_ones_are_told(parser):
    with pytest.raises(MistakesInFile) as caught:
        read(parser, entries(0) + b"    - ib: group/project\n" * 3000)
    assert (len(caught.value.mistakes), caught.value.count) == (20, 6000)
    assert str(caught.value).endswith("and 5980 more")


def test_a_file_that_takes_too_long_is_tried_again_and_then_its_own_fault(parser, monkeypatch):
    monkeypatch.setattr(parsing, "LIMIT_S", 0.0)
    for _ in range(3):
        with pytest.raises(RepositoryProblem, match="took longer than 0 s; it is tried again"):
            read(parser, entries(2000))
    with pytest.raises(MistakesInFile, match="make it smaller"):
        read(parser, entries(2000))
    monkeypatch.setattr(parsing, "LIMIT_S", 20.0)
    assert read(parser, entries(1000)).entries == 1000


def test_a_process_that_dies_is_not_the_files_fault(parser):
    read(parser, entries(1000))
    assert parser._pool is not None
    for process in parser._pool._processes.values():
        process.kill()
    with pytest.raises(RepositoryProblem, match="ended before it was done"):
        read(parser, entries(1000))
    assert read(parser, entries(1000)).entries == 1000


def test_files_that_wait_for_another_one_are_read_after_it(parser, monkeypatch):
    """The other one fails: they neither end with it nor have its time counted as theirs."""
    monkeypatch.setattr(parsing, "LIMIT_S", 3.0)
    slow = entries(5000)
    outcomes: dict[str, Any] = {}

    def ask(name: str, text: bytes) -> None:
        try:
            outcomes[name] = read(parser, text).entries
        except Exception as error:
            outcomes[name] = type(error)

    read(parser, entries(1000))
    assert parser._pool is not None
    (process,) = parser._pool._processes.values()
    os.kill(process.pid, signal.SIGSTOP)
    threads = [Thread(target=ask, args=("stuck", slow))]
    threads[0].start()
    while not parser._turn.locked():
        time.sleep(0.001)
    threads += [Thread(target=ask, args=(str(n), entries(1000 + n))) for n in range(3)]
    for thread in threads[1:]:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == {"stuck": RepositoryProblem, "0": 1000, "1": 1001, "2": 1002}


def test_closing_in_the_midst_of_a_file_is_not_the_files_fault(parser):
    read(parser, entries(1000))
    assert parser._pool is not None
    (process,) = parser._pool._processes.values()
    os.kill(process.pid, signal.SIGSTOP)
    closing = Timer(0.1, parser.close)
    closing.start()
    with pytest.raises(RepositoryProblem):
        read(parser, entries(1000))
    closing.join()
    assert not parser._failures
