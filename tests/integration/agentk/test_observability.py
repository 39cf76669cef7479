"""The operator's door of agentk over real HTTP."""

from __future__ import annotations

import aiohttp
import pytest

from agentk.config import Address
from agentk.errors import ConfigurationError
from agentk.kube_api.statistics import Statistics
from agentk.observability import Sources, observability
from kastunnel.link.frames import Code

ANY = Address("127.0.0.1", 0)


class State:
    connected = False
    reachable = False


def sources(state: State, statistics: Statistics) -> Sources:
    return Sources(statistics, connected=lambda: state.connected, reachable=lambda: state.reachable, version="1.2.3")


async def page(address: Address | None, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://{address}{path}") as answer:
        return answer.status, await answer.text()


async def test_ready_is_linked_and_able_to_reach_the_api_server() -> None:
    state = State()
    async with observability(ANY, sources(state, Statistics())) as address:
        status, text = await page(address, "/readiness")
        assert status == 503
        assert text == "not linked to kas\nthe API server could not be reached at the last try\n"
        assert (await page(address, "/liveness"))[0] == 200
        state.connected = state.reachable = True
        assert await page(address, "/readiness") == (200, "ready\n")
        assert (await page(address, "/debug"))[0] == 404


async def test_metrics_are_what_has_been_counted() -> None:
    statistics = Statistics()
    statistics.requests = 7
    statistics.failed[Code.UPSTREAM_DIAL] += 2
    async with observability(ANY, sources(State(), statistics)) as address:
        status, text = await page(address, "/metrics")
    assert status == 200
    assert "agentk_requests_total 7.0\n" in text
    assert 'agentk_requests_failed_total{code="upstream_dial"} 2.0\n' in text
    assert 'agentk_build_info{version="1.2.3"} 1.0\n' in text
    assert "agentk_linked 0.0\n" in text
    assert "process_open_fds" in text


async def test_a_taken_address_is_one_line_with_the_remedy() -> None:
    async with observability(ANY, sources(State(), Statistics())) as address:
        with pytest.raises(ConfigurationError, match=r"--observability-listen .*: choose a free address, or off"):
            async with observability(address, sources(State(), Statistics())):
                pass


async def test_it_can_be_off() -> None:
    async with observability(None, sources(State(), Statistics())) as address:
        assert address is None
