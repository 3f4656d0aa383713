"""The OpenAPI 3.1 document of ``/console/v1``, made of the routes and their types.

See https://spec.openapis.org/oas/v3.1.0; schemas are JSON Schema 2020-12, as msgspec writes them.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import msgspec

from palyra import __version__
from palyra.console import models
from palyra.console.routing import ACCEPTED, JSON, Route, Subject

Object = dict[str, Any]

REF = "#/components/schemas/{name}"
EVENTS = "text/event-stream"
_ABOUT = """\
What an operator or a program asks of a Palyra gateway.  Times are Unix milliseconds.

Whoever asks shows a client certificate (`palyra operators invite` and `accept` make one), or the
cookie of a browser session together with its CSRF token, never both.  Over `console.sock` it is the
account of the caller.

Lists come in pages: while `page.has_more`, ask again with `cursor` set to `page.next_cursor`.
Every refusal is a Problem: branch on its `code`, show its `error` and `hint`."""
_REFUSALS = {
    400: "The request is not one that the route takes.",
    401: "Nobody is signed in, or the credential is not valid.",
    403: "The caller's role, a rule, or the browser's own check does not allow it.",
    404: "There is no such thing.",
    405: "The resource does not take this method.",
    409: "It is not in a state for this.",
    412: "The device is offline, not registered, or cannot run this.",
    413: "The body is longer than the route takes: 64 KiB, with input 4.5 MiB.",
    414: "The request's line is longer than 16 KiB.",
    415: "The body is not application/json.",
    421: "The request is for another host.",
    429: "Too many requests.",
    503: "Not now.",
    504: "It did not end in time; it goes on.",
}
_OF_ACTS = {412, 504}
"""What only a request that wants something done is answered."""
_SECONDS = {"type": "integer", "minimum": 1}
_REFUSAL_HEADERS: dict[int, Object] = {
    405: {"Allow": {"description": "What it does take.", "schema": {"type": "string"}}},
    429: {"Retry-After": {"description": "Seconds to wait.", "schema": _SECONDS}},
    503: {"Retry-After": {"description": "Seconds to wait.", "schema": _SECONDS}},
}
_ETAG = {
    "ETag": {
        "description": "A weak tag of this answer, for If-None-Match.",
        "schema": {"type": "string", "pattern": '^W/"[0-9a-f]{24}"$'},
    }
}
_PARAMETERS: dict[str, Object] = {
    "IdempotencyKey": {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "A repetition of the same call with the same key gets the same answer.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 128},
    },
    "IfNoneMatch": {
        "name": "If-None-Match",
        "in": "header",
        "description": "The ETag of an answer that is at hand: 304 where nothing has changed.",
        "schema": {"type": "string"},
    },
    "LastEventId": {
        "name": "Last-Event-ID",
        "in": "header",
        "description": "The number of the last event that came: what was missed is told by a gap.",
        "schema": {"type": "string"},
    },
}
_IDS = {
    "nodes": "device",
    "inventory": "device",
    "devices": "device",
    "jobs": "job",
    "fanouts": "fanout",
    "operators": "operator",
    "approvals": "approval",
    "pairing/requests": "request",
    "pairing/codes": "code",
}
"""What the id behind a part of the paths is of."""
_NAMED = ("device", "operator")
_SECURITY: dict[str, Object] = {
    "certificate": {
        "type": "mutualTLS",
        "description": "An operator's client certificate.",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "palyra_console_session",
        "description": "Set by auth/login.  Its name ends in _SCHEME_PORT on any other port than "
        "7142, and on plain HTTP.",
    },
    "csrf": {
        "type": "apiKey",
        "in": "header",
        "name": "x-palyra-csrf-token",
        "description": "Told once by auth/login; sent with every request that the cookie is for.",
    },
}
_SIGNED_IN: list[Object] = [{"certificate": []}, {"session": [], "csrf": []}]


def document(subjects: Iterable[Subject], prefix: str) -> Object:
    """The document, a new one each time."""
    subjects = tuple(subjects)
    named, schemas = _schemas(route for subject in subjects for route in subject.routes)
    paths: Object = {}
    for subject in subjects:
        for route in subject.routes:
            operation = {"tags": [subject.name], **_operation(route, named)}
            paths.setdefault(f"{prefix}/{_path(route)}", {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Palyra console",
            "version": __version__,
            "summary": f"The contract {models.CONTRACT_VERSION}.",
            "description": _ABOUT,
            "license": {"name": "Apache License 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "The gateway that this document comes from."}],
        "tags": [{"name": each.name, "description": each.about} for each in subjects],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "parameters": _PARAMETERS | {_component(what): _id(what) for what in _IDS.values()},
            "responses": {_refusal(status): _problem(status, named) for status in _REFUSALS},
            "securitySchemes": _SECURITY,
        },
    }


def _schemas(routes: Iterable[Route]) -> tuple[dict[Any, Object], Object]:
    """References by type, and what they refer to."""
    kinds: set[Any] = {kind for route in routes for kind in (route.answer, route.body)}
    ordered = sorted(filter(_is_model, kinds | {models.Problem}), key=lambda kind: kind.__name__)
    references, components = msgspec.json.schema_components(ordered, ref_template=REF)
    for schema in components.values():
        if "description" in schema:
            schema["description"] = inspect.cleandoc(schema["description"]).replace("``", "`")
    return dict(zip(ordered, references, strict=True)), components


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _operation(route: Route, named: dict[Any, Object]) -> Object:
    operation: Object = {
        "operationId": route.name,
        "summary": route.summary,
        "parameters": _parameters(route),
        "security": [] if route.right is None else _SIGNED_IN,
        "responses": _responses(route, named),
    }
    if route.right is not None:
        operation["x-palyra-right"] = route.right.value
    if route.body is not None:
        content: Object = {"schema": named[route.body]}
        if route.example is not None:
            content["example"] = route.example
        operation["requestBody"] = {"required": True, "content": {JSON: content}}
    return operation


def _path(route: Route) -> str:
    return route.path.replace("{target}", f"{{{_target(route)}_id}}")


def _target(route: Route) -> str:
    """What the id in the path is of; empty where there is none."""
    before, target, _ = route.path.partition("/{target}")
    return _IDS[before] if target else ""


def _component(what: str) -> str:
    return f"{what.title()}Id"


def _id(what: str) -> Object:
    name = ", or its name" if what in _NAMED else ""
    return {
        "name": f"{what}_id",
        "in": "path",
        "required": True,
        "description": f"The id, at least four characters of its random part{name}.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 256},
    }


def _parameters(route: Route) -> list[Object]:
    target = _target(route)
    components = {
        _component(target): bool(target),
        "IdempotencyKey": route.keyed,
        "IfNoneMatch": route.listed,
        "LastEventId": route.follow is not None,
    }
    query = [
        {"name": each.name, "in": "query", "description": each.description, "schema": each.schema}
        for each in route.query
    ]
    used = (name for name, is_used in components.items() if is_used)
    return [*({"$ref": f"#/components/parameters/{name}"} for name in used), *query]


def _responses(route: Route, named: dict[Any, Object]) -> Object:
    answer = _answer(route, named)
    responses: Object = {str(route.status): answer}
    if route.accepted is not None:
        taken = "It was taken, and waits for an operator's approval."
        responses[str(ACCEPTED)] = {**answer, "description": taken}
    if route.listed:
        same = "Nothing has changed since the ETag that was sent."
        responses["304"] = {"description": same, "headers": _ETAG}
    for status in _REFUSALS:
        if route.method != "GET" or status not in _OF_ACTS:
            responses[str(status)] = {"$ref": f"#/components/responses/{_refusal(status)}"}
    return responses


def _answer(route: Route, named: dict[Any, Object]) -> Object:
    if route.follow is not None:
        event = named[route.answer]["$ref"].rpartition("/")[2]
        said = f"Server-sent events; the data of each is JSON: {event}."
        return {"description": said, "content": {EVENTS: {"schema": {"type": "string"}}}}
    schema = named.get(route.answer, {"type": "string"})
    answer: Object = {
        "description": "It was taken." if route.status == ACCEPTED else "It is done.",
        "content": {route.media_type: {"schema": schema}},
    }
    if route.method == "GET":
        answer["description"] = "What was asked for."
    if route.listed:
        answer["headers"] = _ETAG
    return answer


def _refusal(status: int) -> str:
    return f"Problem{status}"


def _problem(status: int, named: dict[Any, Object]) -> Object:
    content = {JSON: {"schema": named[models.Problem]}}
    problem: Object = {"description": _REFUSALS[status], "content": content}
    if status in _REFUSAL_HEADERS:
        problem["headers"] = _REFUSAL_HEADERS[status]
    return problem
