"""The links that this kas holds: register, pick the least busy, drain, revoke, keep detached ones until they expire."""
