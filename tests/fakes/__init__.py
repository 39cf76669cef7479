"""Stand-ins with knobs that several rings of tests share."""
