from __future__ import annotations

from pathlib import Path

import pytest

from agentk.config import Address, Settings, settings
from agentk.errors import ConfigurationError

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


def test_a_ca_file_must_hold_a_certificate(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("-----BEGIN CERTIFICATE-----\n")
    assert made(ca_cert_file=file).kas_ca() == b"-----BEGIN CERTIFICATE-----\n"
    assert made().kas_ca() is None
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
