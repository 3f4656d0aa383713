"""What a request says: its body, its query and its idempotency key, each typed and bounded."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from twisted.web.iweb import IRequest

from palyra.config.jobs import MAX_PAYLOAD_BYTES
from palyra.console import models
from palyra.console.control import AuditFilter, JobFilter
from palyra.console.routing import Parameter, Route
from palyra.core.devices import clean_text
from palyra.errors import Malformed, PayloadTooLarge

MAX_BODY = 64 * 1024
MAX_INPUT_BODY = MAX_PAYLOAD_BYTES * 3 // 2
MAX_TEXT = 256
MAX_PROBLEM = 240
MAX_WHERE = 4_096
DEFAULT_LIMIT = 50
MAX_LIMIT = 500

B = TypeVar("B")
Keyed = TypeVar("Keyed", models.Invoke, models.SubmitJobs)


def body(request: IRequest, kind: type[B], limit: int = MAX_BODY) -> B:
    """The request's body as ``kind``, at most ``limit`` bytes; unknown keys are refused."""
    data = request.content.read(limit + 1)
    if len(data) > limit:
        raise PayloadTooLarge("request", len(data), limit)
    try:
        return msgspec.json.decode(data or b"{}", type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed("body", clean_text(str(error), MAX_PROBLEM)) from error


def body_of(request: IRequest, route: Route) -> Any:
    """The body that a route takes; None where it takes none."""
    if route.body is None:
        return None
    return keyed_body(request, route.body) if route.keyed else body(request, route.body)


def check_query(request: IRequest, route: Route) -> None:
    """Refuse what the route does not know: a misspelt filter would show everything."""
    known = {parameter.name.encode(): parameter for parameter in route.query}
    for name in request.args:
        if name not in known:
            shown = clean_text(name.decode("utf-8", "replace"), 64)
            raise Malformed(shown, "is not a parameter of this resource")
        _check_words(request, known[name])


def _check_words(request: IRequest, parameter: Parameter) -> None:
    choices = parameter.choices
    if not parameter.is_text and b"" in request.args[parameter.name.encode()]:
        raise Malformed(parameter.name, "must not be empty")
    if choices and not set(texts(request, parameter.name)) <= set(choices):
        raise Malformed(parameter.name, f"must be one of {', '.join(choices)}")


def keyed_body(request: IRequest, kind: type[Keyed]) -> Keyed:
    """A body with input; the header ``Idempotency-Key`` may say its ``idempotency_key``.

    :raises Malformed: both say one and they differ, or the header is empty or not UTF-8.
    """
    read = body(request, kind, MAX_INPUT_BODY)
    keys = _header_keys(request)
    if not keys:
        return read
    if read.idempotency_key:
        keys.add(read.idempotency_key)
    if len(keys) > 1:
        raise Malformed("idempotency_key", "is given twice, and differently")
    return msgspec.structs.replace(read, idempotency_key=keys.pop())


def _header_keys(request: IRequest) -> set[str]:
    given = request.requestHeaders.getRawHeaders(b"idempotency-key") or []
    try:
        keys = {each.decode() for each in given}
    except UnicodeDecodeError as error:
        raise Malformed("idempotency_key", "is not UTF-8") from error
    if "" in keys:
        raise Malformed("idempotency_key", "must not be empty where its header is sent")
    return keys


def texts(request: IRequest, name: str, limit: int = MAX_TEXT) -> list[str]:
    """Every value of a query parameter that is not empty, each at most ``limit`` characters."""
    found = []
    for value in request.args.get(name.encode(), []):
        try:
            found.append(value.decode())
        except UnicodeDecodeError as error:
            raise Malformed(name, "is not UTF-8") from error
        if len(found[-1]) > limit:
            raise Malformed(name, f"has more than {limit} characters")
    return [text for text in found if text]


def text(request: IRequest, name: str, limit: int = MAX_TEXT) -> str | None:
    """The one value of a query parameter; None where it is not given, or empty."""
    values = texts(request, name, limit)
    if len(values) > 1:
        raise Malformed(name, "is given more than once")
    return values[0] if values else None


def names(request: IRequest, name: str, at_most: int) -> frozenset[str]:
    """The values of a parameter that may be repeated so many times."""
    given = frozenset(texts(request, name))
    if len(given) > at_most:
        raise Malformed(name, f"is given more than {at_most} times")
    return given


def where(request: IRequest) -> str:
    """The targeting expression of a query; empty where there is none."""
    return text(request, "where", MAX_WHERE) or ""


def number(request: IRequest, name: str, default: int) -> int:
    """A query parameter that is a whole number."""
    given = text(request, name)
    if given is None:
        return default
    if not given.isascii() or not given.isdigit() or len(given) > 9:
        raise Malformed(name, "must be a whole number")
    return int(given)


def limit(request: IRequest) -> int:
    """How many entries a page may have."""
    return max(1, min(number(request, "limit", DEFAULT_LIMIT), MAX_LIMIT))


def cursor(request: IRequest) -> str | None:
    """Where a page begins: what the page before it gave."""
    return text(request, "cursor")


def job_filter(request: IRequest) -> JobFilter:
    """Which jobs a query asks for; ``state`` may be repeated."""
    return JobFilter(
        states=tuple(dict.fromkeys(texts(request, "state"))),
        device=text(request, "device") or "",
        capability=text(request, "capability") or "",
        by=text(request, "by") or "",
        fanout=text(request, "fanout") or "",
    )


def audit_filter(request: IRequest) -> AuditFilter:
    """Which audit rows a query asks for."""
    after = number(request, "after_seq", 0) if text(request, "after_seq") is not None else None
    return AuditFilter(
        who=text(request, "who") or "",
        action=text(request, "action") or "",
        subject=text(request, "subject") or "",
        chain_id=text(request, "chain") or "",
        after_seq=after,
    )
