"""HTTP/1.1 as both hot ends speak it, sans I/O: heads, framing, header hygiene, raw targets, upgrades, classification.

``request.py`` reads what clients send, ``response.py`` what API servers answer, ``render.py`` writes both kinds of head.
``fields.py`` is the one table of field names, ``errors.py`` the one table of refusals, ``limits.py`` every size.

llhttp parses the heads, but it decides nothing: the end of a head is found here, a parser gets exactly one head, bodies are
counted or de-chunked here, trailers are dropped, and everything that llhttp lets through and a proxy must not is refused here.
No socket, clock or logger.
"""
