"""Agent configuration files: their schema, the git repositories they are read from, and who watches them."""
