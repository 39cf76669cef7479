"""The cluster's objects and the history of their changes, in memory.

Stored objects are never changed in place: every change stores a new one. So they may be handed out uncopied, and
whoever wants to change one copies it first.
"""

from __future__ import annotations

import asyncio
import copy
import secrets
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from kas.demo.practice_cluster import status
from kas.demo.practice_cluster.kinds import Kind
from kas.demo.practice_cluster.selectors import Selector, everything

Object = dict[str, Any]
NAME_CHARACTERS = "bcdfghjklmnpqrstvwxz2456789"  # of generated names: none that spell words
# No client may change these.
SERVER_METADATA = (
    "uid",
    "creationTimestamp",
    "resourceVersion",
    "generation",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
)
GENERATIONS = {"Deployment", "Pod", "ReplicaSet"}  # kinds whose changes of the spec are counted
MAX_CHANGES = 4096  # remembered for watches; one that starts further back is told to list again


@dataclass(frozen=True)
class Change:
    """One change of one object."""

    version: int
    kind: Kind
    type: Literal["ADDED", "MODIFIED", "DELETED"]
    before: Object | None
    after: Object  # of a deletion: the last state, with the version of the deletion


class Store:
    """Objects by kind, namespace and name; all methods but ``changed`` are synchronous."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.version = 1
        self._now = now
        self._objects: dict[tuple[Kind, str, str], Object] = {}
        self._changes: deque[Change] = deque(maxlen=MAX_CHANGES)
        self._news = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Store version={self.version} objects={len(self._objects)} changes={len(self._changes)}>"

    def timestamp(self) -> str:
        """Now, as Kubernetes writes it."""
        return self._now().strftime("%Y-%m-%dT%H:%M:%SZ")

    def now(self) -> datetime:
        """Now, in UTC."""
        return self._now()

    def find(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """The object, or None."""
        return self._objects.get((kind, namespace if kind.namespaced else "", name))

    def get(self, kind: Kind, namespace: str, name: str) -> Object:
        """The object. Raises ApiError 404."""
        if (item := self.find(kind, namespace, name)) is None:
            raise status.not_found(kind, name)
        return item

    def select(self, kind: Kind, namespace: str = "", selector: Selector = everything) -> list[Object]:
        """The objects of a kind, of one namespace or of all, ordered as etcd would."""
        return [item for item in self._of(kind, namespace) if selector(item)]

    def all_in(self, namespace: str) -> list[tuple[Kind, Object]]:
        """Everything in a namespace."""
        return [(kind, item) for (kind, where, _), item in self._objects.items() if where == namespace]

    def everything(self) -> list[tuple[Kind, Object]]:
        """Everything there is."""
        return [(kind, item) for (kind, _, _), item in self._objects.items()]

    def prepared(self, kind: Kind, item: Object) -> Object:
        """``item`` with the metadata that it will have when created (a copy). Raises ApiError 409 if it exists."""
        item = copy.deepcopy(item)
        metadata = item["metadata"]
        if not metadata.get("name") and metadata.get("generateName"):
            suffix = "".join(secrets.choice(NAME_CHARACTERS) for _ in range(5))
            metadata["name"] = metadata["generateName"] + suffix
        if self.find(kind, metadata.get("namespace", ""), metadata["name"]) is not None:
            raise status.already_exists(kind, metadata["name"])
        metadata.update(uid=str(uuid.uuid4()), creationTimestamp=self.timestamp())
        metadata.pop("generation", None)
        if kind.name in GENERATIONS:
            metadata["generation"] = 1
        return item

    def create(self, kind: Kind, item: Object) -> Object:
        """Store a new object; what is stored. Raises ApiError 409 if it exists."""
        return self._put(kind, self.prepared(kind, item), "ADDED", None)

    def replace(self, kind: Kind, item: Object) -> Object:
        """Store a new state of an object; what is stored. Nothing happens if nothing changed.

        Raises ApiError 404, and 409 if ``item`` carries another resourceVersion than the stored one. An object that
        is marked for deletion and has lost its last finalizer is removed instead.
        """
        metadata = item["metadata"]
        before = self.get(kind, metadata.get("namespace", ""), metadata["name"])
        if metadata.get("resourceVersion") not in (None, "", before["metadata"]["resourceVersion"]):
            why = "the object has been modified; please apply your changes to the latest version and try again"
            raise status.conflict(kind, metadata["name"], why)
        item = self.successor(item, before)
        if item == before:
            return before
        was_held = "deletionTimestamp" in before["metadata"] and before["metadata"].get("finalizers")
        if was_held and not item["metadata"].get("finalizers"):
            return self.remove(kind, metadata.get("namespace", ""), metadata["name"])
        return self._put(kind, item, "MODIFIED", before)

    def successor(self, item: Object, before: Object) -> Object:
        """``item`` (copied) with the metadata that no client may change taken from ``before``."""
        item = copy.deepcopy(item)
        for name in SERVER_METADATA:
            item["metadata"].pop(name, None)
            if name in before["metadata"]:
                item["metadata"][name] = before["metadata"][name]
        if "generation" in before["metadata"] and item.get("spec") != before.get("spec"):
            item["metadata"]["generation"] += 1
        return item

    def mark_deleted(self, kind: Kind, item: Object, **metadata: Any) -> Object:
        """Store that the object is to go (``deletionTimestamp``), with whatever else goes into its metadata."""
        marked = copy.deepcopy(item)
        marked["metadata"].setdefault("deletionTimestamp", self.timestamp())
        marked["metadata"].update(metadata)
        return item if marked == item else self._put(kind, marked, "MODIFIED", item)

    def remove(self, kind: Kind, namespace: str, name: str) -> Object:
        """Forget an object; its last state. Raises ApiError 404."""
        before = self.get(kind, namespace, name)
        del self._objects[kind, namespace if kind.namespaced else "", name]
        return self._record(kind, "DELETED", before, copy.deepcopy(before))

    def changes_after(self, version: int) -> list[Change]:
        """Every change since, oldest first. Raises ApiError 410 if some are forgotten."""
        if version < self.version and self._changes and self._changes[0].version > version + 1:
            raise status.expired()
        missed = []
        for change in reversed(self._changes):
            if change.version <= version:
                break
            missed.append(change)
        return missed[::-1]

    async def changed(self, version: int) -> None:
        """Wait until something changed after ``version``."""
        while self.version <= version:
            await self._news.wait()

    def _of(self, kind: Kind, namespace: str) -> Iterator[Object]:
        for key in sorted(key[1:] for key in self._objects if key[0] is kind and namespace in ("", key[1])):
            yield self._objects[kind, *key]

    def _put(self, kind: Kind, item: Object, change: Literal["ADDED", "MODIFIED"], before: Object | None) -> Object:
        item = {"kind": kind.name, "apiVersion": kind.api_version, **item}
        where = item["metadata"].get("namespace", "") if kind.namespaced else ""
        self._objects[kind, where, item["metadata"]["name"]] = item
        return self._record(kind, change, before, item)

    def _record(
        self, kind: Kind, change: Literal["ADDED", "MODIFIED", "DELETED"], before: Object | None, after: Object
    ) -> Object:
        self.version += 1
        after["metadata"]["resourceVersion"] = str(self.version)
        self._changes.append(Change(self.version, kind, change, before, after))
        self._news.set()
        self._news = asyncio.Event()
        return after
