"""What must last: agents, tokens, job tokens and the change log, in SQLite or PostgreSQL through SQLAlchemy.

The only room that knows SQL, its driver and the format of stored tokens. Nobody outside sees a connection or a row: the queries
speak the domain's words and return records. Every write appends to the change log in its own transaction.
"""

from kas.store.errors import InvalidValue, Refused
from kas.store.records import (
    AgentRecord,
    AgentTokenRecord,
    Change,
    ChangeKind,
    ClaimableEnvironment,
    JobClaims,
    JobEnvironment,
    JobTokenRecord,
    MayClaim,
    RegistrationRecord,
)
from kas.store.store import Store, open_store, schema_version

__all__ = [
    "AgentRecord",
    "AgentTokenRecord",
    "Change",
    "ChangeKind",
    "ClaimableEnvironment",
    "InvalidValue",
    "JobClaims",
    "JobEnvironment",
    "JobTokenRecord",
    "MayClaim",
    "Refused",
    "RegistrationRecord",
    "Store",
    "open_store",
    "schema_version",
]
