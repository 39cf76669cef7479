"""HTTP/1.1 as both hot ends speak it, sans I/O: heads, framing, header hygiene, raw targets, upgrades, classification.

The rules are those of docs/proxy-hygiene.md (B1 to B34); no socket, clock or logger in here.
"""
