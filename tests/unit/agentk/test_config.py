from __future__ import annotations

from pathlib import Path

import pytest

from agentk.config import Address, Settings, settings
from agentk.errors import ConfigurationError
from tests.fakes.certificates import Authority

TOKEN = "kasagent-0123456789012345678901234567890123456789abc"
ENVIRON = {"AGENTK_TOKEN": TOKEN, "POD_NAME": "agentk-0", "POD_NAMESPACE": "kas"}


def made(**options: object) -> Settings:
    environ = options.pop("environ", ENVIRON)
    return settings(**{"kas_address": "grpcs://kas.example:8150", "environ": environ} | options)  # type: ignore[arg-type]


def test_the_address_says_host_port_and_tls() -> None:
    kas = made(kas_address="grpcs://kas.example").kas
    assert (kas.address, kas.tls, kas.target) == (Address("kas.example", 8150), True, "kas.example:8150")
    kas = made(kas_address="grpc://[::1]:99").kas
    assert (kas.address, kas.tls, kas.target, str(kas)) == (Address("::1", 99), False, "[::1]:99", "grpc://[::1]:99")


@pytest.mark.covers("C-05")
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"kas_address": None}, "--kas-address (AGENTK_KAS_ADDRESS) is missing: use grpcs://HOST:8150"),
        ({"kas_address": "kas.example:8150"}, "use grpcs://HOST:8150"),
        ({"kas_address": "https://kas.example"}, "use grpcs://HOST:8150"),
        ({"kas_address": "grpcs://kas.example/path"}, "use grpcs://HOST:8150"),
        ({"kas_address": "grpcs://kas.example:port"}, "use grpcs://HOST:8150"),
        ({"kas_address": "grpcs://token@kas.example"}, "use grpcs://HOST:8150"),
        ({"environ": {}}, "the agent token is missing"),
        ({"environ": {"AGENTK_TOKEN": "two words"}}, "AGENTK_TOKEN: this is not an agent token"),
        ({"environ": {"AGENTK_TOKEN": "x" * 2000}}, "AGENTK_TOKEN: this is not an agent token"),
        ({"token_file": Path("/nowhere/token"), "environ": {}}, "--token-file /nowhere/token: No such file"),
        ({"token_file": Path("/nowhere/token")}, "both given"),
        ({"ca_cert_file": Path("/nowhere/ca.pem")}, "--ca-cert-file /nowhere/ca.pem: No such file"),
        ({"kubeconfig": Path("/nowhere/config")}, "--kubeconfig /nowhere/config: no such file"),
        ({"log_format": "xml"}, "--log-format 'xml': use json or console"),
        ({"log_level": "loud"}, "--log-level 'loud': use one of debug, info"),
        ({"observability_listen": "8080"}, "--observability-listen '8080': use HOST:PORT"),
        ({"observability_listen": "localhost:99999"}, "use HOST:PORT"),
        ({"head_timeout_s": 0}, "--head-timeout"),
        ({"instance": "a b"}, "--instance 'a b'"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_the_option_and_the_remedy(options: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        made(**options)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_the_token_file_is_read_again_each_time_and_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    wanted = made(token_file=file, environ={"POD_NAME": "p"})
    assert wanted.agent_token() == TOKEN.encode()
    file.write_text("kasagent-next")
    assert wanted.agent_token() == b"kasagent-next"
    file.write_text("")
    with pytest.raises(ConfigurationError, match="it is empty"):
        wanted.agent_token()


def test_a_token_of_the_environment_is_not_in_the_repr() -> None:
    wanted = made()
    assert wanted.agent_token() == TOKEN.encode()
    assert TOKEN not in repr(wanted)


@pytest.mark.covers("T31")
def test_a_ca_file_must_hold_certificates_and_each_must_be_whole(tmp_path: Path) -> None:
    good = Path(Authority(tmp_path).ca).read_bytes()
    file = tmp_path / "some.pem"
    file.write_bytes(good)
    assert made(ca_cert_file=file).kas_ca() == good
    assert made().kas_ca() is None
    for bad in (b"-----BEGIN CERTIFICATE-----\n", b"-----BEGIN CERTIFICATE-----\nAA!!\n-----END CERTIFICATE-----\n"):
        for content in (good + bad, bad + good, bad):
            file.write_bytes(content)
            with pytest.raises(ConfigurationError, match="malformed"):
                made(ca_cert_file=file)
    file.write_text("-----BEGIN PRIVATE KEY-----\n")
    with pytest.raises(ConfigurationError, match="no PEM certificate"):
        made(ca_cert_file=file)


def test_the_instance_is_the_pod_or_else_the_host() -> None:
    assert made().instance == "kas/agentk-0"
    assert made(environ={"AGENTK_TOKEN": "t"}).instance
    assert made(instance="mine").instance == "mine"


def test_observability_is_local_by_default_and_can_be_off() -> None:
    assert made().observability == Address("127.0.0.1", 8080)
    assert made(observability_listen="[::]:0").observability == Address("::", 0)
    assert made(observability_listen="off").observability is None


def test_the_proxy_is_that_of_the_way_to_kas() -> None:
    token = {"AGENTK_TOKEN": TOKEN, "HTTPS_PROXY": "http://joe:secret@proxy:3128"}
    assert str(made(kas_address="grpcs://kas.example.com:8150", environ=token).proxy) == "proxy:3128"
    assert made(kas_address="grpcs://localhost:8150", environ=token).proxy is None
    assert (
        made(kas_address="grpcs://kas.example.com:8150", environ={**token, "NO_PROXY": "kas.example.com"}).proxy is None
    )
    assert "secret" not in repr(made(kas_address="grpcs://kas.example.com:8150", environ=token))


def test_a_proxy_that_cannot_be_used_is_told_without_its_login() -> None:
    token = {"AGENTK_TOKEN": TOKEN, "HTTPS_PROXY": "https://joe:secret@proxy:3128"}
    with pytest.raises(ConfigurationError, match="^HTTPS_PROXY: ") as error:
        made(kas_address="grpcs://kas.example.com:8150", environ=token)
    assert "secret" not in str(error.value)
