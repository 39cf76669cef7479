from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from kas.store import AgentRecord, AgentTokenRecord


def test_an_agents_context_is_project_and_name():
    assert AgentRecord(7, "kas", "group/project", "prod", 0).context == "group/project:prod"


def test_a_token_is_active_until_it_is_revoked():
    assert AgentTokenRecord(1, 7, "abcdefgh", 0, None, None).is_active
    assert not AgentTokenRecord(1, 7, "abcdefgh", 0, None, 5).is_active


def test_records_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        AgentRecord(7, "kas", "group/project", "prod", 0).name = "other"  # type: ignore[misc]
