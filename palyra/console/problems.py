"""Refusals over HTTP: which status an error has, and the body that says why."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.web.iweb import IRequest
from werkzeug.exceptions import MethodNotAllowed

from palyra.console import models
from palyra.errors import (
    CapabilityDisabled,
    Category,
    DeviceOffline,
    ExpressionInvalid,
    InputInvalid,
    Malformed,
    MediaTypeRefused,
    NotRegistered,
    PalyraError,
    UriTooLong,
    WrongHost,
)

RETRY_AFTER_S = 5.0
"""When to try again, where the error itself does not know."""

_STATUS = {
    Category.INVALID: 400,
    Category.UNAUTHENTICATED: 401,
    Category.FORBIDDEN: 403,
    Category.NOT_FOUND: 404,
    Category.CONFLICT: 409,
    Category.PRECONDITION: 409,
    Category.TOO_LARGE: 413,
    Category.EXHAUSTED: 429,
    Category.UNAVAILABLE: 503,
    Category.DEADLINE: 504,
    Category.INTERNAL: 500,
}
_STATUS_OF = {
    DeviceOffline: 412,
    NotRegistered: 412,
    CapabilityDisabled: 412,
    UriTooLong: 414,
    MediaTypeRefused: 415,
    WrongHost: 421,
}


def refuse(request: IRequest, error: PalyraError) -> bytes:
    """The body of a refusal; its status and headers are set."""
    status = status_of(error)
    wait_s = retry_after(error)
    if wait_s is not None:
        request.setHeader(b"retry-after", b"%d" % wait_s)
    return _write(request, status, problem_of(error))


def status_of(error: PalyraError) -> int:
    """The HTTP status of an error."""
    return _STATUS_OF.get(type(error)) or _STATUS[error.category]


def retry_after(error: PalyraError) -> int | None:
    """The seconds after which to try again; None where the error says nothing of it."""
    after_s = getattr(error, "retry_after_s", None)
    if after_s is None and status_of(error) in (429, 503):
        after_s = RETRY_AFTER_S
    return None if after_s is None else max(1, round(after_s))


def refuse_method(request: IRequest, error: MethodNotAllowed) -> bytes:
    """The body of a 405, which names the methods that the resource does take."""
    allowed = ", ".join(sorted(error.valid_methods or ()))
    request.setHeader(b"allow", allowed.encode())
    problem = models.Problem(
        error="That resource does not take this method.",
        code="method_not_allowed",
        hint="docs/api.md lists the routes",
        category=Category.INVALID.value,
        retryable=False,
    )
    return _write(request, 405, problem)


def problem_of(error: PalyraError) -> models.Problem:
    """The body of a refusal."""
    return models.Problem(
        error=error.sentence,
        code=error.code,
        hint=error.hint,
        category=error.category.value,
        retryable=error.retryable,
        validation_errors=_fields(error) if isinstance(error, Malformed) else [],
    )


def _fields(error: Malformed) -> list[dict[str, Any]]:
    """Which fields are wrong; of an expression also the column, and the key instead of the
    option."""
    if isinstance(error, ExpressionInvalid):
        field = error.field.removeprefix("--")
        return [{"field": field, "problem": error.problem, "column": error.column}]
    if isinstance(error, InputInvalid):
        return [{"field": field, "problem": problem} for field, problem in error.each]
    return [{"field": error.field, "problem": error.problem}]


def _write(request: IRequest, status: int, problem: models.Problem) -> bytes:
    request.setResponseCode(status)
    request.setHeader(b"content-type", b"application/json")
    request.setHeader(b"cache-control", b"no-store")
    body = msgspec.json.encode(problem)
    request.setHeader(b"content-length", b"%d" % len(body))
    return body
