"""How the garbage collector treats a long-running server: what was made at the start is not looked at again."""

from __future__ import annotations

import gc

# New containers before a young collection (Python's default is 700): a request makes about a hundred and frees them by
# reference counting alone, so looking for cycles every seven requests finds nothing. A leak is still found, a little later.
YOUNG = 5_000
MIDDLE = 10
OLD = 20


def settle() -> None:
    """Call once, when everything is wired and before the first request."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)
