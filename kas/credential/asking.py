"""One request to the management door, and its troubles in words that say what to do."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from kas.errors import KasError, Unauthenticated

TIMEOUT_S = 15
EXCHANGE = "/kas/v1/token"
MAX_BYTES = 64 * 1024
_GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
_ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"  # noqa: S105 - a name of RFC 8693


class JobToken(NamedTuple):
    """A token of kas's own, and how long it is in force."""

    token: str
    life_s: int


def ask(
    url: str,
    method: str,
    path: str,
    context: ssl.SSLContext,
    headers: Mapping[str, str],
    *,
    body: str | None = None,
    max_bytes: int = MAX_BYTES,
) -> tuple[int, bytes]:
    """Status and body (one byte more than ``max_bytes`` at most) of ``path`` at ``https://host[:port]``. Raises KasError."""
    host, port = _host(url)
    connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)
    try:
        connection.request(method, path, body=body, headers=dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.read(max_bytes + 1)
    except ssl.SSLCertVerificationError as error:
        raise KasError(f"{url} is not trusted: {error.verify_message}; name kas's ca.crt with --ca-file") from error
    except ssl.SSLError as error:
        raise KasError(f"{url} does not speak TLS as expected: {error.reason}; is this the management door?") from error
    except (OSError, http.client.HTTPException) as error:
        raise KasError(f"{url} cannot be reached: {_reason(error)}; check that kas runs, and --server") from error
    finally:
        connection.close()


def exchange(url: str, id_token: str, context: ssl.SSLContext, ttl_s: int | None = None) -> JobToken:
    """A job token for this ID token (RFC 8693). Raises KasError, and Unauthenticated where the ID token does not count."""
    form = {"grant_type": _GRANT, "subject_token": id_token, "subject_token_type": _ID_TOKEN}
    if ttl_s is not None:
        form["expires_in"] = str(ttl_s)
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    status, body = ask(url, "POST", EXCHANGE, context, headers, body=urlencode(form))
    said = _object(body)
    token, life_s = said.get("access_token"), said.get("expires_in")
    if status == http.HTTPStatus.OK and isinstance(token, str) and isinstance(life_s, int) and token and life_s > 0:
        return JobToken(token, life_s)
    described = said.get("error_description")
    if not isinstance(described, str) or not described.isprintable():
        raise KasError(f"{url} answers {status}, not as the management door would: check --server")
    if status == http.HTTPStatus.BAD_REQUEST:
        raise Unauthenticated(f"{url} does not exchange the ID token: {described}")
    raise KasError(f"{url} answers {status}: {described}")


def trust(ca_file: str | None, ca: str | None) -> ssl.SSLContext:
    """What is trusted: the file, or the PEM text, or what the machine trusts. Raises KasError."""
    try:
        return ssl.create_default_context(cafile=ca_file, cadata=None if ca_file is not None else ca)
    except (ssl.SSLError, ValueError):
        raise KasError(f"{ca_file or 'the CA'} holds no certificate in PEM form") from None
    except OSError as error:
        raise KasError(f"--ca-file: {ca_file} cannot be read: {error.strerror}") from error


def _host(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        if (
            parts.scheme == "https"
            and parts.hostname
            and parts.path in ("", "/")
            and not parts.query
            and not parts.username
        ):
            return parts.hostname, parts.port or 443
    except ValueError:
        pass
    raise KasError(f"--server {url}: https://HOST:PORT was expected")


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text[:1].lower() + text[1:]
