"""Holds many links to one kas, with agentk's own code: ``python idle_agents.py KAS-ADDRESS TOKEN-FILE CA-FILE COUNT NAME``.

Says "linked" when all are, and ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import uvloop

from agentk.config import settings
from agentk.uplink import Uplink
from kastunnel.link.frames import Open
from kastunnel.link.handler import Exchange, Handler

LIMIT_S = 120


class NoRequests:
    """What an idle agent gets."""

    def opened(self, wanted: Open, exchange: Exchange) -> Handler:
        """Never called."""
        raise RuntimeError("an idle agent was asked")


async def main(address: str, token_file: str, ca_file: str, count: int, name: str) -> None:
    """Link ``count`` times and stay."""
    uplinks = []
    tasks = []
    for number in range(count):
        one = settings(
            kas_address=address,
            token_file=Path(token_file),
            ca_cert_file=Path(ca_file),
            instance=f"{name}/{number}",
            environ={},
        )
        uplink = Uplink(one, NoRequests(), {"version": "bench", "instance": one.instance})
        tasks.append(asyncio.create_task(uplink.run()))
        uplinks.append(uplink)
        if number % 10 == 9:
            async with asyncio.timeout(LIMIT_S):
                while not all(uplink.connected for uplink in uplinks):  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.02)
    print("linked", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5]))
