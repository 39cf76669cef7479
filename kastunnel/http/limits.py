"""Every size of HTTP messages, in bytes unless the name says otherwise.

Sources: what kubectl really sends (long ``continue`` tokens and JWTs need 16 KiB in one line) and what the API server takes.
"""

from __future__ import annotations

MAX_REQUEST_LINE = 16 * 1024
MAX_HEADER_LINE = 16 * 1024 + 512  # a token of 16 KiB behind "Authorization: Bearer ci:<id>:"
MAX_HEAD = 64 * 1024
MAX_HEADERS_COUNT = 100
MAX_CONNECTION_OPTIONS_COUNT = 16  # nobody names more; a thousand names are an attack on the header list
MAX_CONTENT_LENGTH_DIGITS_COUNT = 19  # below 2**63

MAX_CHUNK_EXTENSION = 256
MAX_CHUNK_EXTENSIONS_TOTAL = 16 * 1024  # of one body: extensions cost work and carry nothing
MAX_TRAILERS = 4 * 1024  # they are thrown away

MAX_INTERIM_RESPONSES_COUNT = 8  # 100 and 103 before one final response
