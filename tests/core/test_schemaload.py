"""What a check costs at most is known before it begins."""

from __future__ import annotations

from typing import Any

import pytest

from palyra.core.schemaload import load
from palyra.core.schemaprofile import check_profile
from tests.core.schemas import SCAN, doubling

TEXT = {"type": "string"}
BIG: dict[str, Any] = {"pattern": "^a"}


def test_fields_beside_each_other_cost_as_one() -> None:
    """A member of a value meets the schema of its own field only."""
    one, many = ({"properties": {f"f{n}": TEXT for n in range(count)}} for count in (1, 200))
    assert load(one) == load(many) < 50


@pytest.mark.parametrize(
    "schema",
    [
        {"allOf": [BIG] * 9},
        {"anyOf": [BIG] * 9},
        {"items": {"oneOf": [BIG] * 9}},
        {"$ref": "#/$defs/a", "$defs": {"a": {"allOf": [{"$ref": "#/$defs/b"}] * 9}, "b": BIG}},
        {"patternProperties": {f"^{n}": True for n in range(9)}},
        {"dependentSchemas": {f"f{n}": BIG for n in range(9)}},
        {"if": BIG, "then": BIG, "else": BIG, "not": BIG, "contains": BIG, "propertyNames": BIG,
         "additionalProperties": BIG, "items": BIG, "properties": {"a": BIG}},
        {"multipleOf": 0.1, "enum": list(range(400))},
        {"allOf": [{"dependentRequired": {f"f{n}": list("abcdefghij") for n in range(100)}}]},
    ],
)  # fmt: skip
def test_schemas_of_one_value_add_up(schema: dict[str, Any]) -> None:
    """Whatever looks at the same value does so one after the other."""
    check_profile(schema, "schema")
    assert load(schema) >= 5_000


def test_what_only_describes_costs_nothing() -> None:
    """Titles, defaults, definitions that nothing refers to."""
    said = {"title": "a", "description": "b", "default": [1], "format": "uri", "x-a": 1}
    assert load({**said, "$defs": {"a": BIG}}) == 0
    assert load({"items": True}) > 0


def test_what_plugins_ask_for_is_light() -> None:
    """64 KiB, the largest input by default, are always checked; references are followed once."""
    assert load(SCAN) * 64 * 1024 < 100_000_000
    assert load(doubling(11)) > 10_000
