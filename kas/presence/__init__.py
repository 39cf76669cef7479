"""Which agent is linked to which kas."""
