"""Who may, as whom: credentials to callers, callers and agent configuration to grants or denials with their reason.

rules.py and identity.py are pure. Nothing here opens a socket or knows HTTP.
"""
