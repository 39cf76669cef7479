"""What every tap does: it looks on while bytes pass, and keeps back the part of a frame that has not come whole."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

# Bytes. Kubernetes writes frames of 32 KiB; larger ones pass in pieces, and nothing can be said within them.
MAX_HELD = 64 * 1024


class Failure(NamedTuple):
    """What is to be told: a sentence, and the same as a Status object in JSON."""

    text: str
    status: bytes


class NotUnderstood(Exception):
    """The peer does not speak the protocol that was agreed on, or not as Kubernetes does."""


class Tap(ABC):
    """One upgraded stream. From the first bytes that it does not understand on, it passes everything and says nothing."""

    settle_s = 0.0  # what the client needs between a failure and the end of its connection, or it does not print it

    def __init__(self, protocol: bytes) -> None:
        """``protocol``: the one of Kubernetes that was agreed on, as ``v4.channel.k8s.io``."""
        # Else failures are plain text, and silence means success.
        self.says_status = protocol.startswith((b"v4.", b"v5."))
        self._is_blind = False
        self._held = b""
        self._passing = 0  # bytes of a large frame that are still to come

    def from_server(self, data: bytes) -> bytes:
        """What may be written to the client now: whole frames. The rest is kept, at most MAX_HELD."""
        if self._is_blind:
            return self.rest() + data if self._held else data
        if len(data) < self._passing:
            self._passing -= len(data)
            return data
        buffer = self._held + data if self._held else data
        try:
            end = self._walk(buffer, self._passing)
        except NotUnderstood:
            self._is_blind = True
            end = len(buffer)
        self._held = buffer[end:]
        return buffer[:end] if self._held else buffer

    def _walk(self, buffer: bytes, at: int) -> int:
        """Look at each frame from ``at`` on; the end of the last one that may pass."""
        self._passing = 0
        while size := self._size(buffer, at):
            if at + size > len(buffer):
                if size <= MAX_HELD:
                    break
                self._passing = at + size - len(buffer)
            self._look(buffer, at, size)
            at += size
            if self._passing:
                return len(buffer)
        return at

    def rest(self) -> bytes:
        """What is kept, for the end of the stream."""
        rest, self._held = self._held, b""
        return rest

    def failure(self, failure: Failure) -> bytes:
        """What tells the client of the failure, after which its connection is to be closed. Empty: nothing can be said."""
        if self._is_blind or self._passing:
            return b""
        return self._failure(failure)

    @property
    def is_unfinished(self) -> bool:
        """Whether the API server would still have said how the command ended."""
        return self.says_status and not self._is_blind and not self._is_told()

    @abstractmethod
    def from_client(self, data: bytes) -> None:
        """The client said this; it has been passed on."""

    @abstractmethod
    def _size(self, buffer: bytes, at: int) -> int:
        """Of the frame that begins there, head included; 0: too little has come to tell. Raises NotUnderstood."""

    @abstractmethod
    def _look(self, buffer: bytes, at: int, size: int) -> None:
        """A frame of the server passes; of one larger than MAX_HELD only the beginning may be there. Raises NotUnderstood."""

    @abstractmethod
    def _is_told(self) -> bool:
        """The server has said how the command ended, or nobody has asked it to."""

    @abstractmethod
    def _failure(self, failure: Failure) -> bytes: ...
