"""The profile: which schemas of capabilities are taken, and what is said of the others."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.capability.registry import load_here, own_points
from palyra.core.schemaprofile import MAX_BYTES, check_profile, compiled
from palyra.errors import Malformed
from tests.core.schemas import SCAN, SCHEMAS, chained, doubling, nested

LOOP = {
    "$ref": "#/$defs/a",
    "$defs": {"a": {"items": {"$ref": "#/$defs/b"}}, "b": {"$ref": "#/$defs/a"}},
}
UNUSED_LOOP = {"$defs": {"a": {"not": {"$ref": "#/$defs/a"}}}}
REMOTE = "https://example.org/schema"
BIG = {"enum": ["x" * MAX_BYTES]}
REFUSED: list[tuple[Any, str]] = [
    (None, "must be an object"),
    ([], "must be an object"),
    (True, "must be an object"),
    (object(), "has no JSON form"),
    (BIG, "is longer than 64 KiB"),
    (nested(17), "is nested more than 16 deep"),
    ({"default": [[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]}, "is nested more than 16 deep"),
    ({"allOf": [{}] * 1_000}, "has more than 1000 nodes"),
    ({"enum": list(range(1_000))}, "has more than 1000 nodes"),
    (doubling(13), "has more than 10000 nodes once every $ref is replaced"),
    (chained(100), "is nested more than 64 deep by its references"),
    ({"items": chained(64)["$defs"]["a0"], "$defs": chained(64)["$defs"]}, "more than 64 deep"),
    (LOOP, "refers to a from inside a"),
    (UNUSED_LOOP, "refers to a from inside a"),
    ({"$ref": "#/$defs/none"}, "refers to none, which is not in $defs"),
    ({"$ref": "#"}, "/$ref must be #/$defs/ and a name"),
    ({"$ref": REMOTE}, "/$ref must be #/$defs/ and a name"),
    ({"items": {"$ref": "#/$defs/a/items"}, "$defs": {"a": {}}}, "/items/$ref must be #/$defs/"),
    ({"$ref": 3}, "/$ref must be #/$defs/ and a name"),
    ({"$schema": "http://json-schema.org/draft-07/schema#"}, "/$schema must be https://"),
    ({"items": {"$schema": SCAN["$schema"]}}, "at the root"),
    ({"items": {"$defs": {}}}, "/items/$defs may stand at the root only"),
    ({"items": 3}, "/items must be a schema"),
    ({"items": [{}]}, "/items must be a schema"),
    ({"allOf": {}}, "/allOf must be an array of schemas"),
    ({"properties": []}, "/properties must be an object of schemas"),
    ({"properties": {"a": 3}}, "/properties/a must be a schema"),
    ({"type": "text"}, "is no valid schema"),
    ({"required": "a"}, "is no valid schema"),
    ({"minLength": -1}, "is no valid schema"),
    ({"multipleOf": 0}, "is no valid schema"),
    ({"pattern": "a" * 257}, "/pattern must be a text of at most 256 characters"),
    ({"pattern": 3}, "/pattern must be a text"),
    ({"pattern": "("}, "/pattern must be a regular expression"),
    ({"pattern": "(?=a)"}, "without look-around"),
    ({"pattern": r"(a)\1"}, "without look-around and back-references"),
    ({"pattern": "(x{200}){200}"}, "and small"),
    ({"patternProperties": {"(?!a)": {}}}, "/patternProperties must be a regular expression"),
    ({"allOf": [{"pattern": f"^{each}"} for each in range(65)]}, "more than 64 different patterns"),
    *(
        ({keyword: "x"}, f"/{keyword} is not a keyword that is taken here")
        for keyword in (
            "$id", "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$vocabulary", "id",
            "definitions", "dependencies", "additionalItems", "nullable", "unevaluatedItems",
            "unevaluatedProperties",
        )
    ),
]  # fmt: skip
TAKEN: list[Any] = [
    {},
    SCAN,
    nested(16),
    doubling(11),
    chained(30),
    {"properties": {"$id": {"type": "string"}, "$ref": True}},
    {"x-palyra-secret": True, "x-note": {"$id": REMOTE, "$ref": REMOTE}},
    {"enum": [{"$ref": REMOTE, "$id": REMOTE}], "default": {"$id": REMOTE}},
    {"format": "uri", "contentEncoding": "base64", "discriminator": {"propertyName": "type"}},
    {"pattern": r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}$"},
    {"pattern": "^[A-Za-z0-9_-]{1,255}$"},
    {"pattern": r"^(a+)+$"},
]


@pytest.mark.parametrize(("schema", "problem"), REFUSED)
def test_what_is_refused(schema: Any, problem: str) -> None:
    """Whatever reads from elsewhere, never ends, grows or takes long; the place is said."""
    with pytest.raises(Malformed) as caught:
        check_profile(schema, "descriptor.input_schema")
    assert caught.value.field == "descriptor.input_schema"
    assert problem in caught.value.problem
    assert len(caught.value.problem) < 350 and caught.value.problem.isprintable()


@pytest.mark.parametrize("schema", TAKEN)
def test_what_is_taken(schema: Any) -> None:
    """Names of fields and values of annotations are no keywords, however they look."""
    check_profile(schema, "schema")
    compiled(schema)


def test_our_own_capabilities_keep_it() -> None:
    """Every schema that msgspec writes for them."""
    offers, faults = load_here(own_points())
    assert offers and not faults
    for offer in offers:
        said = offer.descriptor
        for schema in (said.input_schema, said.output_schema, said.settings_schema or {}):
            check_profile(schema, offer.name)


def test_a_library_that_would_fetch_is_refused() -> None:
    """Even a schema that never came past the profile reads nothing from elsewhere."""
    for reference in (REMOTE, "file:///etc/passwd", "json-schema:///other"):
        with pytest.raises(ValueError, match="not present in a registry"):
            compiled({"$ref": reference})


@settings(max_examples=100)
@given(SCHEMAS)
def test_generated_schemas(schema: Any) -> None:
    """What is taken compiles, and says the same as it was read."""
    check_profile(schema, "schema")
    before = msgspec.json.encode(schema)
    compiled(schema)
    assert msgspec.json.encode(schema) == before


_WORDS = st.sampled_from(
    [
        *("$ref", "$defs", "$id", "type", "items", "properties", "allOf", "anyOf", "enum", "const"),
        *("pattern", "required", "if", "not", "x-a", "#/$defs/a", "a", "object", "string"),
    ]
)
_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=100)
@given(_ANYTHING)
def test_anything_is_taken_or_refused(schema: Any) -> None:
    """Only Malformed comes out, and what is taken compiles."""
    try:
        check_profile(schema, "schema")
    except Malformed:
        return
    compiled(schema)
