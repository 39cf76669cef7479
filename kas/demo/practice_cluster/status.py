"""Refusals as Kubernetes words them: one exception, which becomes a ``Status`` object."""

from __future__ import annotations

from typing import Any

from kas.demo.practice_cluster.kinds import Kind


class ApiError(Exception):
    """A refusal with its HTTP status and the fields of the ``Status`` object that the client gets."""

    def __init__(self, code: int, reason: str, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details

    def body(self) -> dict[str, Any]:
        """The ``Status`` object."""
        body = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }
        if self.details is not None:
            body["details"] = self.details
        return body


def success(kind: Kind, metadata: dict[str, Any]) -> dict[str, Any]:
    """What a delete answers once the object is gone."""
    details = {"name": metadata["name"], **_group_and_kind(kind), "uid": metadata["uid"]}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def not_found(kind: Kind, name: str) -> ApiError:
    """There is no such object."""
    details = {"name": name, **_group_and_kind(kind)}
    return ApiError(404, "NotFound", f'{kind.qualified_resource} "{name}" not found', details)


def no_such_resource() -> ApiError:
    """The path names nothing that is served."""
    return ApiError(404, "NotFound", "the server could not find the requested resource", {})


def already_exists(kind: Kind, name: str) -> ApiError:
    """An object of that name is there already."""
    details = {"name": name, **_group_and_kind(kind)}
    return ApiError(409, "AlreadyExists", f'{kind.qualified_resource} "{name}" already exists', details)


def conflict(kind: Kind, name: str, why: str) -> ApiError:
    """The object is not in the state that the client believes."""
    message = f'Operation cannot be fulfilled on {kind.qualified_resource} "{name}": {why}'
    return ApiError(409, "Conflict", message, {"name": name, **_group_and_kind(kind)})


def bad_request(message: str) -> ApiError:
    """The request makes no sense."""
    return ApiError(400, "BadRequest", message)


def invalid(kind: Kind, name: str, causes: list[tuple[str, str]]) -> ApiError:
    """The object breaks rules of its kind: (field, what is wrong with it)."""
    listed = [{"reason": "FieldValueInvalid", "message": text, "field": field} for field, text in causes]
    said = [f"{field}: {text}" for field, text in causes]
    joined = said[0] if len(said) == 1 else "[" + ", ".join(said) + "]"
    dotted = f"{kind.name}.{kind.group}" if kind.group else kind.name
    details = {"name": name, "group": kind.group, "kind": kind.name, "causes": listed}
    return ApiError(422, "Invalid", f'{dotted} "{name}" is invalid: {joined}', details)


def unsupported_media_type(accepted: str) -> ApiError:
    """The body is in a format that nobody reads."""
    message = f"the body of the request was in an unknown format - accepted media types include: {accepted}"
    return ApiError(415, "UnsupportedMediaType", message)


def method_not_allowed(verb: str) -> ApiError:
    """The resource does not do that."""
    return ApiError(405, "MethodNotAllowed", f"the server does not allow {verb} on the requested resource", {})


def expired() -> ApiError:
    """The changes since that version are forgotten: list again."""
    return ApiError(410, "Expired", "too old resource version")


def _group_and_kind(kind: Kind) -> dict[str, str]:
    return {**({"group": kind.group} if kind.group else {}), "kind": kind.resource}
