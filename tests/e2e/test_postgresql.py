"""kas with its tables in a real PostgreSQL: the same jobs, and a database that stops, crashes and comes back."""

from __future__ import annotations

import asyncio
import json
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kas.errors import StoreUnavailable
from kas.store import open_store
from tests.e2e.conftest import CONFIG_PROJECT, JOBS_PROJECT, chosen
from tests.support.kubectls import Kubectl, any_kubectl
from tests.support.postgresql import PostgreSQL, missing
from tests.support.product import Agent, Product

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "-")


@pytest.fixture
def database() -> Iterator[PostgreSQL]:
    # pytest's own folders are closed to the user that PostgreSQL runs as.
    with tempfile.TemporaryDirectory(prefix="postgresql-", dir="/tmp") as name:
        server = PostgreSQL(Path(name))
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")


@pytest.fixture
def password_file(database: PostgreSQL, tmp_path: Path) -> Path:
    file = tmp_path / "password"
    file.touch(mode=0o600)
    file.write_text(database.password + "\n")
    return file


@pytest.fixture
def product(database: PostgreSQL, password_file: Path, tmp_path: Path) -> Iterator[Product]:
    options = {"database": {"url": database.url, "password_file": str(password_file)}}
    with Product(tmp_path / "kas", {**options, "access": {"positive_cache_s": 60, "negative_cache_s": 1}}) as running:
        yield running


@pytest.fixture
def agent(product: Product, cluster: Path) -> Agent:
    made = product.register("production", CONFIG_PROJECT)
    product.configure(made, json.dumps({"ci_access": {"projects": [{"id": JOBS_PROJECT}]}}))
    product.start_agentk(made, cluster)
    return made


def job(product: Product, agent: Agent) -> Kubectl:
    kubeconfig = chosen(product, product.kubeconfig(product.job_token(JOBS_PROJECT)), agent)
    return Kubectl(any_kubectl(), kubeconfig, product.folder)


@pytest.mark.covers("D-04")
def test_a_database_that_stops_cuts_nobody_and_is_used_again_when_it_is_back(
    product: Product, agent: Agent, database: PostgreSQL
) -> None:
    known, revoked = job(product, agent), job(product, agent)
    for kubectl in (known, revoked):
        kubectl.run("get", "namespaces")
    assert product.kas is not None
    with known.running("get", "configmaps", "--watch", "--no-headers") as watch:
        assert watch.stdout is not None
        for how in ("fast", "immediate"):
            database.stop(how)
            known.run("create", "configmap", f"while-{how}")  # its token was seen a moment ago
            assert any(f"while-{how}".encode() in line for line in watch.stdout)
            said = product.command("job-token", "issue", "--project", JOBS_PROJECT, code=1)
            assert "cannot be used" in said
            assert "database.url" in said
            database.start()
            product.command("job-token", "issue", "--project", JOBS_PROJECT)
        assert watch.poll() is None
    product.command("job-token", "revoke", product.command("job-token", "list").splitlines()[2].split()[0])
    product.kas.wait_until(
        lambda: revoked.result("get", "namespaces").returncode != 0, "the revocation is in force", 10
    )
    known.run("delete", "configmap", "while-fast", "while-immediate")


@pytest.mark.covers("D-04")
def test_a_token_that_kas_has_not_seen_gets_a_503_while_the_database_is_away(
    product: Product, agent: Agent, database: PostgreSQL
) -> None:
    seen = product.job_token(JOBS_PROJECT)
    kubeconfig = chosen(product, product.kubeconfig(seen), agent)
    other = product.job_token(JOBS_PROJECT).read_text()
    kubeconfig.write_text(kubeconfig.read_text().replace(seen.read_text(), other))
    unseen = Kubectl(any_kubectl(), kubeconfig, product.folder)
    database.stop()
    said = unseen.run("get", "namespaces", fails=True)
    assert "who vouches for this token cannot be asked right now; try again" in said
    database.start()
    unseen.run("get", "namespaces")


@pytest.mark.covers("D-04")
def test_kas_that_is_killed_goes_on_with_what_the_database_holds(
    product: Product, agent: Agent, database: PostgreSQL
) -> None:
    kubectl = job(product, agent)
    assert product.kas is not None
    product.kas.stop(signal.SIGKILL)
    database.stop("immediate")
    database.start()
    product.start_kas()
    kubectl.run("get", "namespaces")


def test_the_password_and_every_token_stay_secret(
    product: Product, agent: Agent, database: PostgreSQL, password_file: Path
) -> None:
    kubectl = job(product, agent)
    kubectl.run("get", "namespaces")
    assert product.kas is not None
    secrets = [
        agent.token_file.read_text().strip(),
        *(file.read_text().strip() for file in product.folder.glob("job-*.token")),
    ]
    database.stop()
    said = product.command("agent", "list", code=1)
    kubectl.run("get", "namespaces")
    database.start()
    arguments = Path(f"/proc/{product.kas.popen.pid}/cmdline").read_text()
    for place in (product.kas.said(), said, arguments):
        assert not [secret for secret in (database.password, *secrets) if secret in place]
    held = database.dump()
    assert not [secret for secret in secrets if secret.split("-", 1)[1] in held]
    password_file.write_text("wrong")
    said = product.command("agent", "list", code=1)
    assert "password authentication failed" in said


@pytest.mark.covers("D-04")
async def test_processes_that_start_at_once_make_the_tables_once_and_write_one_after_the_other(
    database: PostgreSQL,
) -> None:
    async def one(number: int) -> list[int]:
        async with open_store(database.url, password=database.password) as store:
            return [(await store.agents.register("a/a", f"agent-{number}-{each}"))[0].id for each in range(5)]

    made = await asyncio.gather(*map(one, range(6)))
    ids = sorted(each for found in made for each in found)
    assert ids == list(range(ids[0], ids[0] + 30))
    async with open_store(database.url, password=database.password) as store:
        changes = await store.changes.since(0)
    assert [change.seq for change in changes] == sorted({change.seq for change in changes})


@pytest.mark.covers("D-04")
async def test_a_change_that_the_database_did_not_take_is_not_half_there(database: PostgreSQL) -> None:
    async with open_store(database.url, password=database.password) as store:
        agent, _ = await store.agents.register("a/a", "prod")
        await asyncio.to_thread(database.stop)
        with pytest.raises(StoreUnavailable):
            await store.agent_tokens.create(agent.id)
        await asyncio.to_thread(database.start)
        assert len(await store.agent_tokens.list(agent.id)) == 1
        await store.agent_tokens.create(agent.id)
        assert len(await store.agent_tokens.list(agent.id)) == 2
