"""The OpenAPI document: whole, consistent, and true to the routes and the errors."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import msgspec
import pytest

from palyra import errors
from palyra.console.app import PREFIX
from palyra.console.openapi import document
from palyra.console.problems import retry_after, status_of
from palyra.console.routes import ROUTES, SUBJECTS
from palyra.console.routing import Route
from palyra.errors import Category, PalyraError

DOCUMENT = document(SUBJECTS, PREFIX)
SECRETS = {"token", "csr", "signature", "pin", "uri", "link", "csrf_token", "certificate_pem"}
"""Names of what only whoever it is for should see."""
BROKEN = {
    *("internal", "output_invalid", "sealed_entry_unreadable", "worker_died"),
    *("store_corrupt", "store_empty", "store_missing"),
}
"""Codes of what no request brings about: a plugin, the gateway or its disk is damaged."""
OPERATION_KEYS = {
    *("tags", "operationId", "summary", "parameters", "security", "responses", "requestBody"),
    "x-palyra-right",
}

Object = dict[str, Any]


def walk(value: Any) -> Iterator[Object]:
    """Every object in the document."""
    if isinstance(value, dict):
        yield value
    for each in value.values() if isinstance(value, dict) else value:
        if isinstance(each, dict | list):
            yield from walk(each)


def resolve(value: Object) -> Object:
    """What a reference refers to; what is none, itself."""
    if "$ref" not in value:
        return value
    found: Any = DOCUMENT
    for step in value["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    assert isinstance(found, dict)
    return found


def operation(route: Route) -> tuple[str, Object]:
    """The path of a route's operation, and the operation."""
    for path, methods in DOCUMENT["paths"].items():
        found = methods.get(route.method.lower())
        if found is not None and found["operationId"] == route.name:
            return path, found
    raise AssertionError(f"{route.name} is not in the document")


each_route = pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)


def test_it_is_json_and_always_the_same() -> None:
    """Nothing of a gateway or of a moment is in it, so it can be kept and compared."""
    text = json.dumps(DOCUMENT, allow_nan=False)
    assert json.dumps(document(SUBJECTS, PREFIX)) == text
    assert json.loads(text) == DOCUMENT


def test_it_has_what_every_document_must_have() -> None:
    """The fields of https://spec.openapis.org/oas/v3.1.0, and no path but of a route."""
    assert DOCUMENT["openapi"].startswith("3.1.")
    assert DOCUMENT["info"]["title"] and DOCUMENT["info"]["version"]
    assert DOCUMENT["info"]["license"]["identifier"] == "Apache-2.0"
    assert set(DOCUMENT) <= {"openapi", "info", "servers", "tags", "paths", "components"}
    assert sum(map(len, DOCUMENT["paths"].values())) == len(ROUTES)
    assert all(path.startswith(f"{PREFIX}/") for path in DOCUMENT["paths"])


def test_every_reference_leads_somewhere() -> None:
    """And every component is used."""
    references = {each["$ref"] for each in walk(DOCUMENT) if "$ref" in each}
    for reference in references:
        assert resolve({"$ref": reference})
    for kind in ("schemas", "parameters", "responses"):
        for name in DOCUMENT["components"][kind]:
            told = f"Server-sent events; the data of each is JSON: {name}."
            streamed = any(told == each.get("description") for each in walk(DOCUMENT["paths"]))
            assert f"#/components/{kind}/{name}" in references or streamed, name


def test_names_are_unique() -> None:
    """Generated clients make methods of them."""
    operations = [each for methods in DOCUMENT["paths"].values() for each in methods.values()]
    names = [each["operationId"] for each in operations]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[a-z_]+", name) for name in names)


@each_route
def test_every_route_is_an_operation(route: Route) -> None:
    """With a sentence, the heading of a subject, and no key that the standard does not have."""
    _, found = operation(route)
    assert set(found) <= OPERATION_KEYS
    assert found["summary"].endswith(".")
    assert set(found["tags"]) <= {tag["name"] for tag in DOCUMENT["tags"]}
    assert found.get("x-palyra-right") == (route.right.value if route.right else None)
    assert bool(found["security"]) == (route.right is not None)
    schemes = DOCUMENT["components"]["securitySchemes"]
    assert all(set(way) <= set(schemes) for way in found["security"])


@each_route
def test_every_parameter_is_declared(route: Route) -> None:
    """Those in the path, those of the query, and the headers that make a difference."""
    path, found = operation(route)
    parameters = [resolve(each) for each in found["parameters"]]
    by_place: dict[str, set[str]] = {"path": set(), "query": set(), "header": set()}
    for each in parameters:
        assert each["schema"] and each["description"].endswith(".")
        assert each.get("required", False) == (each["in"] == "path")
        by_place[each["in"]].add(each["name"])
    assert by_place["path"] == set(re.findall(r"\{(\w+)\}", path))
    assert by_place["query"] == {parameter.name for parameter in route.query}
    assert by_place["header"] == {
        *(["Idempotency-Key"] if route.keyed else []),
        *(["If-None-Match"] if route.listed else []),
        *(["Last-Event-ID"] if route.follow is not None else []),
    }


@each_route
def test_every_answer_has_a_schema(route: Route) -> None:
    """Of every status but 304, with the headers that tell more."""
    _, found = operation(route)
    responses = {int(key): resolve(each) for key, each in found["responses"].items()}
    for status, response in responses.items():
        assert HTTPStatus(status) and response["description"].endswith(".")
        content = response.get("content", {})
        assert (status == 304) == (not content)
        assert all(each["schema"] for each in content.values())
    assert route.status in responses
    for status in (401, 403, 404, 405, 413, 414, 415, 421, 429):
        assert status in responses
    assert ("ETag" in responses[route.status].get("headers", {})) == route.listed
    assert (304 in responses) == route.listed
    assert "Retry-After" in responses[429]["headers"] and "Retry-After" in responses[503]["headers"]
    assert "Allow" in responses[405]["headers"]


@each_route
def test_every_body_has_a_schema_and_perhaps_an_example(route: Route) -> None:
    """A body must be sent where one is taken, and the example is one that is taken."""
    _, found = operation(route)
    assert ("requestBody" in found) == (route.body is not None)
    if route.body is None:
        return
    assert found["requestBody"]["required"] is True
    content = found["requestBody"]["content"]["application/json"]
    schema = resolve(content["schema"])
    assert schema["additionalProperties"] is False
    if "example" in content:
        assert msgspec.json.decode(json.dumps(content["example"]), type=route.body)


def test_no_secret_is_an_example() -> None:
    """Nobody shall copy a token or a code out of it, nor learn to put one into a document."""
    for route in ROUTES:
        assert not SECRETS & set(route.example or ()), route.name
    for schema in DOCUMENT["components"]["schemas"].values():
        for name in SECRETS & set(schema.get("properties", ())):
            assert not {"example", "examples", "const"} & set(schema["properties"][name])


def known_errors() -> list[type[PalyraError]]:
    """Every class of the tree."""
    found = (getattr(errors, name) for name in errors.__all__)
    return [each for each in found if isinstance(each, type) and issubclass(each, PalyraError)]


@pytest.mark.parametrize("kind", known_errors(), ids=lambda kind: kind.__name__)
def test_every_error_has_a_status_that_is_declared(kind: type[PalyraError]) -> None:
    """What a route may refuse is refused as the document says; 500 is what nobody planned."""
    status = status_of(kind.__new__(kind))
    if kind.category is Category.INTERNAL:
        assert kind.code in BROKEN
        return
    responses = DOCUMENT["components"]["responses"]
    assert f"Problem{status}" in responses
    assert re.fullmatch(r"[a-z0-9_]+", kind.code)


def test_when_to_try_again_is_always_told() -> None:
    """Where the document has Retry-After, the answer has it."""
    for kind in known_errors():
        error = kind.__new__(kind)
        if status_of(error) in (429, 503) and not hasattr(kind, "retry_after_s"):
            assert retry_after(error) is not None
