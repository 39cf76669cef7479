"""What must last: agents, tokens, job tokens and the change log, in SQLite or PostgreSQL through SQLAlchemy."""
