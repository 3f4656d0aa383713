"""Routes as values: what each one takes, gives and asks for, said once for serving and for the
document that describes them (:mod:`palyra.console.openapi`)."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.web.iweb import IRequest

from palyra.console.control import (
    IApprovalControl,
    IAuditControl,
    IControl,
    IFeedControl,
    IOperatorControl,
    ISignIn,
)
from palyra.core.operators import Caller, Right
from palyra.core.tracing import Tracer

JSON = "application/json"
EVENTS = "text/event-stream"
ACCEPTED = 202
PEM = "application/x-pem-file"

Schema = dict[str, Any]
Exposition = Callable[[str], tuple[str, bytes]]
"""The metrics for an ``Accept`` header: content type and body."""


@attrs.frozen
class Controls:
    """Everything that routes ask; the gateway provides it, tests fake it."""

    gateway: IControl
    operators: IOperatorControl
    sign_in: ISignIn
    approvals: IApprovalControl
    audit: IAuditControl
    feed: IFeedControl
    metrics: Exposition
    tracer: Tracer | None = None
    """Where spans of requests begin; None: requests are not traced."""


@attrs.frozen
class Parameter:
    """A query parameter: its name, its JSON Schema and what it is for."""

    name: str
    schema: Schema
    description: str

    @property
    def choices(self) -> tuple[str, ...]:
        """The words that it, or each of its values, is one of; empty: any."""
        return tuple(self.schema.get("items", self.schema).get("enum", ()))

    @property
    def is_text(self) -> bool:
        """Whether it, or each of its values, may be any text; an empty one says nothing."""
        return not self.choices and self.schema["type"] != "integer"


@attrs.frozen
class Asked:
    """One request that was let in: who asks, and what they say.

    ``target`` is the path's own id or name, empty where it has none; ``body`` is of the route's
    type, None where it takes none.  The query is read from ``request`` by
    :mod:`palyra.console.reading`.
    """

    caller: Caller
    request: IRequest
    target: str = ""
    body: Any = None


Ask = Callable[[Controls, Asked], Deferred[Any]]
Wake = Callable[[], None]
Follow = Callable[[Controls, Asked, Wake], Deferred[Any]]
"""Fires with an IFollowing or an IFeed."""


@attrs.frozen
class Route:
    """One operation of ``/console/v1``.

    :param path: below the prefix, with at most one ``{target}``.
    :param name: the operation's stable name.
    :param answer: the type of the answer's body, or of one event; bytes for what is not JSON.
    :param follow: makes what a stream of server-sent events takes from, instead of ``ask``.
    :param right: what the caller's role must include; None: nobody has to be signed in.
    :param keyed: the body carries input, and ``Idempotency-Key`` may be sent with it.
    :param status: of the answer.
    :param accepted: whether an answer only says that what was asked for was taken: status 202.
    :param media_type: of the answer.
    :param listed: a long answer that may be compressed and asked for conditionally.  Never one
        that holds a secret (BREACH).
    :param example: a body that the route takes, for the document.  Never a secret.
    """

    method: str
    path: str
    name: str
    summary: str
    ask: Ask | None = None
    answer: Any = None
    right: Right | None = Right.READ
    body: type[Any] | None = None
    keyed: bool = False
    query: tuple[Parameter, ...] = ()
    status: int = 200
    accepted: Callable[[Any], bool] | None = None
    media_type: str = JSON
    listed: bool = False
    follow: Follow | None = None
    example: Mapping[str, Any] | None = None

    def status_of(self, answer: Any) -> int:
        """The status that goes with an answer."""
        return ACCEPTED if self.accepted is not None and self.accepted(answer) else self.status


@attrs.frozen
class Subject:
    """Routes that belong together, under the heading that the document has them."""

    name: str
    about: str
    routes: tuple[Route, ...]


def text(name: str, description: str, maximum: int = 256) -> Parameter:
    """A parameter of at most ``maximum`` characters."""
    return Parameter(name, {"type": "string", "maxLength": maximum}, description)


def number(name: str, description: str) -> Parameter:
    """A parameter that is a whole number of at most nine digits."""
    schema = {"type": "integer", "minimum": 0, "maximum": 999_999_999}
    return Parameter(name, schema, description)


def words(kind: type[enum.Enum]) -> tuple[str, ...]:
    """How the members of an enumeration are said."""
    return tuple(member.value for member in kind)


def choice(name: str, description: str, *values: str) -> Parameter:
    """A parameter that is one of some words."""
    return Parameter(name, {"type": "string", "enum": list(values)}, description)


def repeated(name: str, description: str, *values: str) -> Parameter:
    """A parameter that may be given several times; each is one of ``values`` where there are."""
    each: Schema = {"type": "string", "enum": list(values)} if values else _ID
    return Parameter(name, {"type": "array", "items": each}, description)


_ID = {"type": "string", "maxLength": 256}
LIMIT = number("limit", "How many entries a page has at most (default 50); above 500 means 500.")
CURSOR = text("cursor", "Where the page begins: `next_cursor` of the page before it.")
WHERE = text("where", "A targeting expression, such as `label.site = prague`.", 4_096)
WAIT_MS = number("wait_ms", "How long to wait for a final state; above 60000 means 60000.")
PAGED = (LIMIT, CURSOR)
