"""What it costs at most to check a value, so that nobody is kept waiting by a schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from palyra.core.schemaprofile import ONE, Schema, parts, referred

_KEYWORD = 5
_PATTERN = 600
_WEIGHTS = {"pattern": _PATTERN, "const": 60, "uniqueItems": 20}
_NOTHING = frozenset(
    {
        "$schema",
        "$comment",
        "title",
        "description",
        "default",
        "examples",
        "format",
        "$ref",
        "$defs",
    }
)
_FRACTION, _WHOLE = 3500, 200
"""Of ``multipleOf``."""
_IN_PLACE = frozenset({"allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas"})
_ONE_OF_THESE = frozenset({"properties", "prefixItems"})
"""A member of a value meets one of the schemas of these, at most."""


def load(schema: Schema) -> int:
    """Nanoseconds for each byte of a value's JSON: an upper bound, measured on one slow core.

    The schema is of the profile.
    """
    return _Load(schema.get("$defs", {})).of(schema)


@attrs.define
class _Load:
    defs: Mapping[str, Any]
    _known: dict[str, int] = attrs.field(factory=dict)

    def of(self, schema: Any) -> int:
        if isinstance(schema, bool):
            return _KEYWORD
        total = sum(_own(keyword, value) for keyword, value in schema.items())
        name = referred(schema)
        if name is not None:
            total += self._named(name)
        return total + self._inside(schema)

    def _inside(self, schema: Schema) -> int:
        total, most = 0, dict.fromkeys(_ONE_OF_THESE, 0)
        for keyword, _, each in parts(schema):
            if keyword in most:
                most[keyword] = max(most[keyword], self.of(each))
            elif keyword in _IN_PLACE or keyword in ONE or keyword == "patternProperties":
                total += self.of(each)
        return total + sum(most.values())

    def _named(self, name: str) -> int:
        if name not in self._known:
            self._known[name] = self.of(self.defs[name])
        return self._known[name]


def _own(keyword: str, value: Any) -> int:
    """Of a keyword itself, without the schemas inside it."""
    if keyword in _NOTHING or keyword.startswith("x-"):
        return 0
    if keyword == "enum":
        return _WEIGHTS["const"] + _KEYWORD * len(value)
    if keyword == "multipleOf":
        return _WHOLE if isinstance(value, int) else _FRACTION
    if keyword == "patternProperties":
        return _PATTERN * len(value)
    if keyword == "dependentRequired":
        return _KEYWORD * (len(value) + sum(map(len, value.values())))
    return _WEIGHTS.get(keyword, _KEYWORD)
