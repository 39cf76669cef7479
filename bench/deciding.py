"""What deciding costs: ID tokens, rules, limits and the audit log, against a kas that does none of it; and a large push under load."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench import load
from bench.clients import until_allowed
from bench.load import Run, Target
from bench.measure import Effort, Figures
from bench.nginx import POD
from bench.parts import CLAIMS, MUCH, MeasuredProduct, Parts
from kas.store import open_store
from tests.fakes.forge import Forge, SigningKey

CONFIG_PROJECT, PROJECT, LATE = "acme/clusters", "acme/web", "late/comer"
AUDIENCE = "https://kas.example.com"
RULES, AGENTS, PUSHED = 10_000, 1_000, 5_000
CONNECTIONS = 32
NOTHING = {
    "audit": {"enabled": False},
    "fair_use": {"token": {}, "project": {}, "agent": {}, "max_in_flight": 0, "wrong_tokens_per_s": 0},
}
ALLOWED = f"""\
    - id: {PROJECT}
      refs: [main, release/*]
      environments: [production, review/*]
      access_as: {{ci_job: {{}}}}
      allow:
        - {{verbs: [get, list, watch], resources: [pods, pods/log, services, deployments.apps], namespaces: [bench, "review-*"]}}
        - {{verbs: [create], resources: [pods/exec], namespaces: [bench]}}
    - {{id: {LATE}, issuer: kas}}
"""
# The same identity on all sides: what a request carries is no part of what deciding costs.
PLAIN = f"ci_access:\n  projects:\n    - id: {PROJECT}\n      access_as: {{ci_job: {{}}}}\n"


@dataclass(frozen=True)
class Side:
    """One kas under the same load."""

    product: MeasuredProduct
    target: Target

    def run(self, seconds: float) -> Run:
        """Small requests for so long."""
        return load.wrk(self.target, POD, CONNECTIONS, seconds)


def deciding(parts: Parts, effort: Effort) -> Figures:
    """Requests per second with everything on, and with 10,000 rules and 1,000 agents, of those with nothing on; a push of 5,000 entries."""
    with ExitStack() as stack:
        folder = parts.product.folder.parent / "deciding"
        folder.mkdir()
        forge = stack.enter_context(_issuer(folder))
        many = "".join(f"    - {{id: group{n % 97}/project{n}}}\n" for n in range(RULES))
        plain = stack.enter_context(_side(folder / "plain", parts, None, PLAIN))
        full = stack.enter_context(_side(folder / "full", parts, forge, f"ci_access:\n  projects:\n{ALLOWED}"))
        crowded = stack.enter_context(
            _side(folder / "crowded", parts, forge, f"ci_access:\n  projects:\n{many}{ALLOWED}", AGENTS)
        )
        runs = _alternating([plain, full, crowded], effort)
        names = ("nothing", "full", "crowded")
        figures = {f"deciding_{name}_rps": median(rps) for name, rps in zip(names, runs, strict=True)}
        figures["deciding_full_ratio"] = _ratio(runs[1], runs[0])
        figures["deciding_crowded_ratio"] = _ratio(runs[2], runs[1])
        return figures | _push(full, effort)


def _alternating(sides: list[Side], effort: Effort) -> list[list[float]]:
    """Requests per second of each side, round by round. Who begins a round changes, since the machine's pace drifts within one.

    Many rounds of a second each: what one pair of neighbours says varies by a twelfth, and the median of nine pairs by a thirtieth.
    """
    rates: list[list[float]] = [[] for _ in sides]
    for side in sides:
        side.run(1)  # warms up
    order = list(range(len(sides)))
    for _ in range(2 * round(effort.seconds) * effort.rounds):
        for which in order:
            rates[which].append(sides[which].run(1).rps)
        order = order[1:] + order[:1]
    return rates


def _ratio(of: list[float], to: list[float]) -> float:
    return median(one / other for one, other in zip(of, to, strict=True))


def _push(side: Side, effort: Effort) -> Figures:
    """A configuration of 5,000 entries comes while requests go on: until it is in force, and what it does to the others' p99."""
    product = side.product
    token = product.job_token(LATE).read_text().strip()
    late = side.target._replace(authorization=f"Bearer ci:{side.target.url.rpartition('/')[2]}:{token}")
    one = "    - {{id: group{}/project{}, environments: [production], access_as: {{ci_job: {{}}}}}}\n"
    entries = "".join(one.format(n % 97, n) for n in range(PUSHED))
    without: list[float] = []
    with_push: list[float] = []
    in_force: list[float] = []
    for number in range(2 * effort.rounds):
        _commit(product, f"ci_access:\n  projects:\n{ALLOWED.replace(LATE, f'other/x{number}')}")
        time.sleep(2)
        without.append(side.run(effort.seconds).p99_ms)
        runs: list[Run] = []
        loading = threading.Thread(target=lambda runs=runs: runs.append(side.run(effort.seconds)))
        loading.start()
        time.sleep(effort.seconds / 4)
        _commit(product, f"ci_access:\n  projects:\n{entries}{ALLOWED}")
        in_force.append(until_allowed(late, POD))
        loading.join()
        with_push.append(runs[0].p99_ms)
    return {"push_in_force_s": median(in_force), "push_p99_ratio": median(with_push) / median(without)}


def _commit(product: MeasuredProduct, text: str) -> None:
    product.commit(CONFIG_PROJECT, {".gitlab/agents/bench/config.yaml": text})


@contextmanager
def _side(
    folder: Path, parts: Parts, forge: tuple[Forge, SigningKey] | None, config: str, agents: int = 0
) -> Iterator[Side]:
    issuer = "kas" if forge is None else "github"
    options: dict[str, Any] = {**NOTHING, "poll_interval_s": 0.5}
    if forge is not None:
        one = {"name": issuer, "type": "github", "issuer": forge[0].url, "audience": AUDIENCE, "owners": ["acme"]}
        root = {"root": str(folder / "repositories"), "issuer": issuer}
        options = {**MUCH, "poll_interval_s": 0.5, "issuers": [{**one, "ca_file": str(forge[0].authority.ca)}]}
        options["configuration_repositories"] = [root]
    product = MeasuredProduct(folder, options)
    _commit(product, config)
    with product:
        agent = product.register("bench", CONFIG_PROJECT, "--issuer", issuer)
        if agents:
            asyncio.run(_crowd(product, agents, issuer))
        agentk = product.start_agentk(agent, parts.kubeconfig)
        assert product.kas is not None
        token = product.job_token(PROJECT, *CLAIMS).read_text().strip() if forge is None else _id_token(*forge)
        pids = {"kas": product.kas.pid, "agentk": agentk.pid}
        target = Target(
            folder.name, f"{product.kubernetes_url}/agents/{agent.id}", f"Bearer ci:{agent.id}:{token}", pids
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                load.asked(target, POD)
                break
            except RuntimeError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.3)
        yield Side(product, target)


async def _crowd(product: MeasuredProduct, agents: int, issuer: str) -> None:
    async with open_store(f"sqlite:///{product.state}/kas.db") as store:
        for number in range(agents):
            await store.agents.register(CONFIG_PROJECT, f"idle-{number}", issuer=issuer)


def _id_token(forge: Forge, key: SigningKey) -> str:
    now = int(time.time())
    claims = {
        "iss": forge.url,
        "aud": AUDIENCE,
        "iat": now,
        "exp": now + 6 * 3600,
        "repository": PROJECT,
        "repository_id": "17",
    }
    claims |= {"repository_owner_id": "5", "ref": "refs/heads/main", "environment": "production", "event_name": "push"}
    return key.sign({**claims, "run_id": "900", "run_attempt": "1", "actor": "ana"}).decode()


@contextmanager
def _issuer(folder: Path) -> Iterator[tuple[Forge, SigningKey]]:
    """An issuer of ID tokens in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    forge, key = Forge(folder), SigningKey()
    asyncio.run_coroutine_threadsafe(forge.__aenter__(), loop).result(10)
    forge.publish(key)
    try:
        yield forge, key
    finally:
        asyncio.run_coroutine_threadsafe(forge.__aexit__(None, None, None), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        loop.close()
