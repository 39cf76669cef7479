from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from kas.store import AgentRecord, AgentTokenRecord


def test_an_agents_context_is_project_and_name():
    assert AgentRecord(7, "kas", "group/project", "prod", 0).context == "group/project:prod"


def test_a_token_is_active_until_it_is_revoked_or_expires():
    assert AgentTokenRecord(1, 7, "abcdefgh", 0, None, None).is_active(10)
    assert not AgentTokenRecord(1, 7, "abcdefgh", 0, None, 5).is_active(4)
    assert AgentTokenRecord(1, 7, "abcdefgh", 0, None, None, 10).is_active(9)
    assert not AgentTokenRecord(1, 7, "abcdefgh", 0, None, None, 10).is_active(10)


def test_records_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        AgentRecord(7, "kas", "group/project", "prod", 0).name = "other"  # type: ignore[misc]
