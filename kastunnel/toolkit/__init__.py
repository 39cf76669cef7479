"""What the standard library lacks and no domain word appears in: owned tasks, back-off, TLS contexts, log fields."""
