"""ID tokens for job tokens of kas's own: what is asked for and what is answered, as RFC 8693 and RFC 6749 have it. Pure.

An ID token is too short-lived for a job. The job token carries all that it said and nothing more, and is judged anew at each request.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple
from urllib.parse import parse_qsl

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - a name of RFC 8693
SUBJECT_TYPES = ("urn:ietf:params:oauth:token-type:id_token", "urn:ietf:params:oauth:token-type:jwt")
FORM = "application/x-www-form-urlencoded"
MAX_FIELDS = 20
_REPEATABLE = ("audience", "resource")  # RFC 8693 section 2.1
_TOKEN = re.compile(r"[!-~]{1,16384}")


class ExchangeError(Exception):
    """The error of RFC 6749 section 5.2 with this code."""

    def __init__(self, code: str, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.code = code
        self.status = status

    def render(self) -> str:
        """The body. A description may hold neither quotes nor backslashes, and only ASCII."""
        said = "".join(one if " " <= one <= "~" and one not in '"\\' else "'" for one in str(self))
        return json.dumps({"error": self.code, "error_description": said}) + "\n"


class Exchange(NamedTuple):
    """What is asked for: a token for this one, in force for so long, or as long as the operator thinks best."""

    subject_token: str
    ttl_s: int | None


def read_exchange(content_type: str, body: bytes) -> Exchange:
    """Read the form. Raises ExchangeError.

    ``audience`` and ``resource`` change nothing: every job token is for this kas. A scope would narrow, and there are none: refused.
    """
    if content_type.lower() != FORM:
        raise ExchangeError("invalid_request", f"a form was expected: Content-Type: {FORM}")
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    except ValueError:
        raise ExchangeError("invalid_request", f"a form of at most {MAX_FIELDS} fields was expected") from None
    form: dict[str, str] = {}
    for name, value in pairs:
        if name in form and name not in _REPEATABLE:
            raise ExchangeError("invalid_request", "a parameter stands there twice")
        form[name] = value
    return _checked(form)


def _checked(form: dict[str, str]) -> Exchange:
    if form.get("grant_type") != GRANT_TYPE:
        raise ExchangeError("unsupported_grant_type", f"grant_type: {GRANT_TYPE} was expected")
    if form.get("subject_token_type") not in SUBJECT_TYPES:
        raise ExchangeError("invalid_request", f"subject_token_type: {' or '.join(SUBJECT_TYPES)} was expected")
    if form.get("requested_token_type", ACCESS_TOKEN) != ACCESS_TOKEN:
        raise ExchangeError("invalid_request", f"requested_token_type: {ACCESS_TOKEN} was expected, or nothing")
    if "actor_token" in form or "actor_token_type" in form:
        raise ExchangeError("invalid_request", "actor_token: a job acts for itself alone")
    if form.get("scope"):
        raise ExchangeError("invalid_scope", "scope: job tokens have none")
    token = form.get("subject_token", "")
    if not _TOKEN.fullmatch(token):
        raise ExchangeError("invalid_request", "subject_token: an ID token was expected")
    return Exchange(token, _ttl_s(form))


def _ttl_s(form: dict[str, str]) -> int | None:
    for name in ("expires_in", "ttl"):
        if name in form:
            if not re.fullmatch(r"[1-9][0-9]{0,8}", form[name]):
                raise ExchangeError("invalid_request", f"{name}: a whole number of seconds above 0 was expected")
            return int(form[name])
    return None


def render_answer(token: str, expires_in: int) -> str:
    """The body of a success, RFC 8693 section 2.2.1."""
    answer = {
        "access_token": token,
        "issued_token_type": ACCESS_TOKEN,
        "token_type": "Bearer",
        "expires_in": expires_in,
    }
    return json.dumps(answer) + "\n"
