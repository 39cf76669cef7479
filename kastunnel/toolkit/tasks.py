"""Tasks with owners: the only place that may create one outside a TaskGroup."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

log = logging.getLogger(__name__)


class LoopEnded(Exception):
    """A loop that must run for ever has returned."""


@asynccontextmanager
async def background(**loops: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Run ``loops`` for as long as the ``with`` block runs, then cancel and await them.

    A loop that raises, or returns, ends the block too: half a server is worse than none.
    Takes functions, not coroutines, so nothing is left un-awaited when the block dies early.
    """

    async def keep(name: str, loop: Callable[[], Awaitable[None]]) -> None:
        await loop()
        raise LoopEnded(name)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(keep(name, loop), name=name) for name, loop in loops.items()]
        yield
        for task in tasks:
            task.cancel()


class TaskOwner:
    """Owns tasks that come and go: one that fails is logged and takes nobody with it.

    ``async with``, or ``close``: what still runs is cancelled and awaited; after that ``spawn`` raises.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    def __repr__(self) -> str:
        return f"<TaskOwner {self._name} tasks={len(self._tasks)} closed={self._closed}>"

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, work: Coroutine[Any, Any, Any], *, name: str) -> asyncio.Task[Any]:
        """Start ``work`` now; an exception in it is logged as an error with its traceback."""
        if self._closed:
            work.close()
            raise RuntimeError(f"{self._name} is closed")
        task = asyncio.get_running_loop().create_task(work, name=f"{self._name}/{name}")
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task failed", exc_info=error)

    async def close(self) -> None:
        """Cancel and await everything; idempotent."""
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
