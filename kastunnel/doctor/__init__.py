"""What `kas doctor` and `agentk doctor` share: a check is a named function that returns a Finding; each program has a table of them."""
