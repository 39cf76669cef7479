"""`agentk doctor` by its real command, in front of peers that have one fault each."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from kas.demo.practice_cluster.cluster import PracticeCluster
from kas.demo.practice_cluster.identity import Attributes, User
from tests.fakes.api_server import Call, FakeApiServer
from tests.fakes.certificates import Authority
from tests.fakes.connect_proxy import ConnectProxy
from tests.fakes.kas import FakeKas
from tests.support.doctor import Examined, examined
from tests.support.raw_server import serving

TOKEN = "kasagent-" + "x" * 43


@pytest.fixture
def event_loop_policy() -> asyncio.AbstractEventLoopPolicy:
    return asyncio.DefaultEventLoopPolicy()  # start_tls of a server in clear text is not uvloop's


@dataclass
class Case:
    """One agentk to examine; everything that is not given is well."""

    folder: Path
    kas: str = "grpcs://127.0.0.1:1"
    ca: Path | None = None
    kubeconfig: Path | None = None
    words: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)

    async def examine(self) -> Examined:
        token = self.folder / "token"
        token.touch(0o600)
        token.write_text(TOKEN)
        words: list[Any] = ["--kas-address", self.kas, "--token-file", token, *self.words]
        words += ["--ca-cert-file", self.ca] if self.ca else []
        words += ["--kubeconfig", self.kubeconfig] if self.kubeconfig else []
        return await asyncio.to_thread(examined, "agentk", *words, environment=self.environment)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    while await reader.read(65536):
        pass


async def html(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(65536)
    writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()


def kas_tls(pair: tuple[Path, Path], *alpn: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def kubeconfig(folder: Path, port: int) -> Path:
    """Leads to an API server in clear on this machine."""
    file = folder / "config"
    document = {
        "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        "clusters": [{"name": "x", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "x", "user": {"token": "t"}}],
    }
    file.write_text(json.dumps(document))
    return file


# ---- the way to kas ---------------------------------------------------------------------------------------------------


async def test_a_mistake_in_the_options_is_broken_and_nothing_else_is_guessed(case: Case) -> None:
    case.kas = "https://127.0.0.1:1"
    found = await case.examine()
    assert (found.code, found.broken) == (1, ["configuration"])
    assert "--kas-address" in found.rows["configuration"].said
    assert "httptools" in found.rows["programs"].said
    assert "llhttp" in found.rows["programs"].said


async def test_a_closed_port_is_told_at_tcp_and_what_lies_behind_it_is_skipped(case: Case) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        case.kas = f"grpcs://127.0.0.1:{nobody.getsockname()[1]}"
        found = await case.examine()
    assert found.code == 1
    assert "kas: TCP" in found.broken
    assert "refuses" in found.rows["kas: TCP"].said
    assert "--kas-address" in found.rows["kas: TCP"].remedy
    assert found.rows["kas: gRPC"] == ("skipped", "not looked at: kas: TCP is broken", "")


async def test_an_unknown_host_is_told_at_dns(case: Case) -> None:
    case.kas = "grpcs://no-such-host.invalid:8150"
    found = await case.examine()
    assert "kas: DNS" in found.broken
    assert "no-such-host.invalid" in found.rows["kas: DNS"].said


async def test_a_token_of_another_kind_and_one_that_everybody_may_read_are_told_without_showing_them(
    case: Case,
) -> None:
    odd = case.folder / "odd"
    odd.write_text("kasjob-secretsecretsecret")
    case.words = ["--token-file", str(odd)]
    found = await case.examine()
    assert "token" in found.broken
    assert "secretsecret" not in json.dumps(found.rows)
    odd.write_text(TOKEN)
    odd.chmod(0o644)
    found = await case.examine()
    assert found.warnings[0] == "token"
    assert "chmod" in found.rows["token"].remedy
    odd.unlink()
    assert "No such file" in (await case.examine()).rows["token"].said


async def test_a_certificate_of_another_ca_is_shown_with_both_names(case: Case) -> None:
    theirs, case.ca = Authority(case.folder, "their CA"), Authority(case.folder, "our CA").ca
    async with serving(silent, kas_tls(theirs.issue("kas.example.com"), "h2")) as port:
        case.kas = f"grpcs://127.0.0.1:{port}"
        found = await case.examine()
    row = found.rows["kas: TLS"]
    assert (found.code, row.state) == (1, "broken")
    assert "certificate of kas.example.com (names: kas.example.com, 127.0.0.1), issued by their CA" in row.said
    assert "--ca-cert-file holds our CA" in row.said
    assert "inspects TLS" in row.remedy


@pytest.mark.covers("T-24")
async def test_an_expired_certificate_is_told_with_its_dates(case: Case) -> None:
    authority = Authority(case.folder)
    case.ca = authority.ca
    pair = authority.issue("kas.example.com", ends_in=timedelta(days=-3))
    async with serving(silent, kas_tls(pair, "h2")) as port:
        case.kas = f"grpcs://127.0.0.1:{port}"
        found = await case.examine()
    row = found.rows["kas: TLS"]
    assert row.state == "broken"
    assert "has expired" in row.said
    assert f"{datetime.now(UTC) - timedelta(days=3):%Y-%m-%d}" in row.said
    assert "renew" in row.remedy


async def test_a_certificate_that_ends_soon_is_a_warning(case: Case) -> None:
    authority = Authority(case.folder)
    case.ca = authority.ca
    async with serving(silent, kas_tls(authority.issue("kas", ends_in=timedelta(days=2, hours=1)), "h2")) as port:
        case.kas = f"grpcs://127.0.0.1:{port}"
        found = await case.examine()
    assert "kas: TLS" in found.warnings
    assert "ends in 2 days" in found.rows["kas: TLS"].said


@pytest.mark.covers("T-24")
async def test_a_certificate_for_another_name_is_told_with_its_names(case: Case) -> None:
    authority = Authority(case.folder)
    case.ca = authority.ca
    async with serving(silent, kas_tls(authority.issue("other.example.com", "10.0.0.1"), "h2")) as port:
        case.kas = f"grpcs://127.0.0.1:{port}"
        found = await case.examine()
    row = found.rows["kas: TLS"]
    assert row.state == "broken"
    assert "other.example.com, 10.0.0.1" in row.said
    assert "another name" in row.said


async def test_a_peer_that_speaks_http_1_alone_is_told_at_http_2(case: Case) -> None:
    authority = Authority(case.folder)
    case.ca = authority.ca
    async with serving(silent, kas_tls(authority.issue("kas"), "http/1.1")) as port:
        case.kas = f"grpcs://127.0.0.1:{port}"
        found = await case.examine()
    assert found.rows["kas: TLS"].state == "ok"
    assert "kas: HTTP/2" in found.broken
    assert "HTTP/1.1" in found.rows["kas: HTTP/2"].remedy


async def test_a_peer_that_speaks_no_tls_is_told_at_tls(case: Case) -> None:
    async with serving(html, None) as port:
        case.kas = f"grpcs://127.0.0.1:{port}"
        found = await case.examine()
    assert "kas: TLS" in found.broken
    assert "speaks no TLS" in found.rows["kas: TLS"].said


async def test_what_answers_html_instead_of_grpc_is_told_at_grpc(case: Case) -> None:
    async with serving(html, None) as port:
        case.kas = f"grpc://127.0.0.1:{port}"
        found = await case.examine()
    assert "kas: gRPC" in found.broken


async def test_a_proxy_that_holds_the_stream_back_is_told_at_grpc(case: Case) -> None:
    async def settings_only(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")  # HTTP/2 begins, and nothing follows
        await silent(reader, writer)

    async with serving(settings_only, None) as port:
        case.kas = f"grpc://127.0.0.1:{port}"
        found = await case.examine()
    assert "kas: gRPC" in found.broken
    assert "buffering" in found.rows["kas: gRPC"].remedy


# ---- the proxy --------------------------------------------------------------------------------------------------------


@pytest.fixture
async def proxied(case: Case) -> AsyncIterator[tuple[Case, ConnectProxy]]:
    """A kas that can be reached only through a proxy, which knows its name."""
    async with FakeKas() as kas, ConnectProxy({"kas.test": ("127.0.0.1", kas.port)}) as proxy:
        case.kas = "grpc://kas.test:8150"
        case.environment = {"HTTPS_PROXY": proxy.url}
        yield case, proxy


async def test_the_way_through_a_proxy_is_looked_at_as_agentk_takes_it(proxied: tuple[Case, ConnectProxy]) -> None:
    case, proxy = proxied
    found = await case.examine()
    assert f"through 127.0.0.1:{proxy.port}" in found.rows["kas: proxy"].said
    assert found.rows["kas: CONNECT"].state == "ok"
    assert set(proxy.asked) == {"kas.test:8150"}
    assert found.rows["kas: gRPC"].said == "the answer is no refusal"  # it went through: this kas refuses nobody


@pytest.mark.parametrize(
    ("status", "remedy"), [(403, "allow CONNECT"), (407, "USER:PASSWORD"), (502, "cannot reach kas")]
)
async def test_a_proxy_that_says_no_is_told_at_connect(
    proxied: tuple[Case, ConnectProxy], status: int, remedy: str
) -> None:
    case, proxy = proxied
    proxy.status = status
    found = await case.examine()
    assert (found.code, found.rows["kas: CONNECT"].state) == (1, "broken")
    assert f"answers {status} to CONNECT kas.test:8150" in found.rows["kas: CONNECT"].said
    assert remedy in found.rows["kas: CONNECT"].remedy
    assert found.rows["kas: gRPC"].state == "skipped"


async def test_what_is_no_proxy_at_all_is_told_at_connect(proxied: tuple[Case, ConnectProxy]) -> None:
    case, proxy = proxied
    proxy.says = b"SSH-2.0-OpenSSH_9\r\n\r\n"
    assert "is no HTTP proxy" in (await case.examine()).rows["kas: CONNECT"].said


async def test_a_login_for_the_proxy_is_used_and_never_shown(proxied: tuple[Case, ConnectProxy]) -> None:
    case, proxy = proxied
    proxy.authorization = "Basic am9lOnA6YXNz"  # joe:p:ass
    case.environment = {"https_proxy": proxy.url.replace("//", "//joe:p%3Aass@")}
    found = await case.examine()
    assert found.rows["kas: CONNECT"].state == "ok"
    assert set(proxy.shown) == {proxy.authorization}
    said = json.dumps(found.rows)
    assert "ass@" not in said
    assert "am9l" not in said
    case.environment = {"https_proxy": "socks5://joe:p%3Aass@127.0.0.1"}
    found = await case.examine()
    assert found.broken == ["configuration"]
    assert "joe" not in json.dumps(found.rows)


async def test_no_proxy_leads_around_it(proxied: tuple[Case, ConnectProxy]) -> None:
    case, proxy = proxied
    case.environment["NO_PROXY"] = "test"
    found = await case.examine()
    assert "NO_PROXY" in found.rows["kas: proxy"].said
    assert "kas: DNS" in found.broken
    assert proxy.asked == []


# ---- the API server ---------------------------------------------------------------------------------------------------


@pytest.fixture
async def cluster(case: Case) -> AsyncIterator[PracticeCluster]:
    async with PracticeCluster(case.folder / "cluster") as cluster:
        case.kubeconfig = cluster.kubeconfig
        yield cluster


@pytest.mark.usefixtures("cluster")
async def test_an_api_server_that_is_well_is_well_hop_by_hop(case: Case) -> None:
    rows = (await case.examine()).rows
    states = {name: row.state for name, row in rows.items() if name.startswith(("API", "RBAC"))}
    assert set(states.values()) == {"ok", "skipped"}
    assert states.pop("API server: DNS") == "skipped"  # an address
    assert states.pop("RBAC: exec") == "skipped"  # jobs act as themselves


async def test_the_proxy_does_not_lead_to_the_api_server(case: Case, cluster: PracticeCluster) -> None:
    async with ConnectProxy() as proxy:
        case.environment = {"HTTPS_PROXY": proxy.url, "https_proxy": proxy.url, "HTTP_PROXY": proxy.url}
        found = await case.examine()
    assert found.rows["API server: token"].state == "ok"
    assert proxy.asked == []
    assert len(cluster.requests) > 0


async def test_no_right_to_impersonate_is_a_warning_and_broken_where_it_is_needed(
    case: Case, cluster: PracticeCluster
) -> None:
    cluster.access.forbidden.append(lambda user, wanted: wanted.verb == "impersonate")
    rows = (await case.examine()).rows
    assert rows["RBAC: impersonate"].state == "warning"
    assert "nobody" in rows["RBAC: impersonate"].said
    assert "deploy/rbac" in rows["RBAC: impersonate"].remedy
    assert rows["RBAC: exec"].state == "ok"
    case.words = ["--access-as", "ci_job"]
    rows = (await case.examine()).rows
    assert rows["RBAC: impersonate"].state == "broken"
    assert rows["RBAC: exec"].state == "skipped"
    case.words = ["--access-as", "agent"]
    rows = (await case.examine()).rows
    assert rows["RBAC: impersonate"].state == "skipped"
    assert rows["RBAC: exec"].state == "ok"


async def test_a_lacking_part_of_the_right_to_impersonate_is_named(case: Case, cluster: PracticeCluster) -> None:
    def rule(user: User, wanted: Attributes) -> bool:
        return wanted.verb == "impersonate" and wanted.resource in ("groups", "userextras")

    cluster.access.forbidden.append(rule)
    row = (await case.examine()).rows["RBAC: impersonate"]
    assert row.state == "warning"
    assert "may impersonate users, serviceaccounts, uids, but not groups, userextras" in row.said


@pytest.mark.parametrize(("verb", "said"), [("get", "may not get pods/exec"), ("create", "may not create pods/exec")])
async def test_exec_needs_both_verbs_where_jobs_act_as_agentk(
    case: Case, cluster: PracticeCluster, verb: str, said: str
) -> None:
    cluster.access.forbidden.append(lambda user, wanted: (wanted.verb, wanted.subresource) == (verb, "exec"))
    case.words = ["--access-as", "agent"]
    row = (await case.examine()).rows["RBAC: exec"]
    assert row.state == "warning"
    assert said in row.said


async def test_a_credential_that_the_cluster_does_not_know_is_told(case: Case, cluster: PracticeCluster) -> None:
    cluster.tokens.clear()
    found = await case.examine()
    assert {"API server: version", "API server: token"} & set(found.broken)
    assert any("401" in row.said for row in found.rows.values())


async def test_a_kubeconfig_that_is_broken_is_told_and_kas_is_looked_at_all_the_same(case: Case) -> None:
    case.kubeconfig = case.folder / "config"
    case.kubeconfig.write_text("{")
    found = await case.examine()
    assert {"kas: TCP", "API server: credential"} <= set(found.broken)


async def test_a_clock_that_is_wrong_by_an_hour_is_broken(case: Case) -> None:
    async def an_hour_ago(call: Call) -> None:
        date = format_datetime(datetime.now(UTC) - timedelta(hours=1), usegmt=True).encode()
        await call.say(b'HTTP/1.1 200 OK\r\nDate: %s\r\nContent-Length: 21\r\n\r\n{"gitVersion":"v1.0"}' % date[:29])

    async with FakeApiServer(an_hour_ago) as server:
        case.kubeconfig = kubeconfig(case.folder, server.port)
        found = await case.examine()
    assert found.rows["API server: clock"].state == "broken"
    assert "NTP" in found.rows["API server: clock"].remedy
    assert "API server: token" in found.broken  # it says nothing of a review


@pytest.mark.parametrize("in_pieces", [False, True])
async def test_impersonation_of_certain_names_alone_counts_with_those_names(case: Case, in_pieces: bool) -> None:
    async def answer(call: Call) -> None:
        asked = json.loads(await call.body()) if call.method == b"POST" else {}
        status: dict[str, Any] = {
            "allowed": asked.get("spec", {}).get("resourceAttributes", {}).get("verb") != "impersonate"
        }
        if asked.get("kind") == "SelfSubjectRulesReview":
            rule = {"verbs": ["impersonate"], "resources": ["users", "groups"], "resourceNames": ["ci-deployer", "ci"]}
            status = {"resourceRules": [rule, {"verbs": ["get"], "resources": ["pods"]}, None], "incomplete": False}
        body = json.dumps({"gitVersion": "v1.33.0", "status": status}).encode()
        code = b"201 Created" if asked else b"200 OK"
        whole = b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (code, len(body), body)
        if not in_pieces:
            await call.say(whole)
            return
        await call.say(whole[:-20])
        await asyncio.sleep(0.05)  # as an API server does whose answer is larger than one record of TLS
        await call.say(whole[-20:])

    async with FakeApiServer(answer) as server:
        case.kubeconfig = kubeconfig(case.folder, server.port)
        rows = (await case.examine()).rows
    assert rows["RBAC: impersonate"].state == "ok"
    assert "users (only ci-deployer, ci), groups (only ci-deployer, ci)" in rows["RBAC: impersonate"].said
    assert rows["RBAC: exec"].state == "skipped"


async def test_what_the_cluster_does_not_tell_of_certain_names_is_said(case: Case) -> None:
    async def answer(call: Call) -> None:
        asked = json.loads(await call.body()) if call.method == b"POST" else {}
        if asked.get("kind") == "SelfSubjectRulesReview":
            await call.say(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
            return
        body = json.dumps({"gitVersion": "v1.33.0", "status": {"allowed": False}}).encode()
        code = b"201 Created" if asked else b"200 OK"
        await call.say(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (code, len(body), body))

    async with FakeApiServer(answer) as server:
        case.kubeconfig = kubeconfig(case.folder, server.port)
        row = (await case.examine()).rows["RBAC: impersonate"]
    assert row.state == "warning"
    assert row.said.endswith("(of rights to certain names alone the API server does not tell: status 503)")
