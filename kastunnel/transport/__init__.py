"""Drives a Link over a Duplex: gRPC for the two programs, memory with fault knobs for tests and the demo."""
