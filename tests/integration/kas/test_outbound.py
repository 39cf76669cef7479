"""kas asks other machines: everything that they can do wrong ends in one error that names the host and nothing secret."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from kas.outbound import Outbound, PeerUnavailable
from tests.fakes.connect_proxy import ConnectProxy
from tests.fakes.forge import Forge


@pytest.fixture
async def forge(tmp_path):
    async with Forge(tmp_path) as forge:
        forge.answers["/a"] = {"hello": "world"}
        yield forge


@pytest.fixture
async def outbound():
    async with Outbound("1") as outbound:
        yield outbound


async def test_an_answer_is_its_status_headers_and_body(forge, outbound):
    tls = forge.authority.client_context()
    assert await outbound.get_json(f"{forge.url}/a", tls=tls) == (200, {"hello": "world"})
    reply = await outbound.get(f"{forge.url}/missing", tls=tls)
    assert (reply.status, reply.headers["content-type"]) == (404, "application/json; charset=utf-8")


async def test_headers_and_bodies_are_sent_and_nothing_of_its_own_accord(forge, outbound):
    def mirror(request):
        return {name.lower(): value for name, value in request.headers.items()}

    forge.answers["/mirror"] = mirror
    tls = forge.authority.client_context()
    _, said = await outbound.get_json(f"{forge.url}/mirror", headers={"Job-Token": "t"}, tls=tls)
    assert said["job-token"] == "t"
    assert said["user-agent"] == "kas/1"
    assert set(said) <= {"host", "accept", "accept-encoding", "user-agent", "job-token"}


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"status": 500}, "answers 500"),
        ({"status": 503, "retry_after": 7}, "answers 503"),
        ({"status": 429, "retry_after": 7}, "answers 429"),
        ({"body": b"<html>"}, "not JSON"),
        ({"body": b"x" * 2000}, "more than 1000 bytes"),
        ({"delay_s": 5}, "does not answer within 0.2 s"),
        ({"cut": True}, "cannot be reached"),
    ],
    ids=str,
)
async def test_what_goes_wrong_names_the_host_and_no_secret(forge, outbound, knobs, said):
    for name, value in knobs.items():
        setattr(forge, name, value)
    with pytest.raises(PeerUnavailable) as caught:
        await outbound.get_json(
            f"{forge.url}/path?token=secret",
            headers={"Job-Token": "secret"},
            max_bytes=1000,
            timeout_s=0.2 if "delay_s" in knobs else 5,
            tls=forge.authority.client_context(),
        )
    assert said in str(caught.value)
    assert str(caught.value).startswith("localhost")
    assert "secret" not in repr(caught.value)
    assert caught.value.retry_after_s == knobs.get("retry_after", 0)


async def test_a_redirect_is_an_answer_and_no_cookie_is_kept(forge, outbound):
    forge.answers["/moved"] = lambda _: web.Response(status=302, headers={"Location": "/a", "Set-Cookie": "a=b"})
    forge.answers["/cookies"] = lambda request: dict(request.cookies)
    tls = forge.authority.client_context()
    assert (await outbound.get(f"{forge.url}/moved", tls=tls)).status == 302
    assert await outbound.get_json(f"{forge.url}/cookies", tls=tls) == (200, {})


async def test_a_certificate_that_is_not_trusted_ends_it(forge, outbound):
    with pytest.raises(PeerUnavailable, match="certificate that is not trusted"):
        await outbound.get(f"{forge.url}/a")
    assert forge.asked == []


@pytest.mark.parametrize(
    "url",
    ["http://example.com/", "ftp://localhost/", "file:///etc/passwd", "//localhost/", "", "http://127.0.0.1.nip.io/"],
)
async def test_nothing_is_asked_in_the_clear(outbound, url):
    with pytest.raises(PeerUnavailable, match="https was expected"):
        await outbound.get(url)


async def test_a_machine_that_is_not_there_is_told(outbound):
    with pytest.raises(PeerUnavailable, match=r"127\.0\.0\.1:1 cannot be reached"):
        await outbound.get("http://127.0.0.1:1/")


async def test_a_cancelled_question_leaves_nothing(forge, outbound):
    forge.delay_s = 5
    task = asyncio.create_task(outbound.get(f"{forge.url}/a", tls=forge.authority.client_context()))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("login", ["", "joe:p%3Aass@"])
async def test_it_goes_through_the_proxy_of_the_environment_and_knows_no_netrc(
    forge, outbound, tmp_path, monkeypatch, login
):
    (tmp_path / ".netrc").write_text("machine forge.test login somebody password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    forge.answers["/mirror"] = lambda request: dict(request.headers)
    port = int(forge.url.rpartition(":")[2])
    # The certificate of the fake is for localhost: TLS is checked for the name that is asked.
    tls = forge.authority.client_context()
    tls.check_hostname = False
    async with ConnectProxy({"forge.test": ("127.0.0.1", port)}) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("//", f"//{login}"))
        _, said = await outbound.get_json(f"https://forge.test:{port}/mirror", tls=tls)
        assert not {"Authorization", "Proxy-Authorization"} & set(said)
        assert proxy.asked == [f"forge.test:{port}"]
        assert proxy.shown == ["Basic am9lOnA6YXNz" if login else ""]
        proxy.status = 407
        with pytest.raises(PeerUnavailable, match=r"the proxy 127.0.0.1:\d+ answers 407") as caught:
            await outbound.get(f"https://other.test:{port}/a", tls=tls)
        assert "ass" not in str(caught.value)
        monkeypatch.setenv("HTTPS_PROXY", "socks5://x")
        with pytest.raises(PeerUnavailable, match="HTTPS_PROXY"):
            await outbound.get(f"https://forge.test:{port}/a", tls=tls)
