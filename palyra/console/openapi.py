"""The OpenAPI 3.1 document of ``/console/v1``, made of the routes and their types.

See https://spec.openapis.org/oas/v3.1.0; schemas are JSON Schema 2020-12, as msgspec writes them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from palyra import __version__
from palyra.console import models
from palyra.console.routing import ACCEPTED, JSON, Route

REF = "#/components/schemas/{name}"
EVENTS = "text/event-stream"
_IDEMPOTENCY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "A repetition of the same call with the same key gets the same answer.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 128},
}
_REFUSALS = {
    400: "The request is not one this route takes.",
    401: "Nobody is signed in, or the credential is not valid.",
    403: "The caller's role, a rule, or the browser's own check does not allow it.",
    404: "There is no such thing.",
    405: "The resource does not take this method.",
    409: "It is not in a state for this.",
    412: "The device is offline, not registered, or cannot run this.",
    413: "The body is longer than the route takes.",
    415: "The body is not application/json.",
    421: "The request is for another host.",
    429: "Too many requests; Retry-After says when.",
    503: "Not now; Retry-After says when.",
    504: "It did not end in time.",
}


def document(routes: Iterable[Route], prefix: str) -> dict[str, Any]:
    """The document, a new one each time."""
    routes = tuple(routes)
    kinds: set[Any] = {kind for route in routes for kind in (route.answer, route.body)}
    ordered = sorted(filter(_is_model, kinds | {models.Problem}), key=_name)
    schemas, components = msgspec.json.schema_components(ordered, ref_template=REF)
    named = dict(zip(ordered, schemas, strict=True))
    paths: dict[str, Any] = {}
    for route in routes:
        operation = _operation(route, named)
        paths.setdefault(f"{prefix}/{route.path}", {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Palyra console",
            "version": __version__,
            "description": f"Contract {models.CONTRACT_VERSION}.  Times are Unix milliseconds.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "certificate": {"type": "mutualTLS"},
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": "palyra_console_session",
                },
            },
        },
    }


def _name(kind: type[Any]) -> str:
    return kind.__name__


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _operation(route: Route, named: dict[Any, Any]) -> dict[str, Any]:
    parameters = [_query(each.name, each.schema, each.description) for each in route.query]
    if "{target}" in route.path:
        parameters.insert(0, _target())
    if route.keyed:
        parameters.append(_IDEMPOTENCY)
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "parameters": parameters,
        "security": [] if route.right is None else [{"certificate": []}, {"session": []}],
        "responses": _responses(route, named),
    }
    if route.right is not None:
        operation["x-palyra-right"] = route.right.value
    if route.body is not None:
        operation["requestBody"] = {"content": {JSON: {"schema": named[route.body]}}}
    return operation


def _responses(route: Route, named: dict[Any, Any]) -> dict[str, Any]:
    media_type = EVENTS if route.follow is not None else route.media_type
    plain = route.follow is not None or not _is_model(route.answer)
    schema = {"type": "string"} if plain else named[route.answer]
    answer = {"description": route.summary, "content": {media_type: {"schema": schema}}}
    responses: dict[str, Any] = {str(route.status): answer}
    if route.accepted is not None:
        taken = "It was taken, and waits for an operator's approval."
        responses[str(ACCEPTED)] = {**answer, "description": taken}
    if route.listed:
        responses["304"] = {"description": "Nothing has changed since the ETag that was sent."}
    problem = {"content": {JSON: {"schema": named[models.Problem]}}}
    for status, description in _REFUSALS.items():
        responses[str(status)] = {"description": description, **problem}
    return responses


def _target() -> dict[str, Any]:
    return {
        "name": "target",
        "in": "path",
        "required": True,
        "description": "An id, at least four characters of its random part, or a name.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 256},
    }


def _query(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": schema}
