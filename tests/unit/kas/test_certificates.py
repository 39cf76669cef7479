from __future__ import annotations

import os
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kas.certificates import Certificates, CertificateSource
from kas.config import Config, load_config
from kas.errors import ConfigurationError
from kas.pki import OwnCa

NOW = datetime.now(UTC).timestamp()


def clock() -> float:
    return NOW


def given(folder: Path, *names: str, door: str = "kubernetes_api", extra: str = "") -> Config:
    """A configuration with given files for one door, made by a CA of somebody else."""
    folder.mkdir(parents=True, exist_ok=True)
    ca = OwnCa(folder / "theirs", names, clock)
    pair = ca.ensure()
    (folder / "tls.crt").write_bytes(pair.chain)
    key = folder / "tls.key"
    key.touch(0o600)
    key.write_bytes(pair.key)
    (folder / "ca.crt").write_bytes(ca.bundle())
    return config(folder, f"{door}: {{tls: {{certificate_file: tls.crt, key_file: tls.key{extra}}}}}\n")


def config(folder: Path, text: str = "") -> Config:
    (folder / "kas.yaml").write_text("state_dir: state\n" + text)
    return load_config(folder / "kas.yaml")


def served(context: ssl.SSLContext) -> bytes:
    """The certificate that a server with this context shows, DER."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    blind.check_hostname = False
    blind.verify_mode = ssl.CERT_NONE
    client = blind.wrap_bio(to_client, to_server)
    server = context.wrap_bio(to_server, to_client, server_side=True)
    for side in (client, server, client, server):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return client.getpeercert(binary_form=True) or b""


def pem(source: CertificateSource) -> bytes:
    end = "-----END CERTIFICATE-----"
    return ssl.PEM_cert_to_DER_cert(source.key_pair.chain.decode().partition(end)[0] + end)


def test_without_files_the_doors_share_a_certificate_of_kas_own_ca(tmp_path: Path):
    certificates = Certificates(config(tmp_path), clock)
    context = certificates["kubernetes_api"].ssl_context()
    assert served(context) == pem(certificates["kubernetes_api"]) == pem(certificates["agent_api"])
    assert certificates.client_ca("management_api") == (tmp_path / "state/pki/ca.crt").read_bytes()
    assert certificates.doubts() == []


def test_observability_speaks_plain_http_unless_it_has_files(tmp_path: Path):
    with pytest.raises(KeyError):
        Certificates(config(tmp_path), clock)["observability"]
    assert Certificates(given(tmp_path / "b", "localhost", door="observability"), clock)["observability"].names == (
        "localhost",
    )


def test_given_files_are_used_for_their_door_only(tmp_path: Path):
    certificates = Certificates(given(tmp_path, "kas.example.com"), clock)
    assert certificates["kubernetes_api"].names == ("kas.example.com",)
    assert "localhost" in certificates["management_api"].names
    assert certificates.client_ca("kubernetes_api") is None
    assert certificates.client_ca("management_api") is not None


def test_where_every_door_has_files_no_own_ca_is_made(tmp_path: Path):
    given(tmp_path, "localhost")
    tls = "{tls: {certificate_file: tls.crt, key_file: tls.key}}"
    certificates = Certificates(
        config(tmp_path, f"agent_api: {tls}\nmanagement_api: {tls}\nkubernetes_api: {tls}\n"), clock
    )
    assert not (tmp_path / "state").exists()
    assert certificates.client_ca("agent_api") is None


def test_a_ca_file_is_what_clients_are_told_to_trust(tmp_path: Path):
    certificates = Certificates(given(tmp_path, "localhost", extra=", ca_file: ca.crt"), clock)
    assert certificates.client_ca("kubernetes_api") == (tmp_path / "ca.crt").read_bytes()


def test_a_reload_changes_a_context_in_place(tmp_path: Path):
    certificates = Certificates(given(tmp_path, "localhost"), clock)
    context = certificates["kubernetes_api"].ssl_context()
    before = served(context)
    assert certificates.reload() == []
    given(tmp_path, "localhost", "kas.example.com")
    assert certificates.reload() == ["kubernetes_api"]
    assert served(context) != before
    assert served(context) == pem(certificates["kubernetes_api"])


@pytest.mark.covers("C-06")
@pytest.mark.parametrize("broken", ["tls.crt", "tls.key"])
def test_a_reload_of_a_broken_file_keeps_every_old_certificate(tmp_path: Path, broken: str):
    certificates = Certificates(given(tmp_path, "localhost"), clock)
    context = certificates["kubernetes_api"].ssl_context()
    before, repr_before = served(context), repr(certificates["management_api"])
    (tmp_path / broken).write_text("not PEM")
    with pytest.raises(ConfigurationError, match=r"kubernetes_api\.tls"):
        certificates.reload()
    assert served(context) == before
    assert repr(certificates["management_api"]) == repr_before


def test_a_key_of_another_certificate_is_told(tmp_path: Path):
    settings = given(tmp_path, "localhost")
    other = OwnCa(tmp_path / "another", ["localhost"], clock).ensure()
    (tmp_path / "tls.key").write_bytes(other.key)
    with pytest.raises(ConfigurationError, match="do not belong together"):
        Certificates(settings, clock)


@pytest.mark.covers("C-05")
def test_files_that_cannot_be_used_are_told_one_line_each(tmp_path: Path):
    settings = given(tmp_path, "localhost")
    (tmp_path / "tls.key").chmod(0o644)
    with pytest.raises(ConfigurationError, match=r"kubernetes_api\.tls\.key_file: every user may read .*: chmod o-r"):
        Certificates(settings, clock)
    os.unlink(tmp_path / "tls.crt")
    with pytest.raises(
        ConfigurationError, match=r"kubernetes_api\.tls\.certificate_file: .* cannot be read: No such file"
    ):
        Certificates(settings, clock)


def test_a_key_with_a_passphrase_is_told(tmp_path: Path):
    settings = given(tmp_path, "localhost")
    (tmp_path / "tls.key").write_text(
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIH0\n-----END ENCRYPTED PRIVATE KEY-----\n"
    )
    with pytest.raises(ConfigurationError, match="passphrase"):
        Certificates(settings, clock)


def test_the_own_cas_trouble_is_told_once(tmp_path: Path):
    (tmp_path / "state").write_text("")
    with pytest.raises(ConfigurationError) as caught:
        Certificates(config(tmp_path), clock)
    assert len(str(caught.value).splitlines()) == 1


def test_a_certificate_that_clients_will_refuse_is_doubted(tmp_path: Path):
    settings = given(tmp_path, "*.example.com")
    (doubt,) = Certificates(settings, clock).doubts()
    assert "the certificate is not for localhost of external_url (it is for *.example.com)" in doubt
    later = NOW + timedelta(days=91).total_seconds()
    doubts = Certificates(settings, lambda: later).doubts()
    assert any("expired on" in doubt for doubt in doubts)


def test_a_wildcard_covers_one_label(tmp_path: Path):
    given(tmp_path, "*.example.com")
    tls = "tls: {certificate_file: tls.crt, key_file: tls.key}"
    for name, count in (("kas.example.com", 0), ("a.kas.example.com", 1)):
        settings = config(tmp_path, f"kubernetes_api: {{external_url: 'https://{name}', {tls}}}\n")
        assert len(Certificates(settings, clock).doubts()) == count


def test_the_context_speaks_http_1_1_over_tls_1_2_or_newer(tmp_path: Path):
    context = Certificates(config(tmp_path), clock)["kubernetes_api"].ssl_context()
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_NONE


def test_a_hurried_reload_leaves_no_file_descriptors(tmp_path: Path):
    certificates = Certificates(given(tmp_path, "localhost"), clock)
    certificates["kubernetes_api"].ssl_context()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        certificates.reload()
    assert len(os.listdir("/proc/self/fd")) == before
