"""Push webhooks of forges: ``POST /kas/v1/webhooks/FORGE``. A push that is proven to come from a forge makes kas look at one repository.

Nothing else of it is believed, so a replay costs one look, and a storm one look a second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from aiohttp import web

from kas.http_door import Request, Route, answer, plain

KINDS = ("gitlab", "gitea", "github")
Pushed = Callable[[str, dict[str, str], bytes], tuple[str, str] | None]


class Webhooks:
    """``pushed``: issuer and project of a proven push, empty ones for another event, None without proof. ``wake``: look there now."""

    def __init__(self, pushed: Pushed, wake: Callable[[str, str], None]) -> None:
        self._pushed = pushed
        self._wake = wake

    @property
    def posts(self) -> Mapping[str, Route]:
        """What the door answers."""
        return {f"/kas/v1/webhooks/{kind}": partial(self._take, kind) for kind in KINDS}

    async def _take(self, kind: str, request: Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        found = self._pushed(kind, headers, await request.read())
        if found is None:
            return answer(
                401, "this webhook is not signed as kas knows it", "set the secret of webhook_secret_file at the forge"
            )
        issuer, project = found
        if project:
            self._wake(issuer, project)
        return plain("ok\n")
