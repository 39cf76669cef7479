"""Tests, by ring: unit, protocol, integration, e2e, kubernetes."""
