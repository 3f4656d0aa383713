"""Spans that a test looks at, without whoever would collect them."""

from __future__ import annotations

from typing import Any

import attrs

from palyra.core.tracing import Facts, SpanKind


@attrs.define
class FakeSpan:
    """One span; ``facts`` are those of its beginning and of its end."""

    name: str
    kind: SpanKind
    parent: str
    facts: dict[str, Any]
    traceparent: str
    ended: bool = False
    failed: bool = False

    def end(self, facts: Facts, failed: bool = False) -> None:
        assert not self.ended, "a span ends once"
        self.facts |= facts
        self.ended, self.failed = True, failed


class FakeTracer:
    """Provides :class:`palyra.core.tracing.Tracer`; each span is the next number."""

    def __init__(self) -> None:
        self.spans: list[FakeSpan] = []

    def begin(self, name: str, kind: SpanKind, parent: str, facts: Facts) -> FakeSpan:
        trace_id = parent[3:35] or f"{len(self.spans) + 1:032x}"
        traceparent = f"00-{trace_id}-{len(self.spans) + 1:016x}-01"
        self.spans.append(FakeSpan(name, kind, parent, dict(facts), traceparent))
        return self.spans[-1]

    def named(self, name: str) -> FakeSpan:
        """The only span of that name."""
        (span,) = (span for span in self.spans if span.name == name)
        return span
