"""Protobuf bodies, built here by hand from the field numbers of the recorded table."""

from __future__ import annotations

from typing import Any

import pytest

from kas.demo.practice_cluster import documents, protobuf_bodies
from kas.demo.practice_cluster.protobuf_bodies import BadProtobuf, decode

from .conftest import CONFIG_MAPS, DEPLOYMENTS, PODS

META = "io.k8s.apimachinery.pkg.apis.meta.v1."


def field(number: int, content: bytes | int) -> bytes:
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def number_of(schema: str, name: str) -> int:
    return next(int(number) for number, entry in documents.protobuf_fields()[schema].items() if entry[0] == name)


def encoded(schema: str, **values: Any) -> bytes:
    return b"".join(field(number_of(schema, name), value) for name, value in values.items())


def body(kind: str, api_version: str, message: bytes) -> bytes:
    type_meta = field(1, api_version.encode()) + field(2, kind.encode())
    return protobuf_bodies.MAGIC + field(1, type_meta) + field(2, message)


def test_a_config_map():
    metadata = encoded(META + "ObjectMeta", name=b"settings", namespace=b"", creationTimestamp=b"")
    data = field(1, b"a") + field(2, b"1")
    binary = field(1, b"b") + field(2, b"\xff")
    message = encoded(CONFIG_MAPS.schema, metadata=metadata, data=data, binaryData=binary, immutable=1)
    assert decode(body("ConfigMap", "v1", message), CONFIG_MAPS.schema) == {
        "kind": "ConfigMap",
        "apiVersion": "v1",
        "metadata": {"name": "settings"},
        "data": {"a": "1"},
        "binaryData": {"b": "/w=="},
        "immutable": True,
    }


def test_embedded_structs_stand_in_their_parents_json():
    core = "io.k8s.api.core.v1."
    get = encoded(core + "HTTPGetAction", port=field(1, 1) + field(3, b"http"), path=b"/")
    probe = encoded(core + "Probe", handler=encoded(core + "ProbeHandler", httpGet=get), periodSeconds=5)
    limits = field(1, b"cpu") + field(2, field(1, b"100m"))
    requirements = encoded(core + "ResourceRequirements", limits=limits)
    container = encoded(core + "Container", name=b"a", readinessProbe=probe, resources=requirements)
    message = encoded(PODS.schema, spec=encoded(core + "PodSpec", containers=container))
    (decoded,) = decode(body("Pod", "v1", message), PODS.schema)["spec"]["containers"]
    assert decoded == {
        "name": "a",
        "readinessProbe": {"httpGet": {"port": "http", "path": "/"}, "periodSeconds": 5},
        "resources": {"limits": {"cpu": "100m"}},
    }


def test_times_and_negative_numbers():
    time = field(1, 1_893_456_000)
    metadata = encoded(META + "ObjectMeta", creationTimestamp=time, deletionGracePeriodSeconds=-1)
    decoded = decode(body("Pod", "v1", encoded(PODS.schema, metadata=metadata)), PODS.schema)["metadata"]
    assert decoded == {"creationTimestamp": "2030-01-01T00:00:00Z", "deletionGracePeriodSeconds": -1}


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(b"{}", id="not protobuf"),
        pytest.param(protobuf_bodies.MAGIC + b"\x12\xff", id="cut"),
        pytest.param(protobuf_bodies.MAGIC + b"\x12\x7fabc", id="too short"),
        pytest.param(protobuf_bodies.MAGIC + b"\x11" + bytes(8), id="fixed width"),
        pytest.param(body("Deployment", "apps/v1", field(1, 5)), id="number for a message"),
        pytest.param(body("Deployment", "apps/v1", b"\xff" * 20), id="endless varint"),
    ],
)
def test_what_cannot_be_decoded_is_refused(bad: bytes):
    with pytest.raises(BadProtobuf):
        decode(bad, DEPLOYMENTS.schema)
