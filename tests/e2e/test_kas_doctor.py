"""`kas doctor` beside a running kas, by the real command, with one fault at a time."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.fakes.certificates import Authority
from tests.support.doctor import Examined, examined, run
from tests.support.nginx import nginx
from tests.support.product import Product


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Product]:
    """A kas for one test alone."""
    with Product(tmp_path / "own") as running:
        yield running


def examine(product: Product, **changed: Any) -> Examined:
    """With ``changed`` in kas.yaml, which the running kas has not read."""
    product.write_config(**changed)
    return examined("kas", "--config", product.config_file)


def tls(pair: tuple[Path, Path], authority: Authority) -> dict[str, str]:
    return {"certificate_file": str(pair[0]), "key_file": str(pair[1]), "ca_file": str(authority.ca)}


def test_all_is_well_and_nothing_is_changed(product: Product) -> None:
    product.register("looked-at", "platform/clusters")
    before = sorted(product.state.rglob("*"))
    found = examine(product)
    assert (found.code, found.broken, found.warnings) == (0, [], [])
    assert {"agent_api outside: gRPC", "kubernetes_api outside: HTTP", "management_api outside: HTTP"} <= set(
        found.rows
    )
    assert sorted(product.state.rglob("*")) == before
    done = run("kas", "--config", product.config_file)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "All is well.")


def test_a_kas_that_does_not_run_is_one_finding_and_its_doors_are_not_looked_at(own: Product) -> None:
    assert own.kas is not None
    own.kas.stop()
    found = examine(own)
    assert (found.code, found.broken) == (1, ["kas process"])
    assert found.rows["agent_api: listens"].state == "skipped"


def test_a_mistake_in_kas_yaml_is_told_where_it_is(tmp_path: Path) -> None:
    file = tmp_path / "kas.yaml"
    file.write_text("state_dir: state\nagent_api:\n  listn: 0.0.0.0:8150\n")
    found = examined("kas", "--config", file)
    assert (found.code, found.broken) == (1, ["configuration"])
    assert "kas.yaml:3" in found.rows["configuration"].said
    assert list(tmp_path.iterdir()) == [file]


def test_before_the_first_start_nothing_is_made(tmp_path: Path) -> None:
    (tmp_path / "kas.yaml").write_text(f"state_dir: state\nconfiguration_repositories: [{{root: {tmp_path}}}]\n")
    found = examined("kas", "--config", tmp_path / "kas.yaml")
    assert found.broken == ["kas process"]
    assert found.warnings[0] == "state directory"
    assert not (tmp_path / "state").exists()


def test_a_state_directory_that_others_may_look_into_and_what_is_not_recorded_are_warnings(own: Product) -> None:
    own.state.chmod(0o755)
    found = examine(own, audit={"enabled": False})
    assert (found.code, found.warnings) == (3, ["state directory", "audit log"])
    assert "chmod 700" in found.rows["state directory"].remedy
    (own.state / "audit.key").unlink()
    own.state.chmod(0o700)
    assert examine(own).warnings == ["audit log"]


def test_a_database_of_a_newer_kas_and_one_that_is_none_are_broken(own: Product) -> None:
    with sqlite3.connect(own.state / "kas.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    found = examine(own)
    assert (found.code, found.broken) == (1, ["database"])
    assert "newer kas" in found.rows["database"].said
    other = own.folder / "other.db"
    other.write_bytes(b"no database at all, but long enough to be looked at" * 20)
    found = examine(own, database={"url": f"sqlite:///{other}"})
    assert "database" in found.broken


def test_certificates_that_are_expired_for_another_name_or_soon_over_are_told(own: Product) -> None:
    authority = Authority(own.folder)
    expired = tls(authority.issue("localhost", ends_in=timedelta(days=-1)), authority)
    found = examine(own, kubernetes_api={"tls": expired})
    assert "kubernetes_api: certificate" in found.broken
    assert "expired" in found.rows["kubernetes_api: certificate"].said
    other = tls(authority.issue("other.example.com", "10.0.0.1"), authority)
    found = examine(own, kubernetes_api={"tls": other})
    assert "not for localhost of kubernetes_api.external_url" in found.rows["kubernetes_api: certificate"].said
    soon = tls(authority.issue("localhost", ends_in=timedelta(days=5)), authority)
    found = examine(own, kubernetes_api={"tls": soon})
    assert found.rows["kubernetes_api: certificate"].state == "warning"
    assert "ends on" in found.rows["kubernetes_api: certificate"].said


def test_a_certificate_that_kas_has_not_read_again_is_told(own: Product) -> None:
    authority = Authority(own.folder)
    found = examine(own, kubernetes_api={"tls": tls(authority.issue("localhost"), authority)})
    assert found.code == 1
    assert found.warnings == ["kubernetes_api: listens"]
    assert "systemctl reload kas" in found.rows["kubernetes_api: listens"].remedy
    assert found.broken == ["kubernetes_api outside: TLS"]  # clients are told of a CA that is not in force yet
    assert "test CA" in found.rows["kubernetes_api outside: TLS"].said


def test_external_urls_that_lead_nowhere_are_told_at_the_hop(product: Product) -> None:
    found = examine(
        product,
        agent_api={"external_url": "grpcs://no-such-host.invalid:8150"},
        management_api={"external_url": "https://localhost:1"},
        kubernetes_api={"external_url": product.management_url},
    )
    assert found.code == 1
    assert found.broken == ["agent_api outside: DNS", "management_api outside: TCP", "kubernetes_api outside: HTTP"]
    assert "agent_api.external_url" in found.rows["agent_api outside: DNS"].remedy


def test_a_proxy_in_front_that_does_not_pass_grpc_is_told(product: Product, tmp_path: Path) -> None:
    changes = {"listen 8150 ssl http2;": "listen 8150 ssl;"}
    with nginx("nginx-reencrypted", product, tmp_path / "nginx", changes) as front:
        found = examine(
            product,
            agent_api={"external_url": front.agents},
            kubernetes_api={"external_url": front.kubernetes},
        )
    assert (found.code, found.broken) == (1, ["agent_api outside: HTTP/2"])


def test_a_port_that_another_program_has_taken_is_told(product: Product) -> None:
    taken = f"127.0.0.1:{urlsplit(product.kas.observability if product.kas else '').port}"
    free = {"observability": {"listen": "127.0.0.1:1"}}
    found = examine(product, management_api={"listen": taken}, **free)
    assert found.broken[:2] == ["management_api: listens", "observability: listens"]
    assert "no TLS" in found.rows["management_api: listens"].said


def test_no_secret_is_shown(product: Product, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.touch(0o600)
    secret.write_text("correct-horse")
    product.write_config(
        database={"url": "postgresql+asyncpg://kas@127.0.0.1:1/kas", "password_file": str(secret)},
        issuers=[{"name": "gl", "type": "gitlab", "url": "https://localhost:1", "api_token_file": str(secret)}],
    )
    done = run("kas", "--config", product.config_file)
    assert done.returncode == 1
    assert "correct-horse" not in done.stdout + done.stderr
    key = (product.state / "audit.key").read_text().strip()
    assert key not in done.stdout
    assert json.dumps(dict(os.environ)) not in done.stdout
