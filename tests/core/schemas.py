"""Schemas for tests: some of the profile, one for every rule of it that is broken."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
from hypothesis import strategies as st

JSON = dict[str, Any]
DRAFT = "https://json-schema.org/draft/2020-12/schema"

SCAN: JSON = {
    "$schema": DRAFT,
    "$ref": "#/$defs/Scan",
    "$defs": {
        "Scan": {
            "type": "object",
            "properties": {
                "url": {"type": "string", "pattern": "^https?://", "maxLength": 40},
                "depth": {"type": "integer", "minimum": 1, "maximum": 5, "default": 3},
                "note": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
                "mode": {"enum": ["fast", "deep", None]},
                "hosts": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/Host"}},
                "what": {"anyOf": [{"$ref": "#/$defs/File"}, {"$ref": "#/$defs/Folder"}]},
            },
            "required": ["url", "hosts"],
            "additionalProperties": False,
        },
        "Host": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "port": {"type": "integer"}},
            "required": ["name"],
            "additionalProperties": False,
        },
        "File": {
            "type": "object",
            "properties": {"type": {"enum": ["file"]}, "size": {"type": "integer"}},
            "required": ["type", "size"],
        },
        "Folder": {
            "type": "object",
            "properties": {"type": {"const": "folder"}, "files": {"type": "integer"}},
            "required": ["type"],
        },
    },
}
"""What a plugin may well ask for."""


def nested(depth: int) -> JSON:
    """A schema in a schema in a schema."""
    schema: JSON = {}
    for _ in range(depth - 1):
        schema = {"items": schema}
    return schema


def doubling(steps: int) -> JSON:
    """Two nodes a step as it is written, 2 to the power of it as it is meant."""
    both = {f"a{step}": {"allOf": [{"$ref": f"#/$defs/a{step + 1}"}] * 2} for step in range(steps)}
    return {"$ref": "#/$defs/a0", "$defs": {**both, f"a{steps}": {}}}


def chained(hops: int) -> JSON:
    """References that refer to references."""
    chain = {f"a{hop}": {"$ref": f"#/$defs/a{hop + 1}"} for hop in range(hops)}
    return {"$ref": "#/$defs/a0", "$defs": {**chain, f"a{hops}": {}}}


def fits(schema: JSON, value: object) -> bool:
    """What the library says of the whole of it."""
    validator = jsonschema_rs.Draft202012Validator(
        schema, validate_formats=False, pattern_options=jsonschema_rs.RegexOptions()
    )
    return validator.is_valid(value)


# -- anything -----------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "c d", "x.y", "constructor", "\u202e"])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 8)
    | st.sampled_from([10**30, 0.5, 1.0, -2.5, 1e300])
    | st.text("ab/:\u202e", max_size=4)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
_KINDS = ["null", "boolean", "integer", "number", "string", "array", "object"]


def _of(keyword: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[JSON]:
    return st.fixed_dictionaries({keyword: values})


def _between(low: str, high: str) -> st.SearchStrategy[JSON]:
    return st.fixed_dictionaries({low: st.integers(0, 2), high: st.integers(0, 4)})


_LEAVES = st.one_of(
    st.booleans(),
    st.just({}),
    _of("type", st.sampled_from(_KINDS)),
    _of("type", st.lists(st.sampled_from(_KINDS), min_size=1, unique=True)),
    _of("enum", st.lists(SCALARS, min_size=1, max_size=3)),
    _of("const", VALUES),
    _between("minimum", "exclusiveMaximum"),
    _between("exclusiveMinimum", "maximum"),
    _of("multipleOf", st.sampled_from([1, 2, 0.5])),
    _between("minLength", "maxLength"),
    _between("minItems", "maxItems"),
    _between("minProperties", "maxProperties"),
    _of("pattern", st.sampled_from(["^a", "b+$", "^(a+)+$", "/"])),
    _of("uniqueItems", st.booleans()),
    _of("dependentRequired", st.dictionaries(NAMES, st.lists(NAMES, max_size=2, unique=True))),
    _of("$ref", st.sampled_from(["#/$defs/one", "#/$defs/two"])),
)


def _around(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    some = st.lists(inner, min_size=1, max_size=3)
    named = st.dictionaries(NAMES, inner, max_size=3)
    fields = {
        "properties": named,
        "required": st.lists(NAMES, max_size=2, unique=True),
        "additionalProperties": inner,
        "patternProperties": st.dictionaries(st.sampled_from(["^a", "b"]), inner),
        "propertyNames": inner,
        "dependentSchemas": named,
    }
    items = {
        "prefixItems": some,
        "items": inner,
        "contains": inner,
        "minContains": st.integers(0, 2),
    }
    forms = {"allOf": some, "anyOf": some, "oneOf": some, "not": inner}
    return st.one_of(
        st.fixed_dictionaries({}, optional=fields),
        st.fixed_dictionaries({}, optional=items),
        st.fixed_dictionaries({}, optional=forms),
        st.fixed_dictionaries({"if": inner}, optional={"then": inner, "else": inner}),
    )


_SCHEMAS = st.recursive(_LEAVES, _around, max_leaves=8)
SCHEMAS: st.SearchStrategy[JSON] = st.builds(
    lambda schema, two: {"allOf": [schema], "$defs": {"one": {"type": "array"}, "two": two}},
    _SCHEMAS,
    st.sampled_from([{"items": {"$ref": "#/$defs/one"}}, True, {"minimum": 2}]),
)
"""Of the profile, and of every keyword of it."""
