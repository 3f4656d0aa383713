"""What is wrong with a value, as a schema says: field by field, bounded, in words for people."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.capability.registry import load_here, own_points
from palyra.core.schemas import MAX_FAULTS, Checker, FieldFault, check_profile
from tests.core.schemas import SCAN, SCHEMAS, VALUES, fits

MIB = 1024 * 1024
GOOD = {"url": "http://a", "hosts": [{"name": "a"}]}


def said(schema: Any, value: Any) -> list[tuple[str, str]]:
    """What a schema of the profile finds wrong."""
    check_profile(schema, "schema")
    return [(fault.field, fault.problem) for fault in Checker(schema).faults(value)]


def test_fields_in_their_order() -> None:
    """The order is the schema's, what is missing stands at its place, unknown fields come last."""
    value = {
        "zz": 1, "a b": 2, "what": {"type": "file", "size": "x"}, "note": 5, "mode": "z" * 90,
        "hosts": [{"name": "x"}, {"name": 3}, {"port": 1.5}, 5], "depth": 9,
    }  # fmt: skip
    assert said(SCAN, value) == [
        ("input.url", "is required"),
        ("input.depth", "must be at most 5 (got 9)"),
        ("input.note", "expected a text or null, got a number"),
        ("input.mode", f"must be fast, deep or null (got {'z' * 39}~)"),
        ("input.hosts[1].name", "expected a text, got a number"),
        ("input.hosts[2].name", "is required"),
        ("input.hosts[2].port", "expected a whole number, got a number"),
        ("input.hosts[3]", "expected an object, got a number"),
        ("input.what.size", "expected a whole number, got a text"),
        ("input.zz", "is not a known field"),
        ('input["a b"]', "is not a known field"),
    ]
    assert said(SCAN, GOOD) == []


ONE_FAULT: list[tuple[Any, Any, str, str]] = [
    ({"type": "object"}, 3, "input", "expected an object, got a number"),
    ({"type": ["array", "boolean"]}, "x", "input", "expected a list or true or false, got a text"),
    ({"const": 3}, "x" * 90, "input", f"must be 3 (got {'x' * 39}~)"),
    ({"const": {"a": 1}}, [], "input", "must be an object (got a list)"),
    ({"enum": list(range(12))}, 99, "input", "must be 0, 1, 2, 3, 4, 5, 6 or 5 others (got 99)"),
    ({"enum": [""]}, None, "input", "must be an empty text (got null)"),
    ({"minimum": 1.5}, -1, "input", "must be at least 1.5 (got -1)"),
    ({"exclusiveMinimum": 1}, 1, "input", "must be above 1 (got 1)"),
    ({"exclusiveMaximum": 1}, 10**200, "input", "must be below 1 (got a number)"),
    ({"multipleOf": 5}, 7, "input", "must be a multiple of 5 (got 7)"),
    ({"minLength": 1}, "", "input", "must have at least 1 character"),
    ({"maxLength": 2}, "abc", "input", "must have at most 2 characters"),
    ({"maxItems": 1}, [1, 2], "input", "must have at most 1 item"),
    ({"minProperties": 2}, {}, "input", "must have at least 2 fields"),
    ({"pattern": "^a"}, "secret", "input", "must match ^a"),
    ({"uniqueItems": True}, [1, 1], "input", "must not have the same item twice"),
    ({"not": {"type": "null"}}, None, "input", "has a form that is not allowed"),
    ({"contains": {"type": "null"}, "maxContains": 1}, [None, None], "input",
     "has too few or too many items of the form that is asked for"),
    ({"anyOf": [{"minimum": 2}, {"const": "x"}]}, 1, "input",
     "has none of the forms that are allowed"),
    ({"oneOf": [{"type": "integer"}, {"minimum": 2}]}, 3, "input",
     "must have exactly one of the forms that are allowed"),
    ({"oneOf": [{"type": "integer"}, {"type": "integer"}]}, 3, "input",
     "must have exactly one of the forms that are allowed"),
    ({"dependentRequired": {"a": ["b"]}}, {"a": 1}, "input",
     "lacks a field that another one needs"),
    ({"dependentSchemas": {"a": {"required": ["b"]}}}, {"a": 1}, "input.b", "is required"),
    ({"propertyNames": {"maxLength": 1}}, {"ab": 1}, "input",
     "has a field whose name is not allowed"),
    ({"patternProperties": {"^a": {"type": "null"}}}, {"ab": 1, "b": 1}, "input.ab",
     "expected null, got a number"),
    ({"patternProperties": {"^a": True}, "additionalProperties": False}, {"ab": 1, "b": 1},
     "input.b", "is not a known field"),
    ({"additionalProperties": {"type": "null"}}, {"a": 1}, "input.a",
     "expected null, got a number"),
    ({"prefixItems": [True, {"type": "null"}], "items": False}, [1, None, 2], "input[2]",
     "is not allowed"),
    ({"prefixItems": [True, {"type": "null"}]}, [1, 2, 3], "input[1]",
     "expected null, got a number"),
    ({"if": {"type": "integer"}, "then": {"minimum": 3}, "else": False}, 1, "input",
     "must be at least 3 (got 1)"),
    ({"if": {"type": "integer"}, "then": {"minimum": 3}, "else": False}, "x", "input",
     "is not allowed"),
    ({"properties": {"\u202ea": False}}, {"\u202ea": 1}, 'input["\\u202ea"]', "is not allowed"),
    ({"additionalProperties": False}, {"n" * 90: 1}, f'input["{"n" * 39}~"]',
     "is not a known field"),
    ({"enum": ["a"]}, "\u202e\n", "input", "must be a (got \\u202e\\u000a)"),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "value", "field", "problem"), ONE_FAULT)
def test_the_words(schema: Any, value: Any, field: str, problem: str) -> None:
    """One sentence a keyword; what is shown of a value is short and safe to show."""
    assert said(schema, value) == [(field, problem)]


def test_the_form_that_is_meant() -> None:
    """Of a union the tag says which form, or the kind of the value does."""
    for what, field, problem in (
        ({"type": "folder", "files": "x"}, ".files", "expected a whole number, got a text"),
        ({"type": "file"}, ".size", "is required"),
        ({"type": "link"}, "", "has none of the forms that are allowed"),
        ("x", "", "expected an object, got a text"),
    ):
        assert said(SCAN, {**GOOD, "what": what}) == [(f"input.what{field}", problem)]


def test_at_most_sixteen() -> None:
    """Of a thousand wrong fields the first are named."""
    faults = said({"items": {"type": "string"}}, [1] * 1_000)
    assert [field for field, _ in faults] == [f"input[{n}]" for n in range(MAX_FAULTS)]


def test_another_root() -> None:
    """Settings are not called input."""
    assert Checker({"required": ["a"]}).faults({}, "settings") == (
        FieldFault("settings.a", "is required"),
    )


@settings(max_examples=100)
@given(SCHEMAS, VALUES)
def test_it_says_what_the_library_says(schema: Any, value: Any) -> None:
    """A value has faults where it does not fit, and only there; each is short and on one line."""
    check_profile(schema, "schema")
    faults = Checker(schema).faults(value)
    assert (not faults) is fits(schema, value)
    assert len(faults) <= MAX_FAULTS and len(set(faults)) == len(faults)
    for fault in faults:
        assert fault.field.startswith("input") and fault.field.isprintable()
        assert len(fault.problem) < 600 and fault.problem.isprintable()


# -- hostile values -----------------------------------------------------------------------------


def deep(levels: int) -> Any:
    """A list in a list in a list."""
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "array", "items": {"type": "string"}}, [1] * (3 * MIB // 2)),
        ({"items": {"anyOf": [{"type": "string"}, {"type": "null"}]}}, [1] * (3 * MIB // 2)),
        ({"items": {"type": "integer"}}, [1] * (MIB - 1) + ["x"]),
        ({"additionalProperties": False}, {f"k{n}": 1 for n in range(MIB // 4)}),
        ({"propertyNames": {"maxLength": 3}}, {f"k{n}": 1 for n in range(MIB // 4)}),
        ({"uniqueItems": True}, [1] * MIB),
        ({"maxLength": 1}, "x" * 3 * MIB),
        ({"items": {"items": {"type": "string"}}}, deep(900)),
        ({"uniqueItems": True}, [deep(900), deep(900)]),
        ({"type": "integer", "maximum": 5}, 10**4_200),
        ({"multipleOf": 7}, 10**4_200),
        ({"maximum": 5}, 1.7e308),
        ({"type": "number"}, "\ud800"),
        ({}, object()),
        ({}, {3: 4}),
    ],
)
def test_hostile_values(schema: Any, value: Any) -> None:
    """Large, deep, or not JSON at all: a few faults, no error, no list of a million errors."""
    faults = Checker(schema).faults(value)
    assert 1 <= len(faults) <= MAX_FAULTS


def test_what_would_take_too_long_is_not_checked() -> None:
    """The device decodes it into a type of its own; the gateway keeps nobody else waiting."""
    pattern = {"type": "string", "pattern": "^(x{40}){40}$"}
    assert said(pattern, "xy")
    assert said(pattern, "x" * 3 * MIB) == []


# -- beside msgspec -----------------------------------------------------------------------------


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    """A part of the input."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=3)]
    tags: Annotated[list[str], msgspec.Meta(max_length=2)] = []


class Outer(msgspec.Struct, forbid_unknown_fields=True):
    """Something that a plugin might ask for."""

    a: Annotated[int, msgspec.Meta(ge=0, lt=5)]
    b: float | None = None
    c: dict[str, Inner] = {}


def _agree(type_: Any, schema: Any, value: Any) -> None:
    try:
        msgspec.json.decode(msgspec.json.encode(value), type=type_)
        decodes = True
    except msgspec.ValidationError:
        decodes = False
    assert (not Checker(schema).faults(value)) is decodes


_OURS = st.fixed_dictionaries(
    {},
    optional={
        "a": st.integers(-2, 7) | st.text("a", max_size=2),
        "b": st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans(),
        "c": st.dictionaries(
            st.text("kl", max_size=2),
            st.fixed_dictionaries(
                {},
                optional={
                    "name": st.text("ab", max_size=5) | st.none(),
                    "tags": st.lists(st.text("t", max_size=2), max_size=3),
                    "more": st.none(),
                },
            ),
            max_size=2,
        ),
        "d": st.none(),
    },
)


@settings(max_examples=100)
@given(_OURS | VALUES)
def test_it_agrees_with_the_types(value: Any) -> None:
    """What the gateway takes is what the device's own type takes."""
    _agree(Outer, msgspec.json.schema(Outer), value)


@settings(max_examples=100)
@given(
    VALUES
    | st.builds(lambda value: {"url": value}, VALUES)
    | st.builds(lambda value: {"path": value}, VALUES)
)
def test_it_agrees_with_our_own_capabilities(value: Any) -> None:
    """So it is for those that come with the installation."""
    for offer in load_here(own_points())[0]:
        assert offer.capability is not None
        _agree(offer.capability.input_type, offer.descriptor.input_schema, value)
