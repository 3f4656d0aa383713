"""Tests of :mod:`palyra.mcp.schemas`."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.mcp.schemas import MAX_TEXT, hoisted

JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["$ref", "$defs", "properties", "items", "anyOf", "title", "const"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


def test_definitions_move_and_references_stay() -> None:
    """``#/$defs`` is read from the root of the tool's schema, where they are then."""
    schema = {
        "$ref": "#/$defs/In",
        "$defs": {
            "In": {"type": "object", "properties": {"next": {"$ref": "#/$defs/Other"}}},
            "Other": {"type": "string"},
        },
    }
    assert hoisted(schema) == ({"$ref": "#/$defs/In"}, schema["$defs"])
    assert "$defs" in schema


def test_values_are_no_schemas() -> None:
    """What stands in const, enum and default, and members that are called like keywords."""
    schema = {
        "properties": {"$ref": {"type": "string"}, "title": {"const": {"$ref": "http://x"}}},
        "enum": [{"$ref": "elsewhere"}],
        "items": False,
    }
    assert hoisted(schema) == (schema, {})


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "http://example.com/schema"},
        {"$ref": "#"},
        {"$ref": 5},
        {"properties": {"a": {"anyOf": [{"items": {"$ref": "#/properties/a"}}]}}},
        {"$defs": {"a": {"$ref": "other.json"}}},
    ],
)
def test_references_that_lead_elsewhere(schema: dict[str, Any]) -> None:
    """Such a schema is not shown."""
    with pytest.raises(ValueError, match="reference"):
        hoisted(schema)


def test_text_of_a_device_is_cleaned_and_cut() -> None:
    """Also deep inside; and what clients should do is not said by a device."""
    schema = {"items": {"description": "a\u202eb" + "x" * 999, "x-mcp-header": "Authorization"}}
    ((items,), defs) = hoisted(schema)[0].values(), hoisted(schema)[1]
    assert not defs and set(items) == {"description"}
    assert items["description"].startswith("a\\u202eb") and len(items["description"]) == MAX_TEXT


def test_depth_is_bounded() -> None:
    """A tower of schemas is refused before the interpreter gives up."""
    tower: dict[str, Any] = {}
    for _ in range(5_000):
        tower = {"not": tower}
    with pytest.raises(ValueError, match="deep"):
        hoisted(tower)


@settings(max_examples=100, deadline=None)
@given(JSON)
def test_whatever_a_device_says(schema: Any) -> None:
    """It is shown or refused."""
    if isinstance(schema, dict):
        try:
            whole, _ = hoisted(schema)
        except ValueError:
            return
        assert "$defs" not in whole
