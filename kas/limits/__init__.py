"""How much of kas and of an agent one token, one project and everybody together may use. No I/O; clocks are given.

Beyond a limit a request is refused with 429 before anything left for the cluster, so that repeating it is safe. Where an agent is busy,
ordinary requests wait for their turn, and projects get turns in proportion to their weights.
"""
