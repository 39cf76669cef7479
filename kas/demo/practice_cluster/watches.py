"""Watches: changes of a kind as a stream of JSON lines, as objects or as table rows, with bookmarks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from aiohttp.web import BaseRequest

from kas.demo.practice_cluster import tables
from kas.demo.practice_cluster.answers import Stream
from kas.demo.practice_cluster.kinds import Kind
from kas.demo.practice_cluster.objects import Change, Object, Store
from kas.demo.practice_cluster.requests import Asked
from kas.demo.practice_cluster.selectors import Selector
from kas.demo.practice_cluster.status import ApiError

DEFAULT_TIMEOUT_S = 300.0  # then it ends cleanly, and clients watch again
BOOKMARK_EVERY_S = 60.0
INITIAL_EVENTS_END = {"k8s.io/initial-events-end": "true"}


@dataclass(frozen=True)
class Selection:
    """Which objects are meant."""

    kind: Kind
    namespace: str
    selector: Selector

    def has(self, item: Object | None) -> bool:
        """Whether ``item`` is one of them."""
        if item is None or (self.namespace and item["metadata"].get("namespace") != self.namespace):
            return False
        return self.selector(item)

    def event(self, change: Change) -> tuple[str, Object] | None:
        """What a watcher of the selection sees of ``change``."""
        if change.kind is not self.kind:
            return None
        was, is_ = self.has(change.before), change.type != "DELETED" and self.has(change.after)
        if is_:
            return ("MODIFIED" if was else "ADDED"), change.after
        return ("DELETED", change.after) if was else None


class Watch:
    """One watch, answered."""

    def __init__(self, store: Store, selection: Selection, asked: Asked, accept: str) -> None:
        self._store = store
        self._selection = selection
        self._query = asked.query
        self._bookmarks = asked.flag("allowWatchBookmarks")
        self._table = tables.wanted_version(accept)
        self._is_first_row = True

    async def serve(self, request: BaseRequest) -> Stream:
        """Stream until the time is over or the client is gone."""
        asked_s = self._query.get("timeoutSeconds", "")
        stream = Stream("application/json")  # real API servers add nothing for tables either
        await stream.begin(request)
        try:
            async with asyncio.timeout(float(asked_s) if asked_s.isdigit() and asked_s != "0" else DEFAULT_TIMEOUT_S):
                await self._send_changes(stream)
        except TimeoutError:
            pass
        except ApiError as error:
            await stream.send(_line("ERROR", error.body()))
        return stream

    async def _send_changes(self, stream: Stream) -> None:
        version = self._start()
        if version is None:
            version = self._store.version
            await stream.send(b"".join(self._initial(version)))
        while True:
            changes = self._store.changes_after(version)
            version = self._store.version
            seen = filter(None, map(self._selection.event, changes))
            if lines := b"".join(self._line(type_, item) for type_, item in seen):
                await stream.send(lines)
            try:
                async with asyncio.timeout(BOOKMARK_EVERY_S):
                    await self._store.changed(version)
            except TimeoutError:
                if self._bookmarks:
                    await stream.send(self._bookmark(version))

    def _start(self) -> int | None:
        """The version to go on from; None: begin with what is there. Raises ApiError 400."""
        text = self._query.get("resourceVersion", "")
        if text in ("", "0") or self._query.get("sendInitialEvents") == "true":
            return None
        if not text.isdigit():
            raise ApiError(400, "BadRequest", f"invalid resource version {text!r}")
        return int(text)

    def _initial(self, version: int) -> Iterator[bytes]:
        kind, namespace = self._selection.kind, self._selection.namespace
        for item in self._store.select(kind, namespace, self._selection.selector):
            yield self._line("ADDED", item)
        if self._bookmarks and self._query.get("sendInitialEvents") == "true":
            yield self._bookmark(version, INITIAL_EVENTS_END)

    def _line(self, type_: str, item: Object) -> bytes:
        if self._table is None:
            return _line(type_, item)
        now = self._store.now()
        head, self._is_first_row = self._is_first_row, False
        kind = self._selection.kind
        return _line(type_, tables.table(kind, [item], version=self._table, now=now, query=self._query, head=head))

    def _bookmark(self, version: int, annotations: dict[str, str] | None = None) -> bytes:
        metadata: dict[str, Any] = {"resourceVersion": str(version), "creationTimestamp": None}
        if annotations:
            metadata["annotations"] = annotations
        kind = self._selection.kind
        return _line("BOOKMARK", {"kind": kind.name, "apiVersion": kind.api_version, "metadata": metadata})


def _line(type_: str, item: Object) -> bytes:
    return json.dumps({"type": type_, "object": item}, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
