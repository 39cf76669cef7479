"""The errors of agentk that somebody catches or answers. Each docstring is the sentence that its user reads."""

from __future__ import annotations

from kastunnel.link.frames import Code


class AgentkError(Exception):
    """Something went wrong in agentk."""

    def __str__(self) -> str:
        return super().__str__() or (type(self).__doc__ or "").strip()


class ConfigurationError(AgentkError):
    """An option cannot be used."""  # exit code 2; the message names the option and the remedy


class CredentialUnavailable(AgentkError):
    """The credential for the API server cannot be had right now."""  # the last good one stays in use


class AgentRefused(AgentkError):
    """kas refuses this agent: its token is unknown or revoked."""  # the uplink goes on trying, slowly


class OpenRefused(AgentkError):
    """kas asked for something that agentk does not do, whoever asks."""

    def __init__(self, reason: str, code: Code = Code.PROTOCOL) -> None:
        super().__init__(reason)
        self.code = code
