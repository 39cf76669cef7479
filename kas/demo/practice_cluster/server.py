"""The API server: from a request to its answer."""

from __future__ import annotations

import gzip
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from aiohttp.web import BaseRequest, HTTPException, Response, StreamResponse

from kas.demo.practice_cluster import (
    bodies,
    discovery,
    documents,
    openapi_v2,
    pod_logs,
    portforward,
    remote_commands,
    requests,
    reviews,
    selectors,
    status,
    tables,
)
from kas.demo.practice_cluster.answers import bytes_answer, common_headers, json_answer
from kas.demo.practice_cluster.faults import Faults
from kas.demo.practice_cluster.identity import Access, User, effective_user
from kas.demo.practice_cluster.kinds import Kind, kind_of
from kas.demo.practice_cluster.objects import Store
from kas.demo.practice_cluster.pods import Node
from kas.demo.practice_cluster.requests import Asked, RequestRecord, Target
from kas.demo.practice_cluster.resources import Done, Resources, scale_of
from kas.demo.practice_cluster.status import ApiError
from kas.demo.practice_cluster.watches import Selection, Watch

log = logging.getLogger(__name__)

HEALTH = {"/healthz", "/livez", "/readyz"}
RECORDS = "/practice-cluster/requests"
MAX_RECORDS = 2000


class ApiServer:
    """Answers requests; ``handle`` is called by aiohttp, once for each."""

    def __init__(self, store: Store, node: Node, tokens: dict[str, User], access: Access, faults: Faults) -> None:
        self.requests: deque[RequestRecord] = deque(maxlen=MAX_RECORDS)
        self._store = store
        self._node = node
        self._resources = Resources(store)
        self._tokens = tokens
        self._access = access
        self._faults = faults
        self._writes: dict[str, Callable[[Target, Asked, bytes, str], Done]] = {
            "POST": self._resources.create,
            "PUT": self._resources.update,
            "PATCH": self._resources.patch,
            "DELETE": self._resources.delete,
        }

    async def handle(self, request: BaseRequest) -> StreamResponse:
        """The answer to any request."""
        user: User | None = None
        refusal: ApiError | None = None
        try:
            user = effective_user(self._tokens, request.headers)
        except ApiError as error:
            refusal = error
        if not request.raw_path.startswith(RECORDS):
            self.requests.append(requests.recorded(request, user))

        async def answer(request: BaseRequest) -> StreamResponse:
            return await self._answer(request, user, refusal)

        return await self._faults.handle(request, answer)

    async def _answer(self, request: BaseRequest, user: User | None, refusal: ApiError | None) -> StreamResponse:
        try:
            if request.path in HEALTH:
                return Response(text="ok", headers=common_headers())
            if user is None:
                raise refusal or ApiError(401, "Unauthorized", "Unauthorized")
            asked = requests.asked(request)
            self._access.check(user, asked.attributes())
            if asked.target is None:
                return self._document(request, asked)
            return await self._resource(request, asked, asked.target, user)
        except ApiError as error:
            return json_answer(request, error.body(), status=error.code)
        except HTTPException:
            large = ApiError(413, "RequestEntityTooLarge", f"the body is larger than {bodies.MAX_BYTES} bytes")
            return json_answer(request, large.body(), status=large.code)

    def _document(self, request: BaseRequest, asked: Asked) -> StreamResponse:
        """Whatever is no resource: discovery, OpenAPI, the version. Raises ApiError 404."""
        if request.method not in {"GET", "HEAD"}:
            raise status.method_not_allowed(request.method)
        path, accept = asked.path.rstrip("/"), request.headers.get("Accept", "")
        if path in {"/api", "/apis"} and (found := discovery.aggregated(path, accept)):
            answer = json_answer(request, found[1], content_type=found[0])
            answer.headers["Vary"] = "Accept"
            return answer
        if path == "/version":
            return json_answer(request, discovery.VERSION)
        if path == "/openapi/v2":
            if "protobuf" in accept:
                content_type = openapi_v2.PROTOBUF_CONTENT_TYPE
                return bytes_answer(request, openapi_v2.as_protobuf(), content_type=content_type)
            return json_answer(request, openapi_v2.as_json())
        if path == "/openapi/v3":
            return json_answer(request, discovery.openapi_v3_index())
        if (below := path.removeprefix("/openapi/v3/")) in documents.OPENAPI_V3_PATHS:
            return _openapi_v3(request, below)
        if path == RECORDS:
            return json_answer(request, [record.as_json() for record in self.requests])
        if (found_plain := discovery.plain(path)) is not None:
            return json_answer(request, found_plain)
        raise status.no_such_resource()

    async def _resource(self, request: BaseRequest, asked: Asked, target: Target, user: User) -> StreamResponse:
        kind = target.kind
        if target.subresource in {"log", "exec", "attach", "portforward"}:
            return await self._pod_stream(request, asked, target)
        if kind.name in reviews.REVIEWS:
            if request.method != "POST":
                raise status.method_not_allowed(request.method)
            body = bodies.decoded(await request.read(), request.content_type, kind.schema)
            review, _ = bodies.checked(kind, body, "Ignore")
            answered = reviews.answered(kind, review, user, self._access, self._store.timestamp())
            return json_answer(request, answered, status=201)
        if request.method in {"GET", "HEAD"}:
            return await self._read(request, asked, target)
        return await self._write(request, asked, target)

    async def _read(self, request: BaseRequest, asked: Asked, target: Target) -> StreamResponse:
        kind = target.kind
        if target.name and not asked.is_watch:
            item = self._store.get(kind, target.namespace, target.name)
            if target.subresource == "scale":
                return json_answer(request, scale_of(kind, item))
            return self._shown(request, asked, kind, [item], item)
        selection = self._selection(asked, target)
        if asked.is_watch:
            return await Watch(self._store, selection, asked, request.headers.get("Accept", "")).serve(request)
        items = self._store.select(kind, target.namespace, selection.selector)
        metadata = {"resourceVersion": str(self._store.version)}
        document = {"kind": f"{kind.name}List", "apiVersion": kind.api_version, "metadata": metadata, "items": items}
        return self._shown(request, asked, kind, items, document)

    def _selection(self, asked: Asked, target: Target) -> Selection:
        by_label = selectors.label_selector(asked.query.get("labelSelector", ""))
        fields = asked.query.get("fieldSelector", "")
        by_field = selectors.field_selector(f"{fields},metadata.name={target.name}" if target.name else fields)
        return Selection(target.kind, target.namespace, lambda item: by_label(item) and by_field(item))

    def _shown(
        self, request: BaseRequest, asked: Asked, kind: Kind, items: list[Any], document: dict[str, Any]
    ) -> StreamResponse:
        """``document``, or the table of ``items`` if the client prefers that."""
        if (version := tables.wanted_version(request.headers.get("Accept", ""))) is None:
            return json_answer(request, document)
        table = tables.table(kind, items, version=version, now=self._store.now(), query=asked.query, head=True)
        table["metadata"] = {"resourceVersion": document["metadata"]["resourceVersion"]}
        return json_answer(request, table)

    async def _write(self, request: BaseRequest, asked: Asked, target: Target) -> StreamResponse:
        body, media = await request.read(), request.headers.get("Content-Type", "")
        if request.method == "DELETE" and not target.name:
            selection = self._selection(asked, target)
            items = self._store.select(target.kind, target.namespace, selection.selector)
            done = self._resources.delete_collection(target, items, asked, body, media)
        elif request.method in self._writes and (request.method == "POST") == (not target.name):
            done = self._writes[request.method](target, asked, body, media)
        else:
            raise status.method_not_allowed(request.method)
        if done.item.get("kind") == target.kind.name and tables.wanted_version(request.headers.get("Accept", "")):
            return self._shown(request, asked, target.kind, [done.item], done.item)
        return json_answer(request, done.item, status=done.status, warnings=done.warnings)

    async def _pod_stream(self, request: BaseRequest, asked: Asked, target: Target) -> StreamResponse:
        """Logs and upgrades. After an upgrade nothing is answered: the connection ends, and this request with it."""
        pod = self._store.get(kind_of("pods"), target.namespace, target.name)
        running, container = self._node.container(pod, asked.query.get("container", ""))
        if target.subresource == "log":
            return await pod_logs.serve(request, asked, container.log, container.name, self._store.now())
        if request.method not in {"GET", "POST"}:
            raise status.method_not_allowed(request.method)
        match target.subresource:
            case "exec":
                await remote_commands.execute(request, asked, running, container)
            case "attach":
                await remote_commands.attach(request, asked, container)
            case "portforward":
                await portforward.forward(request, running)
        return Response()


def _openapi_v3(request: BaseRequest, path: str) -> StreamResponse:
    compressed = documents.openapi_v3(path)
    headers = {**common_headers(), "Content-Type": "application/json", "Vary": "Accept-Encoding"}
    headers["ETag"] = f'"{discovery.openapi_v3_hash(path)}"'
    if request.headers.get("If-None-Match") == headers["ETag"]:
        return Response(status=304, headers=headers)
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        return Response(body=compressed, headers={**headers, "Content-Encoding": "gzip"})
    return Response(body=gzip.decompress(compressed), headers=headers)
