from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from kas import pki
from kas.errors import ConfigurationError
from kas.pki import KeyPair, OwnCa, describe

START = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = ("kas.example.com", "127.0.0.1", "::1")
DAY = timedelta(days=1)


class Authority:
    """An OwnCa whose time stands still until it is moved."""

    def __init__(self, folder: Path, names: Sequence[str] = NAMES) -> None:
        self.now = START
        self.folder = folder
        self.ca = OwnCa(folder, names, lambda: self.now.timestamp())

    def bundle(self) -> list[x509.Certificate]:
        return x509.load_pem_x509_certificates(self.ca.bundle())

    def accepts(self, trusted: Sequence[x509.Certificate], pair: KeyPair, name: str = "kas.example.com") -> bool:
        """What a client would say that trusts these."""
        leaf, *chain = x509.load_pem_x509_certificates(pair.chain)
        policy = PolicyBuilder().store(Store(trusted)).time(self.now)
        try:
            policy.build_server_verifier(x509.DNSName(name)).verify(leaf, chain)
        except VerificationError:
            return False
        return True


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "state" / "pki")


def test_the_first_start_makes_a_ca_and_a_leaf_that_its_clients_accept(authority: Authority):
    pair = authority.ca.ensure()
    assert authority.accepts(authority.bundle(), pair)
    assert not authority.accepts(authority.bundle(), pair, "other.example.com")
    assert set(describe(pair).names) == set(NAMES)
    assert describe(pair).not_after == START + pki.LEAF_LIFE


def test_the_next_start_makes_nothing(authority: Authority):
    first = authority.ca.ensure()
    bundle = authority.ca.bundle()
    assert authority.ca.ensure() == first
    assert authority.ca.bundle() == bundle


def test_nobody_else_can_read_the_keys(authority: Authority):
    authority.ca.ensure()
    modes = {path.name: path.stat().st_mode & 0o777 for path in authority.folder.iterdir()}
    assert modes == {"ca.pem": 0o600, "leaf.pem": 0o600, "lock": 0o600, "ca.crt": 0o644}
    assert authority.folder.stat().st_mode & 0o777 == 0o700
    assert b"PRIVATE" not in authority.ca.bundle()


def test_the_representation_of_a_pair_hides_its_key(authority: Authority):
    assert "PRIVATE" not in repr(authority.ca.ensure())


def test_a_leaf_is_renewed_after_two_thirds_of_its_life_and_not_before(authority: Authority):
    first = authority.ca.ensure()
    authority.now += 59 * DAY
    assert authority.ca.ensure() == first
    authority.now += 2 * DAY
    second = authority.ca.ensure()
    assert second != first
    assert authority.accepts(authority.bundle(), second)


def test_a_leaf_for_other_names_is_made_at_once(authority: Authority):
    authority.ca.ensure()
    renamed = Authority(authority.folder, ["kas.example.org"])
    assert renamed.accepts(authority.bundle(), renamed.ca.ensure(), "kas.example.org")


def test_a_clock_that_went_back_before_the_leaf_makes_it_anew(authority: Authority):
    first = authority.ca.ensure()
    authority.now -= timedelta(minutes=30)
    assert authority.ca.ensure() == first, "backdated: clocks differ by minutes"
    authority.now -= DAY
    assert authority.ca.ensure() != first


def test_over_twenty_years_nobody_who_trusts_an_unexpired_bundle_is_ever_refused(authority: Authority):
    handed_out: list[tuple[datetime, list[x509.Certificate]]] = []
    for _ in range(0, 20 * 365, 20):
        pair = authority.ca.ensure()
        bundle = authority.bundle()
        if not handed_out or handed_out[-1][1] != bundle:
            handed_out.append((max(one.not_valid_after_utc for one in bundle), bundle))
        for expires, trusted in handed_out:
            assert expires < authority.now or authority.accepts(trusted, pair)
        authority.now += 20 * DAY
    assert len(handed_out) == 5  # three CAs; each appears beside the one before and then stands alone


def test_a_ca_that_has_expired_while_kas_was_off_is_replaced(authority: Authority):
    authority.ca.ensure()
    authority.now += 12 * 365 * DAY
    pair = authority.ca.ensure()
    assert len(authority.bundle()) == 1
    assert authority.accepts(authority.bundle(), pair)


@pytest.mark.covers("D-06")
@pytest.mark.parametrize("victim", ["leaf.pem", "ca.crt"])
@pytest.mark.parametrize("content", [b"", b"damaged", None])
def test_what_can_be_made_again_is_made_again(authority: Authority, victim: str, content: bytes | None):
    authority.ca.ensure()
    trusted = authority.bundle()
    path = authority.folder / victim
    path.unlink() if content is None else path.write_bytes(content)
    pair = authority.ca.ensure()
    assert authority.accepts(trusted, pair)
    assert authority.bundle() == trusted


def test_a_damaged_ca_is_not_silently_replaced(authority: Authority):
    authority.ca.ensure()
    (authority.folder / "ca.pem").write_bytes(b"damaged")
    with pytest.raises(ConfigurationError, match=r"ca.pem is damaged: restore it from a backup; or remove"):
        authority.ca.ensure()


@pytest.mark.covers("C-05")
def test_a_ca_key_that_everybody_may_read_is_refused(authority: Authority):
    authority.ca.ensure()
    (authority.folder / "ca.pem").chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod o-r"):
        authority.ca.ensure()


def test_a_folder_that_cannot_be_made_says_so(tmp_path: Path):
    (tmp_path / "state").write_text("")
    with pytest.raises(ConfigurationError, match=r"state_dir: .* cannot be used: Not a directory"):
        Authority(tmp_path / "state" / "pki").ca.ensure()


@pytest.mark.covers("D-06")
def test_a_crash_while_writing_leaves_the_old_file_and_no_rubbish(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
):
    first = authority.ca.ensure()
    before = {path.name: path.read_bytes() for path in authority.folder.iterdir()}
    authority.now += 61 * DAY

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(ConfigurationError, match="No space left on device"):
            authority.ca.ensure()
    assert {path.name: path.read_bytes() for path in authority.folder.iterdir()} == before
    assert authority.ca.ensure() != first


def test_processes_that_start_at_once_agree_on_one_ca(tmp_path: Path):
    pairs: list[KeyPair] = []

    def start() -> None:
        pairs.append(Authority(tmp_path / "pki").ca.ensure())

    threads = [threading.Thread(target=start) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pairs) == 5
    assert len(set(pairs)) == 1


def test_openssl_accepts_the_chain_in_a_real_handshake(tmp_path: Path):
    ca = OwnCa(tmp_path, ["localhost"], lambda: datetime.now(UTC).timestamp())
    pair = ca.ensure()
    file = tmp_path / "both.pem"
    file.write_bytes(pair.key + pair.chain)
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(file)
    client_context = ssl.create_default_context(cadata=ca.bundle().decode())
    client_context.verify_flags |= ssl.VERIFY_X509_STRICT
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server, server_hostname="localhost")
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    for side in (client, server, client, server):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    assert client.getpeercert()["subject"] == ((("commonName", "kas"),),)  # type: ignore[index]
