"""Agents: registered, found, deleted."""

from __future__ import annotations

from typing import Any

from sqlalchemy import insert, select, update

from kas.clock import Clock
from kas.names import check_agent_name, check_project
from kas.store import agent_tokens, changes
from kas.store.database import Database
from kas.store.errors import InvalidValue, Refused
from kas.store.records import AgentRecord, ChangeKind
from kas.store.schema import agents

Records = list[AgentRecord]  # within the class `list` is the query
KAS = "kas"  # the issuer of agents that the operator registers here


class Agents:
    """Queries about agents. Deleted ones are never returned."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def register(
        self, project: str, name: str, *, issuer: str = KAS, forge_id: str = ""
    ) -> tuple[AgentRecord, str]:
        """The new agent and its first token, which cannot be read again.

        Raises InvalidValue for a bad name or project, Refused if the project has an agent of that name.
        """
        _check(project, name)
        now = int(self._clock())
        async with self._database.writing() as connection:
            same = select(agents.c.id).where(*_living(issuer=issuer, project=project, name=name))
            if (await connection.execute(same)).first() is not None:
                raise Refused(
                    f"{project} has an agent {name} already: choose another name, or `kas agent token create {name}`"
                )
            values = {
                "issuer": issuer,
                "project": project,
                "name": name,
                "created_at": now,
                "forge_id": forge_id or None,
            }
            agent_id = (await connection.execute(insert(agents).values(values).returning(agents.c.id))).scalar_one()
            await changes.append(connection, ChangeKind.AGENT_REGISTERED, agent_id, now, agent_id=agent_id)
            _, token = await agent_tokens.add(connection, agent_id, now)
        return AgentRecord(agent_id, issuer, project, name, now, forge_id), token

    async def by_id(self, agent_id: int) -> AgentRecord | None:
        """None: there is no such agent, or no more."""
        found = await self._select(agents.c.id == agent_id)
        return found[0] if found else None

    async def by_name(self, project: str, name: str, *, issuer: str = KAS) -> AgentRecord | None:
        """The agent ``project:name``."""
        found = await self._select(*_living(issuer=issuer, project=project, name=name))
        return found[0] if found else None

    async def named(self, name: str, project: str | None = None, issuer: str | None = None) -> AgentRecord:
        """The one agent of that name. Raises Refused if there is none, or several by what was given of them."""
        given = {"name": name, "project": project, "issuer": issuer}
        wanted = {column: value for column, value in given.items() if value is not None}
        found = await self._select(*_living(**wanted))
        if not found:
            place = f" in {project}" if project else ""
            raise Refused(f"there is no agent {name}{place}: see `kas agent list`")
        if len(found) > 1:
            if len({agent.project for agent in found}) == 1:
                issuers = ", ".join(agent.issuer for agent in found)
                raise Refused(
                    f"{found[0].project} has an agent {name} at several issuers: choose one with --issuer ({issuers})"
                )
            projects = ", ".join(agent.project for agent in found)
            raise Refused(f"several projects have an agent {name}: choose one with --project ({projects})")
        return found[0]

    async def list(self, project: str | None = None) -> Records:
        """All of them, or those of one project, by project and name."""
        return await self._select(*(() if project is None else (agents.c.project == project,)))

    async def delete(self, agent_id: int) -> None:
        """Forget the agent and revoke its tokens; the id is not used again. Raises Refused if there is none."""
        now = int(self._clock())
        async with self._database.writing() as connection:
            gone = update(agents).where(agents.c.id == agent_id, agents.c.deleted_at.is_(None)).values(deleted_at=now)
            if (await connection.execute(gone)).rowcount != 1:
                raise Refused(f"there is no agent with the id {agent_id}: see `kas agent list`")
            await agent_tokens.revoke_all(connection, agent_id, now)
            await changes.append(connection, ChangeKind.AGENT_DELETED, agent_id, now, agent_id=agent_id)

    async def _select(self, *conditions: Any) -> Records:
        query = (
            select(agents).where(agents.c.deleted_at.is_(None), *conditions).order_by(agents.c.project, agents.c.name)
        )
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).all()
        return [
            AgentRecord(row.id, row.issuer, row.project, row.name, row.created_at, row.forge_id or "") for row in rows
        ]


def _living(**wanted: str) -> tuple[Any, ...]:
    return (agents.c.deleted_at.is_(None), *(agents.c[column] == value for column, value in wanted.items()))


def _check(project: str, name: str) -> None:
    try:
        check_project(project)
        check_agent_name(name)
    except ValueError as error:
        raise InvalidValue(str(error)) from None
