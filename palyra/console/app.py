"""The resources of ``/console/v1``: let a request in, ask what its route asks, write the answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from palyra.console import answers, reading
from palyra.console.admission import IAdmission
from palyra.console.bounds import BoundedRequest
from palyra.console.events import EventStreams
from palyra.console.metricsite import expose
from palyra.console.openapi import document
from palyra.console.problems import refuse, refuse_method, status_of
from palyra.console.routes import ROUTES, SUBJECTS
from palyra.console.routing import JSON, Asked, Controls, Route
from palyra.core.audit import Acting, acts_for
from palyra.core.operators import Caller
from palyra.core.tracing import Facts, Span, SpanKind, checked_traceparent, under
from palyra.errors import NotFound, PalyraError, RoleDenied

PREFIX = "/console/v1"
OPENAPI = "/openapi.json"
METRICS = Route("GET", "metrics", "metrics", "Metrics for Prometheus; below the root.")


class ConsoleApp:
    """The routes over ``controls``; ``admission`` says who asks, ``clock`` is an IReactorTime."""

    _log = Logger()

    def __init__(self, controls: Controls, admission: IAdmission, clock: Any) -> None:
        self._controls = controls
        self._admission = admission
        self._streams = EventStreams(clock)

    def resource(self) -> Any:
        """The root resource, for a ``twisted.web.server.Site``."""
        from klein import Klein  # imports the reactor, so only when it has been chosen

        router = Klein()
        for route in ROUTES:
            path = f"{PREFIX}/{route.path.replace('{target}', '<target>')}"
            router.route(path, methods=[route.method], endpoint=route.name)(self._serving(route))
        router.route(OPENAPI, methods=["GET"])(self._describe)
        router.route("/metrics", methods=["GET"])(self._metrics)
        router.handle_errors(HTTPException)(self._no_route)
        return router.resource()

    def stop(self) -> None:
        """End the streams that are open, and begin no other."""
        self._streams.stop()

    def end_streams(self, of: Callable[[Caller], bool]) -> None:
        """End the streams of the callers that ``of`` says: they may not watch any more."""
        self._streams.end(of)

    # -- one request --------------------------------------------------------------------------

    def _serving(self, route: Route) -> Callable[..., Deferred[bytes]]:
        serve = self._follow if route.follow is not None else self._answer

        def respond(request: IRequest, target: str = "") -> Deferred[bytes]:
            return serve(route, request, target)

        return respond

    def _answer(self, route: Route, request: IRequest, target: str) -> Deferred[bytes]:
        """Ask, and write the answer.

        A caller that goes away changes nothing: what was asked runs to its end (a revocation that
        stopped half-way would leave the record and the memory at odds), only nobody hears of it.
        """
        answer: Deferred[bytes] = Deferred()

        def say(body: bytes) -> None:
            if not answer.called:
                answer.callback(body)

        asked = maybeDeferred(self._ask, route, request, target)
        asked.addCallback(
            lambda body: body if answer.called else self._still_told(body, route, request)
        )
        asked.addCallback(self._write, request, route)
        asked.addErrback(self._refused, request)
        asked.addCallback(say)
        return answer

    def _ask(self, route: Route, request: IRequest, target: str) -> Deferred[Any]:
        caller = self._admit(route, request)
        tracer = self._controls.tracer
        if tracer is None:
            return self._ask_as(caller, route, request, target)
        span = tracer.begin(route.name, SpanKind.SERVER, _parent(caller, request), _facts(route))
        with under(span.traceparent):
            asked = maybeDeferred(self._ask_as, caller, route, request, target)
        return asked.addBoth(_end, span, route)

    def _ask_as(
        self, caller: Caller, route: Route, request: IRequest, target: str
    ) -> Deferred[Any]:
        assert route.ask is not None, "it does not follow"
        _check(caller, route, request)
        body = reading.body_of(request, route)
        asked = Asked(caller, request, target, body)
        with acts_for(Acting(caller.operator_id, caller.name, caller.via)):
            return route.ask(self._controls, asked)

    def _admitted(self, route: Route, request: IRequest, *, again: bool = False) -> Caller:
        caller = self._admit(route, request, again=again)
        _check(caller, route, request)
        return caller

    def _admit(self, route: Route, request: IRequest, *, again: bool = False) -> Caller:
        caller = self._admission.admit(request, route, again=again)
        if isinstance(request, BoundedRequest):
            request.serves(caller, tells=_tells(route))
        return caller

    def _still_told(self, body: Any, route: Route, request: IRequest) -> Any:
        """What took its time is not told to somebody who was revoked meanwhile.

        Only what tells something: whoever ends their own session hears that it was done.
        """
        if _tells(route):
            self._admitted(route, request, again=True)
        return body

    def _write(self, body: Any, request: IRequest, route: Route) -> bytes:
        """The answer; what is not JSON comes as the bytes it is written with."""
        written: bytes = msgspec.json.encode(body) if route.media_type == JSON else body
        request.setResponseCode(route.status_of(body))
        request.setHeader(b"content-type", route.media_type.encode())
        request.setHeader(b"cache-control", b"no-store")
        return answers.listed(request, written) if route.listed else answers.whole(request, written)

    def _follow(self, route: Route, request: IRequest, target: str) -> Deferred[bytes]:
        """Answer with a stream of events; HEAD would hold one open that carries nothing."""
        if request.method == b"HEAD":
            raise MethodNotAllowed(["GET"])
        follow = route.follow
        assert follow is not None, "it follows"

        def begin() -> Deferred[bytes]:
            caller = self._admitted(route, request)
            asked = Asked(caller, request, target)
            return self._streams.open(
                request, lambda wake: follow(self._controls, asked, wake), caller
            )

        return maybeDeferred(begin).addErrback(self._refused, request)

    def _describe(self, request: IRequest) -> bytes:
        request.setHeader(b"content-type", JSON.encode())
        return json.dumps(document(SUBJECTS, PREFIX)).encode()

    def _metrics(self, request: IRequest) -> bytes:
        try:
            self._admitted(METRICS, request)
        except PalyraError as error:
            return refuse(request, error)
        return expose(request, self._controls.metrics)

    # -- refusals -----------------------------------------------------------------------------

    def _refused(self, failure: Failure, request: IRequest) -> bytes:
        error = failure.value
        if not isinstance(error, PalyraError):
            self._log.failure("a console request failed", failure)
            error = PalyraError()
        return refuse(request, error)

    def _no_route(self, request: IRequest, failure: Failure) -> bytes:
        if isinstance(failure.value, MethodNotAllowed):
            return refuse_method(request, failure.value)
        return refuse(request, NotFound("resource", "that"))


def _tells(route: Route) -> bool:
    """Whether an answer tells something, and not only that what was asked is done."""
    return route.method == "GET" or route.keyed


def _check(caller: Caller, route: Route, request: IRequest) -> None:
    if route.right is not None and not caller.may(route.right):
        raise RoleDenied(caller.role.value if caller.role else "none", route.right.value)
    reading.check_query(request, route)


# -- spans ------------------------------------------------------------------------------------


def _parent(caller: Caller, request: IRequest) -> str:
    """The span that a request is part of; a stranger does not choose what is traced."""
    header = request.getHeader(b"traceparent") if caller.role is not None else None
    return checked_traceparent(header.decode("latin-1")) if header else ""


def _facts(route: Route) -> Facts:
    """What a span says of a request: its route, never its path, query or body."""
    return {
        "http.request.method": route.method,
        "http.route": f"{PREFIX}/{route.path}",
    }


def _end(result: Any, span: Span, route: Route) -> Any:
    if not isinstance(result, Failure):
        status = route.status_of(result)
    else:
        error = result.value
        status = status_of(error) if isinstance(error, PalyraError) else 500
    span.end({"http.response.status_code": status}, failed=status >= 500)
    return result
