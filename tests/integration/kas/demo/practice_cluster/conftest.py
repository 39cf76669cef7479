"""A practice cluster in this process, and a plain HTTP client for it."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, TCPConnector
from multidict import CIMultiDictProxy

from kas.demo.practice_cluster import PracticeCluster

LIMIT_S = 20


@dataclass(frozen=True)
class Answer:
    """An answer, read."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    def json(self) -> Any:
        """The document in the body."""
        return json.loads(self.body)

    def text(self) -> str:
        """The body as text."""
        return self.body.decode()


class Client:
    """Requests with the administrator's token, each on a connection of its own."""

    def __init__(self, session: ClientSession, cluster: PracticeCluster) -> None:
        self.session = session
        self.cluster = cluster

    async def send(self, method: str, path: str, **options: Any) -> Answer:
        """The answer; a redirect is not followed."""
        headers = {"Authorization": f"Bearer {self.cluster.token}", **options.pop("headers", {})}
        url = self.cluster.url + path
        async with self.session.request(method, url, headers=headers, allow_redirects=False, **options) as answer:
            return Answer(answer.status, answer.headers, await answer.read())

    async def get(self, path: str, **options: Any) -> Any:
        """The JSON of a GET that must succeed."""
        answer = await self.send("GET", path, **options)
        assert answer.status == 200, answer.text()
        return answer.json()

    async def create(self, path: str, item: dict[str, Any]) -> Any:
        """The JSON of a POST that must succeed."""
        answer = await self.send("POST", path, json=item)
        assert answer.status == 201, answer.text()
        return answer.json()

    async def run_pod(self, name: str, *command: str, **spec: Any) -> None:
        """Create a pod in the namespace default and wait until it is ready or has ended."""
        container = {"name": "main", "image": "any", "command": list(command), **spec.pop("container", {})}
        item = {"metadata": {"name": name}, "spec": {"containers": [container], **spec}}
        await self.create("/api/v1/namespaces/default/pods", item)
        await self.until(f"/api/v1/namespaces/default/pods/{name}", is_up_or_over)

    async def first_line(self, path: str) -> str:
        """The first line that a pod prints."""
        headers = {"Authorization": f"Bearer {self.cluster.token}"}
        url = f"{self.cluster.url}{path}/log?follow=true"
        async with asyncio.timeout(LIMIT_S), self.session.get(url, headers=headers) as answer:
            return (await answer.content.readline()).decode().strip()

    async def until(self, path: str, test: Any) -> Any:
        """The object at ``path`` once ``test`` is true of it."""
        async with asyncio.timeout(LIMIT_S):
            while True:
                version = self.cluster.store.version
                item = await self.get(path)
                if test(item):
                    return item
                await self.cluster.store.changed(version)


async def eventually(test: Callable[[], Any]) -> None:
    """Wait until ``test`` is true of something that nobody tells us of."""
    async with asyncio.timeout(LIMIT_S):
        while not test():
            await asyncio.sleep(0.01)


def is_up_or_over(pod: dict[str, Any]) -> bool:
    """Whether all containers are ready, or the pod has ended."""
    conditions = {each["type"]: each["status"] for each in pod["status"].get("conditions", [])}
    return conditions.get("Ready") == "True" or pod["status"]["phase"] in {"Succeeded", "Failed"}


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[PracticeCluster]:
    async with PracticeCluster(tmp_path / "cluster") as cluster:
        yield cluster


@pytest.fixture
async def client(cluster: PracticeCluster) -> AsyncIterator[Client]:
    context = ssl.create_default_context(cafile=str(cluster.ca_file))
    connector = TCPConnector(ssl=context, force_close=True)
    async with ClientSession(connector=connector) as session:
        yield Client(session, cluster)
