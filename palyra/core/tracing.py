"""Traces: which spans belong together, across rooms and machines (W3C Trace Context, level 2).

Rooms hand each other the context of a span as its ``traceparent``, and know nothing else of
whoever collects spans.  Empty text: there is none.
"""

from __future__ import annotations

import contextlib
import enum
import re
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Protocol

MAX_TRACEPARENT = 55
_FORM = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII
)

Facts = Mapping[str, str | int]
"""What a span says: ids, names and states; never of an input, an output, a code or a person."""


class SpanKind(enum.Enum):
    """Which end of a conversation a span is."""

    SERVER = "server"
    CLIENT = "client"
    INTERNAL = "internal"


class Span(Protocol):
    """Something that takes time and is told when it has ended."""

    @property
    def traceparent(self) -> str:
        """What a span below this one names as its parent."""

    def end(self, facts: Facts, failed: bool = False) -> None:
        """It has ended, with what is known of it only now."""


class Tracer(Protocol):
    """Where spans begin; :class:`palyra.observe.tracing.Tracing` where they are collected."""

    def begin(self, name: str, kind: SpanKind, parent: str, facts: Facts) -> Span:
        """Begin a span below ``parent``, or a trace where that is empty."""


_UNDER: ContextVar[str] = ContextVar("palyra_traceparent", default="")


def checked_traceparent(text: str) -> str:
    """``text`` where it is a ``traceparent``, else nothing: a peer's mistake traces nothing."""
    return text if len(text) <= MAX_TRACEPARENT and _FORM.fullmatch(text) else ""


def traceparent() -> str:
    """The span that the present context is part of; empty: none."""
    return _UNDER.get()


@contextlib.contextmanager
def under(parent: str) -> Iterator[None]:
    """What is begun inside is part of that span, also what it waits for later."""
    token = _UNDER.set(parent)
    try:
        yield
    finally:
        _UNDER.reset(token)
