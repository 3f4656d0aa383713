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
    Malformed,
    NotRegistered,
    PalyraError,
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
_NOT_READY = (DeviceOffline, NotRegistered, CapabilityDisabled)


def refuse(request: IRequest, error: PalyraError) -> bytes:
    """The body of a refusal; its status and headers are set."""
    status = 412 if isinstance(error, _NOT_READY) else _STATUS[error.category]
    retry_after_s = getattr(error, "retry_after_s", None)
    if retry_after_s is None and status in (429, 503):
        retry_after_s = RETRY_AFTER_S
    if retry_after_s is not None:
        request.setHeader(b"retry-after", b"%d" % max(1, round(retry_after_s)))
    return _write(request, status, problem_of(error))


def refuse_method(request: IRequest, error: MethodNotAllowed) -> bytes:
    """The body of a 405, which names the methods that the resource does take."""
    allowed = ", ".join(sorted(error.valid_methods or ()))
    request.setHeader(b"allow", allowed.encode())
    problem = models.Problem(
        error="That resource does not take this method.",
        code="method_not_allowed",
        hint="docs/operations.md lists the routes",
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
        validation_errors=[_field(error)] if isinstance(error, Malformed) else [],
    )


def _field(error: Malformed) -> dict[str, Any]:
    """Which field is wrong; of an expression also the column, and the key instead of the option."""
    if isinstance(error, ExpressionInvalid):
        field = error.field.removeprefix("--")
        return {"field": field, "problem": error.problem, "column": error.column}
    return {"field": error.field, "problem": error.problem}


def _write(request: IRequest, status: int, problem: models.Problem) -> bytes:
    request.setResponseCode(status)
    request.setHeader(b"content-type", b"application/json")
    request.setHeader(b"cache-control", b"no-store")
    return msgspec.json.encode(problem)
