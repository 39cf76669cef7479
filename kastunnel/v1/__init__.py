"""Generated from proto/; never edited (make proto)."""
