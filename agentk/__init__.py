"""The agent: dials out to kas, carries requests to its own API server, adds credentials and identity last."""
