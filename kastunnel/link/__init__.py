"""THE PROTOCOL between kas and agentk, sans I/O: docs/link-protocol.md as code.

No asyncio, grpc, aiohttp, clock or logger in here: bytes, times and method calls go in, events and envelopes come out.
"""
