"""The doors: whether they listen and show the certificate that is on disk, and whether their external URLs lead to them."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator

import aiohttp

from kas.config import Config
from kas.doctor.files import Shown, client_ca, shown_by
from kastunnel.doctor import tunnel
from kastunnel.doctor.certificates import curious, trusting
from kastunnel.doctor.findings import Check, Finding, broken, ok, warning
from kastunnel.doctor.road import Road, Words, utc_now
from kastunnel.toolkit.answers import TooLarge, whole_body
from kastunnel.toolkit.hosts import host_port

ANSWER_S = 10.0
MAX_ANSWER_BYTES = 1024 * 1024
_ALL = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - an address to connect to, none to listen on
# What is asked without a token, and what stands in kas's 401.
_ASKED = {"management_api": ("/kas/v1/kubeconfig", b"the job's token"), "kubernetes_api": ("/version", b"kas: ")}
RUNS = "kas process"


class Door:
    """One door of kas, from inside and from outside."""

    def __init__(self, config: Config, name: str) -> None:
        self._config = config
        self._name = name
        self._section = getattr(config, name)

    def checks(self) -> Iterator[Check]:
        """On this machine, past any proxy."""
        look = self._probe if self._name == "observability" else self._listening
        yield Check(f"{self._name}: listens", look, (RUNS,))

    def outside(self) -> Iterator[Check]:
        """By the external URL, as it is reached from here."""
        name = self._name
        if name == "observability":
            return
        url = self._section.external_url
        alpn = "h2" if name == "agent_api" else "http/1.1"
        road = Road(
            f"{name} outside",
            url.host,
            url.port,
            Words(f"{name}.external_url", f"{name}.tls.ca_file", name),
            trust=lambda: trusting(client_ca(self._config, name), alpn),
            now=utc_now,
        )
        hops = road.checks(f"{name}: listens", http2=name == "agent_api")
        yield from hops
        yield Check(f"{name} outside: {'gRPC' if name == 'agent_api' else 'HTTP'}", self._answers, (hops[-1].name,))

    # ---- from inside --------------------------------------------------------------------------------------------------

    @property
    def _local(self) -> tuple[str, int]:
        listen = self._section.listen
        return _ALL.get(listen.host, listen.host), listen.port

    async def _listening(self) -> Finding:
        host, port = self._local
        try:
            async with asyncio.timeout(ANSWER_S):
                der = await asyncio.to_thread(_certificate_at, host, port)
        except TimeoutError:
            return broken(
                f"no answer on {self._section.listen}", "is kas overloaded, or is it another program? Look at its log"
            )
        except ConnectionRefusedError:
            return broken(
                f"nobody listens on {self._section.listen}",
                f"start kas; its log says what stops it. Is {self._name}.listen the one it runs with?",
            )
        except ssl.SSLError:
            return broken(
                f"what listens on {self._section.listen} speaks no TLS",
                "another program has taken the port of kas: stop it, or choose another port",
            )
        except OSError as error:
            return broken(f"{self._section.listen}: {error.strerror or error}", f"correct {self._name}.listen")
        shown = shown_by(self._config, self._name)
        if not isinstance(shown, Shown) or shown.der == der:
            return ok(f"on {self._section.listen}, with the certificate that is on disk")
        return warning(
            f"on {self._section.listen}, with another certificate than {shown.source} holds",
            "systemctl reload kas: the file was renewed and not read again; or another program has taken the port",
        )

    async def _probe(self) -> Finding:
        host, port = self._local
        scheme = "http" if self._section.tls is None else "https"
        found = await _get(f"{scheme}://{host_port(host, port)}/readiness", curious() if scheme == "https" else None)
        if isinstance(found, str):
            return broken(f"nobody answers on {self._section.listen}: {found}", "start kas; its log says what stops it")
        status, body = found
        if status == 200:
            return ok(f"on {self._section.listen}: ready")
        return warning(
            f"on {self._section.listen}: {status} {body[:80].decode('utf-8', 'replace')}",
            "kas starts or drains: wait a little, then look at its log",
        )

    # ---- from outside -------------------------------------------------------------------------------------------------

    async def _answers(self) -> Finding:
        if self._name == "agent_api":
            return await self._agents_door()
        url = self._section.external_url
        path, sign = _ASKED[self._name]
        target = f"https://{host_port(url.host, url.port)}{path}"
        found = await _get(target, trusting(client_ca(self._config, self._name), "http/1.1"))
        if isinstance(found, str):
            return broken(f"{url} does not answer: {found}", "look at the log of what stands in front")
        status, body = found
        if status == 401 and sign in body:
            return ok(f"{url} leads here: kas asks for a token")
        remedy = (
            f"what stands in front must pass every path to {self._name}"
            if status != 502
            else "what stands in front cannot reach kas: look at its log"
        )
        return broken(f"{url} answers {status} where kas would ask for a token", remedy)

    async def _agents_door(self) -> Finding:
        """With no token at all, which kas refuses like any that it does not know."""
        url = self._section.external_url
        told = await tunnel.ask(
            host_port(url.host, url.port),
            tls=True,
            ca=client_ca(self._config, self._name),
            token="",
            instance=f"doctor/{socket.gethostname()}"[:128],
        )
        return tunnel.reachability(told)


def _certificate_at(host: str, port: int) -> bytes | None:
    with (
        socket.create_connection((host, port), timeout=ANSWER_S / 2) as plain,
        curious().wrap_socket(plain) as secured,
    ):
        return secured.getpeercert(True)


async def _get(url: str, tls: ssl.SSLContext | None) -> tuple[int, bytes] | str:
    """Status and body; or why there is none."""
    try:
        async with (
            asyncio.timeout(ANSWER_S),
            aiohttp.ClientSession(headers={"User-Agent": "kas-doctor"}) as session,
            session.get(url, ssl=True if tls is None else tls, allow_redirects=False) as answer,
        ):
            return answer.status, await whole_body(answer, MAX_ANSWER_BYTES)
    except TimeoutError:
        return f"nothing within {ANSWER_S:g} s"
    except (aiohttp.ClientError, OSError, TooLarge) as error:
        return str(error) or type(error).__name__
