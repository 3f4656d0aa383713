"""The words for what a schema finds wrong with a value; a value is never shown whole."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from palyra.core.devices import clean_text

MAX_SHOWN = 40
_MAX_OPTIONS = 8
_MAX_BITS = 128
_PLAIN = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_SHOWN}}}\Z")

_KINDS: dict[str, type | tuple[type, ...]] = {
    "boolean": bool,
    "null": type(None),
    "integer": int,
    "number": float,
    "string": str,
    "array": (list, tuple),
    "object": dict,
}
_WORDS = {
    "null": "null",
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "string": "a text",
    "array": "a list",
    "object": "an object",
}
LIMITS = {
    "minimum": "must be at least {} (got {})",
    "maximum": "must be at most {} (got {})",
    "exclusiveMinimum": "must be above {} (got {})",
    "exclusiveMaximum": "must be below {} (got {})",
    "multipleOf": "must be a multiple of {} (got {})",
    "pattern": "must match {}",
    "const": "must be {} (got {})",
}
COUNTS = {
    "minLength": "must have at least {} characters",
    "maxLength": "must have at most {} characters",
    "minItems": "must have at least {} items",
    "maxItems": "must have at most {} items",
    "minProperties": "must have at least {} fields",
    "maxProperties": "must have at most {} fields",
}
OTHERS = {
    "uniqueItems": "must not have the same item twice",
    "not": "has a form that is not allowed",
    "contains": "has too few or too many items of the form that is asked for",
    "anyOf": "has none of the forms that are allowed",
    "oneOf": "must have exactly one of the forms that are allowed",
    "dependentRequired": "lacks a field that another one needs",
    "propertyNames": "has a field whose name is not allowed",
}
"""Those that look at more than the value alone."""


def problem_of(keyword: str, limit: Any, value: Any) -> str:
    """What is wrong with a value that does not fit a keyword of its schema."""
    if keyword == "type":
        return expected([limit] if isinstance(limit, str) else limit, value)
    if keyword == "enum":
        return f"must be {_any_of(map(_shown, limit))} (got {_shown(value)})"
    if keyword in COUNTS:
        text = COUNTS[keyword].format(_shown(limit))
        return text.removesuffix("s") if limit == 1 else text
    if keyword in LIMITS:
        return LIMITS[keyword].format(_shown(limit), _shown(value))
    return OTHERS[keyword]


def expected(kinds: Iterable[str], value: Any) -> str:
    """A value of none of these types of JSON Schema."""
    return f"expected {_any_of(_WORDS[kind] for kind in dict.fromkeys(kinds))}, got {_a(value)}"


def kind_of(value: Any) -> str:
    """The type of a value, as JSON Schema calls it."""
    return next((kind for kind, types in _KINDS.items() if isinstance(value, types)), "number")


def field_of(where: str, name: str) -> str:
    """A field of an object, as it would be written: ``input.url``, ``input["a b"]``."""
    return f"{where}.{name}" if _PLAIN.match(name) else f'{where}["{_cut(name)}"]'


def _any_of(words: Iterable[str]) -> str:
    every = list(words)
    if len(every) > _MAX_OPTIONS:
        every[_MAX_OPTIONS - 1 :] = [f"{len(every) - _MAX_OPTIONS + 1} others"]
    *first, last = every
    return f"{', '.join(first)} or {last}" if first else last


def _a(value: Any) -> str:
    return _WORDS["number" if kind_of(value) == "integer" else kind_of(value)]


def _shown(value: Any) -> str:
    """A value of a schema or an instance, cut and made safe to show."""
    if isinstance(value, str):
        return _cut(value) or "an empty text"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict | list) or (
        isinstance(value, int) and value.bit_length() > _MAX_BITS
    ):
        return _a(value)
    return _cut(str(value))


def _cut(text: str) -> str:
    shown = clean_text(text, MAX_SHOWN + 1)
    return shown if len(shown) <= MAX_SHOWN else f"{shown[: MAX_SHOWN - 1]}~"
