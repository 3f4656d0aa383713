"""The resources of ``/console/v1``: read a request, ask the control, write the answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from palyra.console import models, reading
from palyra.console.control import IControl
from palyra.console.events import EventStreams, Follow
from palyra.console.problems import refuse, refuse_method
from palyra.errors import Malformed, NotFound, PalyraError

MAX_WAIT_MS = 60_000
JSON = b"application/json"
PEM = b"application/x-pem-file"

PREFIX = "/console/v1"
ROUTES = (
    ("GET", "/nodes", "nodes"),
    ("GET", "/nodes/pending", "pending"),
    ("GET", "/nodes/<target>", "node"),
    ("POST", "/nodes/<target>/invoke", "invoke"),
    ("POST", "/devices/rotate", "rotate"),
    ("POST", "/devices/clear", "clear"),
    ("POST", "/devices/<target>/labels", "label"),
    ("POST", "/devices/<target>/grants", "grant"),
    ("POST", "/devices/<target>/rotate", "rotate_one"),
    ("POST", "/devices/<target>/revoke", "revoke"),
    ("POST", "/devices/<target>/remove", "remove"),
    ("GET", "/pairing/requests", "pairing_requests"),
    ("POST", "/pairing/requests/code", "mint"),
    ("GET", "/pairing/requests/<target>", "pairing_request"),
    ("POST", "/pairing/requests/<target>/approve", "approve"),
    ("POST", "/pairing/requests/<target>/reject", "reject"),
    ("GET", "/jobs", "jobs"),
    ("POST", "/jobs", "submit"),
    ("POST", "/jobs/purge", "purge"),
    ("GET", "/jobs/<target>", "job"),
    ("POST", "/jobs/<target>/cancel", "cancel_job"),
    ("GET", "/jobs/<target>/events", "job_events"),
    ("GET", "/fanouts/<target>", "fanout"),
    ("POST", "/fanouts/<target>/cancel", "cancel_fanout"),
    ("GET", "/fanouts/<target>/events", "fanout_events"),
    ("GET", "/ca", "ca"),
    ("POST", "/ca/rotate", "rotate_ca"),
    ("GET", "/crl.pem", "crl"),
    ("GET", "/state", "state"),
    ("POST", "/state/confirm", "confirm_state"),
    ("GET", "/doctor", "doctor"),
)

Operator = Callable[[IRequest], str]
"""Names who asks, from the connection a request came over."""


class ConsoleApp:
    """The routes; ``operator`` says who asks, ``clock`` is an IReactorTime."""

    _log = Logger()

    def __init__(self, control: IControl, operator: Operator, clock: Any) -> None:
        self._control = control
        self._operator = operator
        self._streams = EventStreams(clock)

    def resource(self) -> Any:
        """The root resource, for a ``twisted.web.server.Site``."""
        from klein import Klein  # imports the reactor, so only when it has been chosen

        router = Klein()
        for method, path, endpoint in ROUTES:
            router.route(PREFIX + path, methods=[method])(getattr(self, endpoint))
        router.handle_errors(HTTPException)(self._no_route)
        return router.resource()

    def stop(self) -> None:
        """End the streams that are open, and begin no other."""
        self._streams.stop()

    # -- nodes ------------------------------------------------------------------------------

    def nodes(self, request: IRequest) -> Deferred[bytes]:
        return self._answer(
            request,
            lambda: self._control.nodes(
                reading.limit(request), reading.cursor(request), reading.where(request)
            ),
        )

    def pending(self, request: IRequest) -> Deferred[bytes]:
        return self._answer(
            request,
            lambda: self._control.pairing_requests(
                "pending_approval", None, reading.limit(request), reading.cursor(request)
            ),
        )

    def node(self, request: IRequest, target: str) -> Deferred[bytes]:
        return self._answer(request, lambda: self._control.node(target))

    def invoke(self, request: IRequest, target: str) -> Deferred[bytes]:
        return self._answer(
            request,
            lambda: self._control.invoke(
                target, reading.keyed_body(request, models.Invoke), self._operator(request)
            ),
        )

    def label(self, request: IRequest, target: str) -> Deferred[bytes]:
        return self._change(request, target, self._control.label, models.LabelNode)

    def revoke(self, request: IRequest, target: str) -> Deferred[bytes]:
        return self._change(request, target, self._control.revoke, models.Revoke)

    def remove(self, request: IRequest, target: str) -> Deferred[bytes]:
        return self._change(request, target, self._control.remove, models.Remove)

    def clear(self, request: IRequest) -> Deferred[bytes]:
        return self._order(request, self._control.clear, models.Remove)

    def grant(self, request: IRequest, target: str) -> Deferred[bytes]:
        return self._change(request, target, self._control.grant, models.GrantNode)

    def rotate(self, request: IRequest) -> Deferred[bytes]:
        return self._order(request, self._control.rotate, models.Rotate)

    def rotate_one(self, request: IRequest, target: str) -> Deferred[bytes]:
        return self._change(request, target, self._rotate_one, models.Rotate)

    def _rotate_one(
        self, target: str, body: models.Rotate, by: str
    ) -> Deferred[models.RotateAnswer]:
        """The path names the device: a body that chooses others says two things."""
        if body.targets or body.where or body.everything:
            raise Malformed("body", "chooses devices, and so does the path")
        return self._control.rotate(models.Rotate([target], reason=body.reason), by)

    # -- the gateway's own certificates and state ---------------------------------------------

    def ca(self, request: IRequest) -> Deferred[bytes]:
        return self._answer(request, self._control.ca)

    def rotate_ca(self, request: IRequest) -> Deferred[bytes]:
        return self._order(request, self._control.rotate_ca, models.RotateCa)

    def crl(self, request: IRequest) -> Deferred[bytes]:
        return self._answer(request, self._control.crl, content_type=PEM)

    def state(self, request: IRequest) -> Deferred[bytes]:
        return self._answer(request, self._control.state)

    def confirm_state(self, request: IRequest) -> Deferred[bytes]:
        return self._order(
            request, lambda body, by: self._control.confirm_state(by), models.ConfirmState
        )

    # -- pairing ------------------------------------------------------------------------------

    def pairing_requests(self, request: IRequest) -> Deferred[bytes]:
        return self._answer(
            request,
            lambda: self._control.pairing_requests(
                reading.text(request, "state"),
                reading.text(request, "client_kind"),
                reading.limit(request),
                reading.cursor(request),
            ),
        )

    def mint(self, request: IRequest) -> Deferred[bytes]:
        return self._order(request, self._control.mint, models.MintCode)

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
                target, approved, reading.body(request, models.Decision), self._operator(request)
            ),
        )

    # -- jobs and fan-outs --------------------------------------------------------------------

    def jobs(self, request: IRequest) -> Deferred[bytes]:
        return self._answer(
            request,
            lambda: self._control.jobs(
                reading.job_filter(request), reading.limit(request), reading.cursor(request)
            ),
        )

    def submit(self, request: IRequest) -> Deferred[bytes]:
        return self._answer(
            request,
            lambda: self._control.submit(
                reading.keyed_body(request, models.SubmitJobs), self._operator(request)
            ),
            202,
        )

    def purge(self, request: IRequest) -> Deferred[bytes]:
        return self._order(request, self._control.purge, models.PurgeJobs)

    def job(self, request: IRequest, target: str) -> Deferred[bytes]:
        return self._answer(
            request,
            lambda: self._control.job(
                target, min(reading.number(request, "wait_ms", 0), MAX_WAIT_MS)
            ),
        )

    def cancel_job(self, request: IRequest, target: str) -> Deferred[bytes]:
        return self._change(request, target, self._control.cancel_job, models.CancelJob)

    def job_events(self, request: IRequest, target: str) -> Deferred[bytes]:
        return self._follow(request, lambda wake: self._control.follow_job(target, wake))

    def fanout(self, request: IRequest, target: str) -> Deferred[bytes]:
        return self._answer(
            request,
            lambda: self._control.fanout(target, reading.limit(request), reading.cursor(request)),
        )

    def cancel_fanout(self, request: IRequest, target: str) -> Deferred[bytes]:
        return self._change(request, target, self._control.cancel_fanout, models.CancelJob)

    def fanout_events(self, request: IRequest, target: str) -> Deferred[bytes]:
        return self._follow(request, lambda wake: self._control.follow_fanout(target, wake))

    # -- health -------------------------------------------------------------------------------

    def doctor(self, request: IRequest) -> Deferred[bytes]:
        return self._answer(request, self._control.health)

    # -- answers and refusals -----------------------------------------------------------------

    def _change(
        self,
        request: IRequest,
        target: str,
        change: Callable[[str, Any, str], Deferred[Any]],
        kind: type[Any],
    ) -> Deferred[bytes]:
        """A change of one thing, as a small body says it."""
        return self._answer(
            request,
            lambda: change(target, reading.body(request, kind), self._operator(request)),
        )

    def _order(
        self,
        request: IRequest,
        order: Callable[[Any, str], Deferred[Any]],
        kind: type[Any],
    ) -> Deferred[bytes]:
        """A change of more than one thing, or of the gateway, as a small body says it."""
        return self._answer(
            request, lambda: order(reading.body(request, kind), self._operator(request))
        )

    def _answer(
        self,
        request: IRequest,
        ask: Callable[[], Deferred[Any]],
        status: int = 200,
        content_type: bytes = JSON,
    ) -> Deferred[bytes]:
        """Ask, and write the answer.

        A caller that goes away changes nothing: what was asked runs to its end (a revocation that
        stopped half-way would leave the record and the memory at odds), only nobody hears of it.
        """
        answer: Deferred[bytes] = Deferred()

        def say(body: bytes) -> None:
            if not answer.called:
                answer.callback(body)

        asked = maybeDeferred(ask)
        asked.addCallback(self._write, request, status, content_type)
        asked.addErrback(self._refused, request)
        asked.addCallback(say)
        return answer

    def _write(self, body: Any, request: IRequest, status: int, content_type: bytes) -> bytes:
        """The answer; what is not JSON comes as the bytes it is written with."""
        written: bytes = msgspec.json.encode(body) if content_type == JSON else body
        request.setResponseCode(status)
        request.setHeader(b"content-type", content_type)
        request.setHeader(b"cache-control", b"no-store")
        return written

    def _follow(self, request: IRequest, follow: Follow) -> Deferred[bytes]:
        """Answer with a stream of events; HEAD would hold one open that carries nothing."""
        if request.method == b"HEAD":
            raise MethodNotAllowed(["GET"])
        return self._streams.open(request, follow).addErrback(self._refused, request)

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
