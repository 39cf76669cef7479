"""How a stream begins: hello up, welcome or refusal down. docs/link-protocol.md §1, §4 and §6."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from kastunnel.link import codec
from kastunnel.link.errors import LinkError
from kastunnel.link.frames import Code, Feature
from kastunnel.link.limits import DETACH_MS, LEAST, VERSION, PeerLimits
from kastunnel.v1 import link_pb2 as pb

FEATURES = frozenset({Feature.RELEASE})  # what this code understands beyond the base protocol
LINK_ID_BYTES = 16  # ≥ 128 random bits
MAX_ABOUT_ENTRIES = 32
MAX_TEXT = 256  # characters of an instance name or an entry of ``about``
MAX_ENDED_LINKS = 64


class Hello(NamedTuple):
    """What agentk says first. ``resume_link`` is a secret; empty for a new link."""

    instance: str
    boot: int
    boot_order: int  # unix ms at process start
    attach: int
    resume_link: bytes = b""
    limits: PeerLimits = PeerLimits()
    features: frozenset[int] = FEATURES
    version_min: int = VERSION
    version_max: int = VERSION
    ended_links: tuple[bytes, ...] = ()
    about: Mapping[str, str] = {}


class Welcome(NamedTuple):
    """kas's answer: what is in force on this link. ``link`` is a secret."""

    link: bytes
    attach: int
    resumed: bool
    kas_id: str
    kas_boot: int
    limits: PeerLimits = PeerLimits()
    features: frozenset[int] = frozenset()
    version: int = VERSION
    direct_address: str = ""
    detach_ms: int = DETACH_MS


class Refused(NamedTuple):
    """kas's other answer."""

    code: Code
    reason: str
    retry_after_ms: int = 0


def hello_frame(hello: Hello) -> bytes:
    """The frame that begins a stream."""
    message = pb.Hello(
        version_min=hello.version_min,
        version_max=hello.version_max,
        features=sorted(hello.features),
        instance=hello.instance,
        boot=hello.boot,
        boot_order=hello.boot_order,
        resume_link=hello.resume_link,
        attach=hello.attach,
        limits=pb.Limits(**hello.limits._asdict()),
        ended_links=hello.ended_links,
        about=dict(hello.about),
    )
    return pb.Frame(hello=message).SerializeToString()


def read_hello(data: bytes) -> Hello:
    """The hello in the first envelope of a stream. Raises LinkError if there is none, or it makes no sense."""
    envelope = codec.read_envelope(data)
    if envelope.number != 1 or not envelope.frames or envelope.frames[0].WhichOneof("kind") != "hello":
        raise LinkError("the first envelope is no hello")
    message = envelope.frames[0].hello
    if not message.instance or len(message.instance) > MAX_TEXT:
        raise LinkError("hello without an instance name, or with one that is too long")
    if len(message.ended_links) > MAX_ENDED_LINKS or len(message.about) > MAX_ABOUT_ENTRIES:
        raise LinkError("hello with too many entries")
    if not message.attach:
        raise LinkError("hello without a count of attaches")
    return Hello(
        instance=message.instance,
        boot=message.boot,
        boot_order=message.boot_order,
        attach=message.attach,
        resume_link=message.resume_link,
        limits=read_limits(message.limits),
        features=frozenset(message.features),
        version_min=message.version_min,
        version_max=message.version_max,
        ended_links=tuple(message.ended_links),
        about={key[:MAX_TEXT]: value[:MAX_TEXT] for key, value in message.about.items()},
    )


def welcome_frame(welcome: Welcome) -> bytes:
    """The frame that accepts a stream."""
    message = pb.Welcome(
        version=welcome.version,
        features=sorted(welcome.features),
        link=welcome.link,
        attach=welcome.attach,
        resumed=welcome.resumed,
        kas_id=welcome.kas_id,
        kas_boot=welcome.kas_boot,
        direct_address=welcome.direct_address,
        limits=pb.Limits(**welcome.limits._asdict()),
        detach_ms=welcome.detach_ms,
    )
    return pb.Frame(welcome=message).SerializeToString()


def read_welcome(message: pb.Welcome) -> Welcome:
    """Raises LinkError if kas chose a version that this code does not speak."""
    if message.version != VERSION:
        raise LinkError(f"kas wants version {message.version} of the link, this agentk speaks {VERSION}")
    if len(message.link) < LINK_ID_BYTES:
        raise LinkError("welcome without a link id")
    return Welcome(
        link=message.link,
        attach=message.attach,
        resumed=message.resumed,
        kas_id=message.kas_id,
        kas_boot=message.kas_boot,
        limits=read_limits(message.limits),
        features=frozenset(message.features) & FEATURES,
        version=message.version,
        direct_address=message.direct_address,
        detach_ms=message.detach_ms or DETACH_MS,
    )


def refusal_envelope(refused: Refused) -> bytes:
    """The whole first envelope down of a stream that is refused."""
    message = pb.Refusal(code=codec.enum(refused.code), reason=refused.reason, retry_after_ms=refused.retry_after_ms)
    return codec.envelope(1, 1, [pb.Frame(refusal=message).SerializeToString()])


def read_refusal(message: pb.Refusal) -> Refused:
    """Why kas does not want this stream."""
    return Refused(codec.known_code(message.code), message.reason, message.retry_after_ms)


def common_version(hello: Hello) -> int:
    """The version that both speak, or 0."""
    return VERSION if hello.version_min <= VERSION <= hello.version_max else 0


def read_limits(message: pb.Limits) -> PeerLimits:
    """What the other end accepts; a field that it left out has our default, none is believed beyond it.

    Raises LinkError for less than the protocol needs.
    """
    said = (message.max_requests, message.envelope, message.window, message.silence_ms)
    if any(value and value < least for value, least in zip(said, LEAST, strict=True)):
        raise LinkError(f"limits {said} are below {tuple(LEAST)}")
    return PeerLimits(*(min(value, most) if value else most for value, most in zip(said, PeerLimits(), strict=True)))
