"""The one table of kinds."""

from __future__ import annotations

import pytest

from kas.demo.practice_cluster import documents
from kas.demo.practice_cluster.kinds import Kind, kind_of, kinds


@pytest.mark.parametrize("kind", kinds().values(), ids=lambda kind: kind.resource)
def test_every_kind_has_a_schema_and_protobuf_fields(kind: Kind):
    assert kind.schema in documents.schemas()
    assert kind.schema in documents.protobuf_fields()


def test_names():
    deployments = kind_of("deployments", "apps")
    assert (deployments.api_version, deployments.qualified_resource) == ("apps/v1", "deployments.apps")
    assert (kind_of("pods").api_version, kind_of("pods").qualified_resource) == ("v1", "pods")
    assert "scale" in deployments.subresources
    assert not kind_of("namespaces").namespaced
    with pytest.raises(KeyError):
        kind_of("nodes")
