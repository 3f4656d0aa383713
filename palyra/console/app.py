"""The resources of ``/console/v1``: read a request, ask the control, write the answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from palyra.config.jobs import MAX_PAYLOAD_BYTES
from palyra.console import models
from palyra.console.control import IControl
from palyra.errors import (
    CapabilityDisabled,
    Category,
    DeviceOffline,
    Malformed,
    NotFound,
    NotRegistered,
    PalyraError,
    PayloadTooLarge,
)

MAX_BODY = 64 * 1024
MAX_INPUT_BODY = MAX_PAYLOAD_BYTES * 3 // 2
MAX_WAIT_MS = 60_000
DEFAULT_LIMIT = 50
MAX_LIMIT = 500

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

PREFIX = "/console/v1"
ROUTES = (
    ("GET", "/nodes", "nodes"),
    ("GET", "/nodes/pending", "pending"),
    ("GET", "/nodes/<target>", "node"),
    ("POST", "/nodes/<target>/invoke", "invoke"),
    ("POST", "/devices/<target>/revoke", "revoke"),
    ("GET", "/pairing/requests", "pairing_requests"),
    ("POST", "/pairing/requests/code", "mint"),
    ("GET", "/pairing/requests/<target>", "pairing_request"),
    ("POST", "/pairing/requests/<target>/approve", "approve"),
    ("POST", "/pairing/requests/<target>/reject", "reject"),
    ("GET", "/jobs", "jobs"),
    ("GET", "/jobs/<target>", "job"),
    ("GET", "/doctor", "doctor"),
)

B = TypeVar("B")
Operator = Callable[[IRequest], str]
"""Names who asks, from the connection a request came over."""


class ConsoleApp:
    """The routes; ``operator`` says who asks."""

    _log = Logger()

    def __init__(self, control: IControl, operator: Operator) -> None:
        self._control = control
        self._operator = operator

    def resource(self) -> Any:
        """The root resource, for a ``twisted.web.server.Site``."""
        from klein import Klein  # imports the reactor, so only when it has been chosen

        router = Klein()
        for method, path, endpoint in ROUTES:
            router.route(PREFIX + path, methods=[method])(getattr(self, endpoint))
        router.handle_errors(HTTPException)(self._no_route)
        return router.resource()

    # -- nodes ------------------------------------------------------------------------------

    def nodes(self, request: IRequest) -> Deferred[bytes]:
        return self._answer(
            request, lambda: self._control.nodes(_limit(request), _text(request, "cursor"))
        )

    def pending(self, request: IRequest) -> Deferred[bytes]:
        return self._answer(
            request,
            lambda: self._control.pairing_requests(
                "pending_approval", None, _limit(request), _text(request, "cursor")
            ),
        )

    def node(self, request: IRequest, target: str) -> Deferred[bytes]:
        return self._answer(request, lambda: self._control.node(target))

    def invoke(self, request: IRequest, target: str) -> Deferred[bytes]:
        return self._answer(
            request,
            lambda: self._control.invoke(
                target, _body(request, models.Invoke, MAX_INPUT_BODY), self._operator(request)
            ),
        )

    def revoke(self, request: IRequest, target: str) -> Deferred[bytes]:
        return self._answer(
            request,
            lambda: self._control.revoke(
                target, _body(request, models.Revoke), self._operator(request)
            ),
        )

    # -- pairing ------------------------------------------------------------------------------

    def pairing_requests(self, request: IRequest) -> Deferred[bytes]:
        return self._answer(
            request,
            lambda: self._control.pairing_requests(
                _text(request, "state"),
                _text(request, "client_kind"),
                _limit(request),
                _text(request, "cursor"),
            ),
        )

    def mint(self, request: IRequest) -> Deferred[bytes]:
        return self._answer(
            request,
            lambda: self._control.mint(_body(request, models.MintCode), self._operator(request)),
        )

    def pairing_request(self, request: IRequest, target: str) -> Deferred[bytes]:
        return self._answer(request, lambda: self._control.pairing_request(target))

    def approve(self, request: IRequest, target: str) -> Deferred[bytes]:
        return self._decide(request, target, True)

    def reject(self, request: IRequest, target: str) -> Deferred[bytes]:
        return self._decide(request, target, False)

    def _decide(self, request: IRequest, target: str, approved: bool) -> Deferred[bytes]:
        return self._answer(
            request,
            lambda: self._control.decide(
                target, approved, _body(request, models.Decision), self._operator(request)
            ),
        )

    # -- jobs and health ----------------------------------------------------------------------

    def jobs(self, request: IRequest) -> Deferred[bytes]:
        return self._answer(
            request,
            lambda: self._control.jobs(
                _text(request, "state"),
                _text(request, "device"),
                _limit(request),
                _text(request, "cursor"),
            ),
        )

    def job(self, request: IRequest, target: str) -> Deferred[bytes]:
        return self._answer(
            request,
            lambda: self._control.job(target, min(_number(request, "wait_ms", 0), MAX_WAIT_MS)),
        )

    def doctor(self, request: IRequest) -> Deferred[bytes]:
        return self._answer(request, self._control.health)

    # -- answers and problems -----------------------------------------------------------------

    def _no_route(self, request: IRequest, failure: Failure) -> bytes:
        if isinstance(failure.value, MethodNotAllowed):
            return _problem(
                request,
                405,
                models.Problem(
                    error="That resource does not take this method.",
                    code="method_not_allowed",
                    hint="docs/operations.md lists the routes",
                    category=Category.INVALID.value,
                    retryable=False,
                ),
            )
        return self._refused(failure, request)

    def _answer(self, request: IRequest, ask: Callable[[], Deferred[Any]]) -> Deferred[bytes]:
        """Ask, and write the answer.

        A caller that goes away changes nothing: what was asked runs to its end (a revocation that
        stopped half-way would leave the record and the memory at odds), only nobody hears of it.
        """
        answer: Deferred[bytes] = Deferred()

        def say(body: bytes) -> None:
            if not answer.called:
                answer.callback(body)

        asked = maybeDeferred(ask)
        asked.addCallback(self._write, request)
        asked.addErrback(self._refused, request)
        asked.addCallback(say)
        return answer

    def _write(self, body: Any, request: IRequest) -> bytes:
        request.setHeader(b"content-type", b"application/json")
        request.setHeader(b"cache-control", b"no-store")
        return msgspec.json.encode(body)

    def _refused(self, failure: Failure, request: IRequest) -> bytes:
        error = failure.value
        if isinstance(error, HTTPException):
            error = NotFound("resource", "that")
        if not isinstance(error, PalyraError):
            self._log.failure("a console request failed", failure)
            error = PalyraError()
        status = 412 if isinstance(error, _NOT_READY) else _STATUS[error.category]
        retry_after_s = getattr(error, "retry_after_s", None)
        if retry_after_s is not None:
            request.setHeader(b"retry-after", b"%d" % max(1, round(retry_after_s)))
        return _problem(request, status, problem_of(error))


def problem_of(error: PalyraError) -> models.Problem:
    """The body of a refusal."""
    fields = []
    if isinstance(error, Malformed):
        fields = [{"field": error.field, "problem": error.problem}]
    return models.Problem(
        error=error.sentence,
        code=error.code,
        hint=error.hint,
        category=error.category.value,
        retryable=error.retryable,
        validation_errors=fields,
    )


def _problem(request: IRequest, status: int, problem: models.Problem) -> bytes:
    request.setResponseCode(status)
    request.setHeader(b"content-type", b"application/json")
    return msgspec.json.encode(problem)


def _body(request: IRequest, kind: type[B], limit: int = MAX_BODY) -> B:
    """The request's body as ``kind``; unknown keys are refused."""
    data = request.content.read(limit + 1)
    if len(data) > limit:
        raise PayloadTooLarge("request", len(data), limit)
    try:
        return msgspec.json.decode(data or b"{}", type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed("body", str(error)) from error


def _text(request: IRequest, name: str) -> str | None:
    values = request.args.get(name.encode())
    return values[-1].decode("utf-8", "replace")[:256] if values else None


def _number(request: IRequest, name: str, default: int) -> int:
    text = _text(request, name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise Malformed(name, "must be a whole number")
    return int(text)


def _limit(request: IRequest) -> int:
    return max(1, min(_number(request, "limit", DEFAULT_LIMIT), MAX_LIMIT))
