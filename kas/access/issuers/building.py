"""Issuers as kas.yaml names them. Raises ConfigurationError for files that cannot be used."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from kas.access.issuers import Issuer, JobWatch
from kas.access.issuers.gitlab_job_tokens import GitlabJobTokens
from kas.access.issuers.job_watches import Forge, PolledJobs
from kas.access.issuers.jwks import Keys
from kas.access.issuers.oidc import OidcTokens
from kas.access.issuers.presets import ALGORITHMS, READERS, generic
from kas.clock import Clock
from kas.config import GitlabIssuer, OidcIssuer
from kas.errors import ConfigurationError
from kas.outbound import Outbound, tls_context
from kas.preflight import read_secret


def build_issuers(issuers: Sequence[GitlabIssuer | OidcIssuer], outbound: Outbound, clock: Clock) -> list[Issuer]:
    """In the order of kas.yaml. They ask over ``outbound``, which must be open when they are used.

    A job token that does not say who made it is shown to the first GitLab alone: it is a secret of one of them.
    """
    found: list[Issuer] = []
    hosts: set[str | None] = set()
    for configured in issuers:
        if isinstance(configured, GitlabIssuer) and configured.job_tokens:
            is_first = not any(isinstance(one, GitlabJobTokens) for one in found)
            host = urlsplit(configured.url).hostname
            takes_host = host not in hosts
            hosts.add(host)
            found.append(_gitlab_jobs(configured, outbound, clock, takes_opaque=is_first, takes_host=takes_host))
        found += _of(configured, outbound, clock)
    return found


def build_job_watches(issuers: Sequence[GitlabIssuer | OidcIssuer], outbound: Outbound) -> dict[str, JobWatch]:
    """By the issuer's name, for those whose forge can be asked."""
    watches: dict[str, JobWatch] = {}
    for issuer in issuers:
        api_url = issuer.url if isinstance(issuer, GitlabIssuer) else issuer.api_url or _API_URLS.get(issuer.type)
        token = _api_token(issuer)
        if token is None or api_url is None:
            continue
        forge = Forge(api_url, token, outbound, _tls(issuer))
        asks = {"gitlab": forge.gitlab, "github": forge.github, "forgejo": forge.forgejo}.get(issuer.type)
        if asks is not None:
            watches[issuer.name] = PolledJobs(issuer.name, asks, time.monotonic)
    return watches


_API_URLS = {"github": "https://api.github.com"}


def _gitlab_jobs(
    issuer: GitlabIssuer, outbound: Outbound, clock: Clock, *, takes_opaque: bool, takes_host: bool
) -> GitlabJobTokens:
    return GitlabJobTokens(
        issuer.name,
        issuer.url,
        outbound,
        tls=_tls(issuer),
        api_token=_api_token(issuer),
        takes_opaque=takes_opaque,
        takes_host=takes_host,
        owners=frozenset(issuer.owners),
        is_public=issuer.is_public,
        clock=clock,
        monotonic=time.monotonic,
    )


def _api_token(issuer: GitlabIssuer | OidcIssuer) -> str | None:
    path = issuer.api_token_file
    return None if path is None else read_secret(path, f"issuers, {issuer.name}: api_token_file")


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
