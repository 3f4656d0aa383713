"""What is wrong with a value, field by field and in words for people.

The library says only whether a value fits.  Its own list of errors holds a copy of the value for
each of them: 3 MiB of wrong items made 7 GB of errors.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import attrs

from palyra.core.devices import clean_text
from palyra.core.schemaprofile import Schema, compiled, referred
from palyra.core.schemawords import (
    COUNTS,
    LIMITS,
    OTHERS,
    expected,
    field_of,
    kind_of,
    problem_of,
)

MAX_FAULTS = 16
_MAX_VISITS = 20_000
_MAX_COMPILED = 4_000
_WITH_DEFS = 10
"""How many tests of one keyword take as long to compile as one that refers to ``$defs``."""
_MAX_FORMS = 4
"""Choices between forms inside each other; each looks at the whole value again."""
_GENERAL = "does not fit the schema"
_FORMS = ("anyOf", "oneOf")
_TESTED = frozenset({"enum", *LIMITS, *COUNTS, *OTHERS})


@attrs.frozen(slots=True)
class FieldFault:
    """One field and what is wrong with it: ``input.items[3].name``, ``is required``."""

    field: str
    problem: str


class _EnoughError(Exception):
    """Enough has been found, or looked at."""


class Explanation:
    """Looks for what a schema finds wrong with a value that does not fit it."""

    def __init__(self, schema: Schema, root: str) -> None:
        self._schema = schema
        self._root = root
        self._found: dict[FieldFault, None] = {}
        self._visits = 0
        self._compiled: dict[tuple[int | str, str], Callable[[Any], bool]] = {}
        self._forms = 0
        self._spent = 0

    def of(self, value: Any) -> tuple[FieldFault, ...]:
        """At least one fault, at most 16."""
        with contextlib.suppress(_EnoughError):
            self._look(self._schema, value, self._root)
        return tuple(self._found) or (FieldFault(self._root, _GENERAL),)

    # -- the value as a whole ---------------------------------------------------------------

    def _look(self, schema: Any, value: Any, where: str) -> None:
        self._visit()
        if isinstance(schema, bool):
            if not schema:
                self._add(where, "is not allowed")
            return
        if "type" in schema and not self._fits(schema, "type")(value):
            self._add(where, problem_of("type", schema["type"], value))
            return
        for keyword in schema:
            if keyword in _TESTED:
                self._test(schema, keyword, value, where)
        self._look_in_place(schema, value, where)
        if isinstance(value, dict):
            self._look_at_fields(schema, value, where)
        elif isinstance(value, list):
            for number, (inside, item) in enumerate(_items(schema, value)):
                self._look(inside, item, f"{where}[{number}]")

    def _test(self, schema: Schema, keyword: str, value: Any, where: str) -> None:
        if self._fits(schema, keyword)(value):
            return
        if keyword in _FORMS:
            self._look_at_forms(schema, keyword, value, where)
        else:
            self._add(where, problem_of(keyword, schema[keyword], value))

    def _look_in_place(self, schema: Schema, value: Any, where: str) -> None:
        name = referred(schema)
        if name is not None:
            self._look(self._schema["$defs"][name], value, where)
        for each in schema.get("allOf", ()):
            self._look(each, value, where)
        if "if" in schema:
            branch = "then" if self._fits(schema, "if")(value) else "else"
            self._look(schema.get(branch, True), value, where)
        if isinstance(value, dict):
            for field, each in schema.get("dependentSchemas", {}).items():
                if field in value:
                    self._look(each, value, where)

    # -- fields -----------------------------------------------------------------------------

    def _look_at_fields(self, schema: Schema, value: dict[str, Any], where: str) -> None:
        known, required = schema.get("properties", {}), schema.get("required", ())
        self._visit((len(known) + len(required)) // 8)
        for name, inside in known.items():
            if name in value:
                self._look(inside, value[name], field_of(where, name))
            elif name in required:
                self._add(field_of(where, name), "is required")
        for name in required:
            if name not in value and name not in known:
                self._add(field_of(where, name), "is required")
        others = schema.get("additionalProperties", True)
        if others is True and "patternProperties" not in schema:
            return
        for name, each in value.items():
            self._visit()
            if not self._look_at_patterns(schema, name, each, where) and name not in known:
                self._look_at_other(others, each, field_of(where, name))

    def _look_at_patterns(self, schema: Schema, name: str, value: Any, where: str) -> bool:
        """Whether a pattern of the schema is for this field."""
        matched = False
        for pattern, inside in schema.get("patternProperties", {}).items():
            if self._matches(pattern)(name):
                matched = True
                self._look(inside, value, field_of(where, name))
        return matched

    def _look_at_other(self, schema: Any, value: Any, where: str) -> None:
        if schema is False:
            self._add(where, "is not a known field")
        elif schema is not True:
            self._look(schema, value, where)

    # -- choices ----------------------------------------------------------------------------

    def _look_at_forms(self, schema: Schema, keyword: str, value: Any, where: str) -> None:
        """Say what is wrong with the form that is meant, where that is plain."""
        forms = [self._resolved(form) for form in schema[keyword]]
        meant = [form for form in forms if _admits(form, value)]
        if not meant and all("type" in form for form in forms):
            self._add(where, expected([kind for form in forms for kind in _types(form)], value))
            return
        if len(meant) > 1 and isinstance(value, dict):
            meant = [form for form in meant if self._is_tagged(form, value)] or meant
        if len(meant) == 1 and self._forms < _MAX_FORMS:
            self._look_at_form(meant[0], keyword, value, where)
        else:
            self._add(where, OTHERS[keyword])

    def _look_at_form(self, form: Schema, keyword: str, value: Any, where: str) -> None:
        before = len(self._found)
        self._forms += 1
        self._look(form, value, where)
        self._forms -= 1
        if len(self._found) == before:
            self._add(where, OTHERS[keyword])

    def _resolved(self, form: Any) -> Schema:
        seen = 0
        while isinstance(form, dict) and seen < MAX_FAULTS and (name := referred(form)):
            form, seen = self._schema["$defs"][name], seen + 1
        return form if isinstance(form, dict) else {}

    def _is_tagged(self, form: Schema, value: dict[str, Any]) -> bool:
        """Whether a field that may have one value only has that value: the tag of a union."""
        return any(
            name in value and isinstance(inside, dict) and _only(inside) == [value[name]]
            for name, inside in form.get("properties", {}).items()
        )

    # -- the library ------------------------------------------------------------------------

    def _fits(self, schema: Schema, keyword: str) -> Callable[[Any], bool]:
        """The test of one keyword alone."""
        return self._test_of((id(schema), keyword), lambda: self._alone(schema, keyword))

    def _matches(self, pattern: str) -> Callable[[Any], bool]:
        return self._test_of((pattern, ""), lambda: {"pattern": pattern})

    def _test_of(
        self, key: tuple[int | str, str], make: Callable[[], Schema]
    ) -> Callable[[Any], bool]:
        if key not in self._compiled:
            alone = make()
            self._spent += _WITH_DEFS if "$defs" in alone else 1
            if self._spent > _MAX_COMPILED:
                raise _EnoughError
            self._compiled[key] = compiled(alone).is_valid
        return self._compiled[key]

    def _alone(self, schema: Schema, keyword: str) -> dict[str, Any]:
        if keyword == "if":
            return {"allOf": [schema["if"]], "$defs": self._schema.get("$defs", {})}
        alone = {keyword: schema[keyword]}
        if keyword == "contains":
            counts = ("minContains", "maxContains")
            alone |= {count: schema[count] for count in counts if count in schema}
        if keyword in OTHERS:
            alone["$defs"] = self._schema.get("$defs", {})
        return alone

    def _visit(self, count: int = 1) -> None:
        self._visits += count
        if self._visits > _MAX_VISITS:
            raise _EnoughError

    def _add(self, where: str, problem: str) -> None:
        self._found[FieldFault(clean_text(where, 200), problem)] = None
        if len(self._found) >= MAX_FAULTS:
            raise _EnoughError


def _items(schema: Schema, value: list[Any]) -> Iterator[tuple[Any, Any]]:
    """The items of a list, each with the schema that is for it."""
    first = schema.get("prefixItems", [])
    yield from zip(first, value, strict=False)
    rest = schema.get("items", True)
    if rest is not True:
        yield from ((rest, item) for item in islice(value, len(first), None))


def _types(schema: Schema) -> list[str]:
    said = schema.get("type", [])
    return [said] if isinstance(said, str) else list(said)


def _admits(form: Schema, value: Any) -> bool:
    """Whether a form is for values of this kind, as far as its type says."""
    types, kind = _types(form), kind_of(value)
    return not types or kind in types or (kind == "integer" and "number" in types)


def _only(schema: Schema) -> list[Any]:
    return [schema["const"]] if "const" in schema else list(schema.get("enum", ()))
