"""Issuers as kas.yaml names them. Raises ConfigurationError for files that cannot be used."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator, Sequence

from kas.access.issuers import Issuer
from kas.access.issuers.jwks import Keys
from kas.access.issuers.oidc import OidcTokens
from kas.access.issuers.presets import ALGORITHMS, READERS, generic
from kas.clock import Clock
from kas.config import GitlabIssuer, OidcIssuer
from kas.errors import ConfigurationError
from kas.outbound import Outbound, tls_context


def build_issuers(issuers: Sequence[GitlabIssuer | OidcIssuer], outbound: Outbound, clock: Clock) -> list[Issuer]:
    """In the order of kas.yaml. They ask over ``outbound``, which must be open when they are used."""
    return [one for configured in issuers for one in _of(configured, outbound, clock)]


def _of(issuer: GitlabIssuer | OidcIssuer, outbound: Outbound, clock: Clock) -> Iterator[Issuer]:
    if isinstance(issuer, OidcIssuer):
        read = generic(issuer.claims) if issuer.type == "oidc" else READERS[issuer.type]
        yield OidcTokens(
            issuer.name,
            issuer.issuer_url,
            issuer.audience,
            read,
            Keys(issuer.name, issuer.issuer_url, issuer.jwks_url, outbound, _tls(issuer), time.monotonic),
            algorithms=issuer.algorithms or ALGORITHMS[issuer.type],
            owners=issuer.owners,
            is_public=issuer.is_public,
            leeway_s=issuer.leeway_s,
            clock=clock,
        )
    elif issuer.audience is not None:
        yield OidcTokens(
            issuer.name,
            issuer.url,
            issuer.audience,
            READERS["gitlab"],
            Keys(issuer.name, issuer.url, None, outbound, _tls(issuer), time.monotonic),
            algorithms=ALGORITHMS["gitlab"],
            owners=issuer.owners,
            is_public=issuer.is_public,
            leeway_s=issuer.leeway_s,
            clock=clock,
        )


def _tls(issuer: GitlabIssuer | OidcIssuer) -> ssl.SSLContext | None:
    try:
        return tls_context(issuer.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"issuers, {issuer.name}: ca_file cannot be used: {error}") from error
