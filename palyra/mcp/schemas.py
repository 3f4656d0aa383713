"""The schema of a capability's input inside the schema of its tool.

``#/$defs/...`` is read from the root of the document, so the definitions move there and every
reference stays as it is.  Descriptions inside are text of a device: cleaned and cut.
"""

from __future__ import annotations

from typing import Any

from palyra.core.devices import clean_text

MAX_DEPTH = 32
MAX_TEXT = 300
DEFS = "$defs"
_REF = "#/$defs/"
_MAPS = frozenset({DEFS, "properties", "patternProperties", "dependentSchemas"})
_LISTS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_ONES = frozenset(
    {
        "additionalProperties",
        "contains",
        "else",
        "if",
        "items",
        "not",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
    }
)
_TEXTS = frozenset({"title", "description", "$comment"})

Schema = dict[str, Any]


def hoisted(schema: Schema) -> tuple[Schema, Schema]:
    """The schema of the input without its definitions, and those definitions.

    :raises ValueError: a reference leads elsewhere, or it is nested too deep.
    """
    whole = _shown(schema, 0)
    defs = whole.pop(DEFS, {})
    return whole, defs


def _shown(schema: Any, depth: int) -> Any:
    """A schema as it may be shown; booleans are schemas too."""
    if not isinstance(schema, dict):
        return schema
    if depth > MAX_DEPTH:
        raise ValueError("nested too deep")
    found: Schema = {}
    for key, value in schema.items():
        if key.startswith("x-"):
            continue  # what a client should do is not said by a device
        found[key] = _member(key, value, depth + 1)
    return found


def _member(key: str, value: Any, depth: int) -> Any:
    if key == "$ref" and not (isinstance(value, str) and value.startswith(_REF)):
        raise ValueError("a reference that leads out of the schema")
    if key in _TEXTS and isinstance(value, str):
        return clean_text(value, MAX_TEXT)
    if key in _MAPS and isinstance(value, dict):
        return {name: _shown(each, depth) for name, each in value.items()}
    if key in _LISTS and isinstance(value, list):
        return [_shown(each, depth) for each in value]
    return _shown(value, depth) if key in _ONES else value
