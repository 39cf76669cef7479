"""Whether gRPC gets through to the agent door, and what kas says to a token: a real dial that no link comes of."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from kastunnel.doctor.findings import Finding, broken, ok, warning
from kastunnel.link import codec, greeting
from kastunnel.link.errors import LinkError
from kastunnel.link.frames import Code
from kastunnel.toolkit.proxies import Proxy
from kastunnel.transport import grpc as transport
from kastunnel.transport.duplex import StreamLost

ANSWER_S = 10.0
BEGIN_S = 2.0
NO_VERSION = 0  # of the link: no kas speaks it


class Told(NamedTuple):
    """``refused``: kas's answer in band. None: there was none, and ``lost`` says why; "" if nothing at all came in time."""

    refused: greeting.Refused | None
    lost: str = ""
    date: str = ""


async def ask(
    address: str, *, tls: bool, ca: bytes | None, token: str, proxy: Proxy | None = None, instance: str = "doctor"
) -> Told:
    """Show ``token`` to the kas at ``host:port`` with a hello that it must refuse.

    Safe beside a running agentk with the same token: the hello speaks version 0 of the link, and a kas looks at the token first and
    at the versions next, before it looks for links to resume or to end (docs/link-protocol.md section 6). A good token is answered
    UNSUPPORTED, a bad one UNAUTHENTICATED. The name ``instance`` is no agentk's, so nothing could be taken for its successor either.
    kas counts a refused link, logs it under that name, and notes the use of a good token.
    """
    channel = transport.channel(address, transport.trust(ca) if tls else None, proxy)
    call = transport.call(channel, token)
    duplex = transport.ClientDuplex(call)
    hello = greeting.Hello(instance, boot=1, boot_order=1, attach=1, version_min=NO_VERSION, version_max=NO_VERSION)
    try:
        async with asyncio.timeout(ANSWER_S):
            date = await _begun(duplex)
            await duplex.write(codec.envelope(1, 0, [greeting.hello_frame(hello)]))
            answer = codec.read_envelope(await duplex.read())
            date = date or await duplex.date()
        refusal = answer.frames[0].refusal if answer.frames else None
        if refusal is None or answer.frames[0].WhichOneof("kind") != "refusal":
            return Told(None, "the answer is no refusal", date)
        return Told(greeting.read_refusal(refusal), date=date)
    except TimeoutError:
        return Told(None)
    except StreamLost as error:
        return Told(None, str(error))
    except LinkError as error:
        return Told(None, f"the answer makes no sense: {error}")
    finally:
        call.cancel()
        await channel.close()


async def _begun(duplex: transport.ClientDuplex) -> str:
    """Wait a little for the answer's header: a call that fails while gRPC writes forgets why ("Internal error from Core")."""
    try:
        async with asyncio.timeout(BEGIN_S):
            return await duplex.date()
    except TimeoutError:
        return ""


def reachability(told: Told) -> Finding:
    """Whether what answered is an agent door of kas."""
    if told.refused is not None:
        return ok("a stream was opened, and kas answered over it")
    if not told.lost:
        return broken(
            f"the stream is open, but no answer came within {ANSWER_S:g} s",
            "a proxy in front holds back what goes up until the request ends: switch off its buffering of requests for gRPC",
        )
    for sign, remedy in _LOST:
        if sign in told.lost:
            return broken(told.lost, remedy)
    return broken(told.lost, "is this the port of agent_api, and does what stands in front pass gRPC?")


def verdict(told: Told) -> Finding:
    """What kas thinks of the token; only where ``reachability`` is well."""
    refused = told.refused or greeting.Refused(Code.INTERNAL, "")
    if refused.code is Code.UNSUPPORTED:
        return ok("kas knows it")
    if refused.code is Code.UNAUTHENTICATED:
        return broken(
            f"kas refuses it: {refused.reason}",
            "look with `kas agent token list NAME`; make a new one with `kas agent token create NAME` and put it where agentk reads it",
        )
    return warning(f"kas does not say now ({refused.code.name}): {refused.reason}", "try again in a while")


_LOST = (
    ("status: 502", "a proxy in front cannot reach kas: look at its log and at where it sends gRPC"),
    ("status: 503", "a proxy in front has no kas to send to: does kas run?"),
    (
        "status: 504",
        "a proxy in front got no answer in time: it must not wait for the end of the request (gRPC, no buffering)",
    ),
    (
        "status: 4",
        "what answers is no agent door: a proxy in front sends it elsewhere, or this is the port of another door",
    ),
    ("status: 3", "what answers redirects: --kas-address must be agent_api's own port"),
    # gRPC's words for a page of HTML, as luck has it: it forgets the status where the page is read first
    (
        "END_STREAM",
        "a proxy in front answers with a page of its own: it cannot reach kas, or does not send gRPC there; its log says which",
    ),
    ("unimplemented", "what answers speaks gRPC but is no agent door of kas: is this the right host and port?"),
    ("HTTP proxy", "the proxy of HTTPS_PROXY does not let gRPC through"),
    (
        "CERTIFICATE_VERIFY_FAILED",
        "gRPC trusts another set of CAs (GRPC_DEFAULT_SSL_ROOTS_FILE_PATH): name the CA in --ca-cert-file",
    ),
    ("http2", "what answers there speaks HTTP/1.1: a proxy in front must pass gRPC"),
)
