"""The envelopes of one attach: their numbers both ways, what each said, and when an acknowledgement or a beat is owed."""

from __future__ import annotations

from collections.abc import Iterator

from kastunnel.link.errors import LinkError, StreamSilent
from kastunnel.link.limits import ACK_BYTES, ACK_DELAY_S, BEAT_S
from kastunnel.link.speaking import Record
from kastunnel.v1 import link_pb2 as pb


class Numbering:
    """Made anew for each attach: a new stream voids all earlier numbers. Times are seconds of the link's clock."""

    __slots__ = ("_acked", "_inflight", "_last_heard", "_last_said", "_owed_bytes", "_owed_since", "_said", "heard")

    def __init__(self, now: float) -> None:
        self.heard = 0  # number of the last envelope that came: what is acknowledged
        self._said = 0
        self._acked = 0
        self._inflight: list[tuple[int, list[Record]]] = []  # what each envelope said that is not acknowledged yet
        self._owed_bytes = 0
        self._owed_since = 0.0
        self._last_heard = self._last_said = now

    def hear(self, envelope: pb.Envelope, size: int, now: float) -> Iterator[Record]:
        """An envelope of ``size`` bytes has come. What it acknowledges; to be used up. Raises LinkError for an impossible number."""
        self._last_heard = now
        number, ack = envelope.number, envelope.ack
        if ack > self._said:
            raise LinkError(f"acknowledged {ack}, said {self._said}")
        if number:
            if number != self.heard + 1:
                raise LinkError(f"envelope {number} after {self.heard}")
            self.heard = number
            if not self._owed_bytes:
                self._owed_since = now
            self._owed_bytes += size
        elif envelope.frames:
            raise LinkError("frames in an envelope without a number")
        return self._acknowledged(ack) if ack > self._acked else iter(())

    def _acknowledged(self, ack: int) -> Iterator[Record]:
        self._acked = ack
        inflight = self._inflight
        while inflight and inflight[0][0] <= ack:
            yield from inflight.pop(0)[1]

    def say(self, records: list[Record], *, is_empty: bool, now: float) -> int:
        """An envelope goes out, with the acknowledgement that was owed: its number, 0 if it ``is_empty``."""
        self._owed_bytes = 0
        self._last_said = now
        if is_empty:
            return 0
        self._said += 1
        if records:
            self._inflight.append((self._said, records))
        return self._said

    @property
    def is_acknowledged(self) -> bool:
        """At least one envelope is."""
        return self._acked > 0

    @property
    def owes_much(self) -> bool:
        """So much has come that it is to be acknowledged at once."""
        return self._owed_bytes >= ACK_BYTES

    def owes_word(self, now: float, peer_silence_ms: int) -> bool:
        """An envelope must go even if there is nothing to say: an acknowledgement, or a beat."""
        if self._owed_bytes and (self.owes_much or now - self._owed_since >= ACK_DELAY_S):
            return True
        return now - self._last_said >= _beat_s(peer_silence_ms)

    def deadline(self, silence_ms: int, peer_silence_ms: int) -> float:
        """When a word is owed, or the other end has been silent for too long."""
        due = min(self._last_said + _beat_s(peer_silence_ms), self._last_heard + silence_ms / 1000)
        return min(due, self._owed_since + ACK_DELAY_S) if self._owed_bytes else due

    def check_silence(self, silence_ms: int, now: float) -> None:
        """Raises StreamSilent if nothing was heard for ``silence_ms``."""
        if now - self._last_heard >= silence_ms / 1000:
            raise StreamSilent


def _beat_s(peer_silence_ms: int) -> float:
    return min(BEAT_S, peer_silence_ms / 3000)
