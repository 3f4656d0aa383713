"""Spans, collected by OpenTelemetry and sent as OTLP over HTTP by a thread of its own.

OpenTelemetry is an optional extra: nothing of it is imported before tracing is switched on.
"""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from twisted.logger import Logger

from palyra import __version__
from palyra.config.tracing import TracingSection
from palyra.core.tracing import Facts, SpanKind
from palyra.errors import ConfigInvalid, TracingMissing

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Span as OtelSpan

MAX_QUEUED = 4_096
"""Spans that wait to be sent; with more the oldest are dropped."""
SEND_S = 5
"""What one batch gets, retries included."""
CLOSE_S = 2.0
"""What the last spans get at a stop."""
TELL_S = 60.0
"""How often the log says that spans are not taken."""
_LIBRARY = "opentelemetry"


class Tracing:
    """Provides :class:`palyra.core.tracing.Tracer`.

    ``processor`` takes the spans that have ended; ``ratio`` of the traces that begin here are
    kept.  Beginning and ending a span never block and never fail.
    """

    def __init__(
        self, processor: SpanProcessor, *, service: str, instance: str, ratio: float = 1.0
    ) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
        from opentelemetry.trace import SpanKind as Kind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        about = {
            "service.name": service,
            "service.instance.id": instance,
            "service.version": __version__,
        }
        self._provider = TracerProvider(
            sampler=ParentBasedTraceIdRatio(ratio),
            resource=Resource(about),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("palyra", __version__)
        self._propagator = TraceContextTextMapPropagator()
        self._kinds = {kind: Kind[kind.name] for kind in SpanKind}

    def begin(self, name: str, kind: SpanKind, parent: str, facts: Facts) -> _Span:
        """Begin a span below ``parent`` (a checked ``traceparent``), or a trace without one."""
        from opentelemetry.context import Context

        context = Context()
        if parent:
            context = self._propagator.extract({"traceparent": parent}, context)
        span = self._tracer.start_span(name, context, self._kinds[kind], dict(facts))
        return _Span(span)

    def close(self) -> None:
        """Send what waits; blocks."""
        self._provider.shutdown()


class _Span:
    """Provides :class:`palyra.core.tracing.Span`."""

    __slots__ = ("_span", "traceparent")

    def __init__(self, span: OtelSpan) -> None:
        context = span.get_span_context()
        self._span = span
        self.traceparent = (
            f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
        )

    def end(self, facts: Facts, failed: bool = False) -> None:
        from opentelemetry.trace import StatusCode

        self._span.set_attributes(dict(facts))
        if failed:
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


class Exporting(Tracing):
    """Tracing that sends its spans to a collector; made after the process has forked."""

    def __init__(self, section: TracingSection, *, service: str, instance: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        self._exporter = OTLPSpanExporter(
            endpoint=section.endpoint, certificate_file=section.ca_file or None, timeout=SEND_S
        )
        processor = BatchSpanProcessor(self._exporter, max_queue_size=MAX_QUEUED)
        super().__init__(processor, service=service, instance=instance, ratio=section.ratio)
        self._told = _Told(section.endpoint)
        logging.getLogger(_LIBRARY).addHandler(self._told)
        logging.getLogger(_LIBRARY).propagate = False

    def close(self) -> None:
        """Send what waits, for at most CLOSE_S, and what is being sent then; blocks."""
        last = threading.Thread(target=self._provider.force_flush, daemon=True)
        last.start()
        last.join(CLOSE_S)
        self._told.silent = True  # it would tell of each batch that comes too late
        # Ends its pauses between tries, for which a shutdown would wait.
        self._exporter.shutdown()  # type: ignore[no-untyped-call]
        self._provider.shutdown()
        logging.getLogger(_LIBRARY).removeHandler(self._told)


class _Told(logging.Handler):
    """Says in our log what the library says, once in a while: it would say it of each batch."""

    _log = Logger()

    def __init__(self, endpoint: str) -> None:
        super().__init__(logging.WARNING)
        self.silent = False
        self._endpoint = endpoint
        self._next_s = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        now_s = time.monotonic()
        if self.silent or now_s < self._next_s:
            return
        self._next_s = now_s + TELL_S
        self._log.warn(
            "spans are not taken by {endpoint}: {cause}",
            endpoint=self._endpoint,
            cause=record.getMessage()[:240],
        )


def open_tracing(section: TracingSection, service: str, instance: str) -> Exporting | None:
    """The tracing that is configured; None where it is not.  Starts a thread.

    :raises palyra.errors.TracingMissing: the extra is not installed.
    :raises palyra.errors.ConfigInvalid: there is no such CA file.
    """
    if not section.endpoint:
        return None
    if section.ca_file and not Path(section.ca_file).is_file():
        raise ConfigInvalid(section.ca_file, "tracing.ca_file", "does not exist")
    try:
        return Exporting(section, service=service, instance=instance)
    except ImportError as error:
        raise TracingMissing(str(error).partition("\n")[0]) from error
