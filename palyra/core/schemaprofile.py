"""The part of JSON Schema that a capability may use: small enough to be checked in bounded time.

Draft 2020-12 without anything that reads from elsewhere or goes round in circles, and with the
regular expressions that match in linear time.  ``unevaluatedItems`` and ``unevaluatedProperties``
are left out: nested, they take time exponential in their depth.  ``format`` is an annotation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import jsonschema_rs
import msgspec

from palyra.core.devices import clean_text
from palyra.errors import Malformed

MAX_BYTES = 64 * 1024
MAX_DEPTH = 16
"""Schemas inside schemas, as written; also the nesting of a value in ``enum`` or ``default``."""
MAX_NODES = 1_000
"""Schemas, and values in ``enum`` and ``const``."""
MAX_EXPANSION = 10_000
"""Nodes, once every ``$ref`` is replaced by what it names."""
MAX_HOPS = 64
"""Depth, once every ``$ref`` is replaced by what it names."""
MAX_PATTERN = 256
MAX_PATTERNS = 64
"""Different ones; they are what takes long to compile."""
DRAFT = "https://json-schema.org/draft/2020-12/schema"

ONE = frozenset(
    {
        "not",
        "if",
        "then",
        "else",
        "contains",
        "items",
        "additionalProperties",
        "propertyNames",
        "contentSchema",
    }
)
"""Keywords whose value is one schema."""
LISTED = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
NAMED = frozenset({"properties", "patternProperties", "dependentSchemas", "$defs"})
_CHOICES = frozenset({"enum", "const"})
_FREE = frozenset({"default", "examples", "discriminator"})
"""Annotations of any value; the last is OpenAPI's, which msgspec writes for tagged unions."""
_PLAIN = frozenset(
    {
        "$schema",
        "$ref",
        "$comment",
        "type",
        "multipleOf",
        "maximum",
        "exclusiveMaximum",
        "minimum",
        "exclusiveMinimum",
        "maxLength",
        "minLength",
        "pattern",
        "maxItems",
        "minItems",
        "uniqueItems",
        "maxContains",
        "minContains",
        "maxProperties",
        "minProperties",
        "required",
        "dependentRequired",
        "title",
        "description",
        "deprecated",
        "readOnly",
        "writeOnly",
        "format",
        "contentEncoding",
        "contentMediaType",
    }
)
_REF = re.compile(r"#/\$defs/([A-Za-z0-9._-]{1,128})\Z")
_REGEX = jsonschema_rs.RegexOptions(size_limit=64 * 1024, dfa_size_limit=1024 * 1024)
"""Linear is not fast: at four times this size there are patterns that take 20 us a byte."""

Schema = Mapping[str, Any]


def check_profile(schema: object, field: str) -> None:
    """Refuse a schema that is not of the profile.

    :raises Malformed: of ``field``, with the place inside the schema in the problem.
    """
    schema = _plain(schema, field)
    if not isinstance(schema, dict):
        raise Malformed(field, "must be an object, a JSON Schema")
    reader = _Reader(field)
    reader.read(schema, "", 1)
    _Expansion(field, schema.get("$defs", {})).check(schema)
    try:
        compiled(schema)
    except ValueError as cause:
        reader.check_patterns()
        raise Malformed(field, f"is no valid schema ({_first_line(cause)})") from cause


def compiled(schema: Schema) -> jsonschema_rs.Draft202012Validator:
    """The validator of a schema of the profile.  Raises ValueError where it does not compile."""
    return jsonschema_rs.Draft202012Validator(
        dict(schema), validate_formats=False, pattern_options=_REGEX, retriever=_refuse
    )


def referred(schema: Schema) -> str | None:
    """The name in ``$defs`` that a schema of the profile refers to."""
    named = _REF.match(schema.get("$ref", ""))
    return named.group(1) if named else None


def parts(schema: Schema) -> Iterator[tuple[str, str, Any]]:
    """The schemas directly inside one: keyword, name or number (or nothing), schema."""
    for keyword, value in schema.items():
        if keyword in ONE:
            yield keyword, "", value
        elif keyword in LISTED:
            yield from ((keyword, str(number), each) for number, each in enumerate(value))
        elif keyword in NAMED:
            yield from ((keyword, name, each) for name, each in value.items())


def _refuse(uri: str) -> Any:
    raise LookupError("schemas are not read from elsewhere")


def _first_line(cause: ValueError) -> str:
    return clean_text(str(cause).split("\n", 1)[0], 160)


def _plain(schema: object, field: str) -> object:
    """What reads the schema as JSON would have, so that every key is a text."""
    try:
        encoded = msgspec.json.encode(schema)
        if len(encoded) > MAX_BYTES:
            raise Malformed(field, f"is longer than {MAX_BYTES // 1024} KiB")
        return msgspec.json.decode(encoded)
    except (TypeError, ValueError, OverflowError, RecursionError) as cause:
        raise Malformed(field, "has no JSON form") from cause


@attrs.define
class _Reader:
    """Walks a schema as it is written; refuses every keyword that it does not know."""

    field: str
    nodes: int = 0
    patterns: dict[str, str] = attrs.field(factory=dict)
    """Where each stands first."""

    def read(self, schema: object, where: str, depth: int) -> None:
        self._count(where, depth)
        if isinstance(schema, bool):
            return
        if not isinstance(schema, dict):
            raise self._fault(where, "must be a schema")
        for keyword, value in schema.items():
            self._read_keyword(keyword, value, where, depth)
        for keyword, name, each in parts(schema):
            place = f"{where}/{keyword}"
            self.read(each, f"{place}/{name}" if keyword not in ONE else place, depth + 1)

    def _read_keyword(self, keyword: str, value: object, where: str, depth: int) -> None:
        place = f"{where}/{keyword}"
        if keyword == "$defs" and depth > 1:
            raise self._fault(place, "may stand at the root only")
        if keyword in LISTED and not isinstance(value, list):
            raise self._fault(place, "must be an array of schemas")
        if keyword in NAMED and not isinstance(value, dict):
            raise self._fault(place, "must be an object of schemas")
        if keyword in _CHOICES:
            self._read_value(value, place, 1)
        elif keyword in _FREE or keyword.startswith("x-"):
            self._check_depth(value, place, 1)
        elif keyword not in _PLAIN and keyword not in ONE | LISTED | NAMED:
            raise self._fault(place, "is not a keyword that is taken here")
        self._read_text(keyword, value, place, depth)

    def _read_text(self, keyword: str, value: object, place: str, depth: int) -> None:
        if keyword == "$ref" and not (isinstance(value, str) and _REF.match(value)):
            raise self._fault(place, "must be #/$defs/ and a name")
        if keyword == "$schema" and (value != DRAFT or depth > 1):
            raise self._fault(place, f"must be {DRAFT}, at the root")
        if keyword == "pattern":
            self._note_pattern(value, place)
        if keyword == "patternProperties" and isinstance(value, dict):
            for pattern in value:
                self._note_pattern(pattern, place)

    def _note_pattern(self, pattern: object, place: str) -> None:
        if not isinstance(pattern, str) or len(pattern) > MAX_PATTERN:
            raise self._fault(place, f"must be a text of at most {MAX_PATTERN} characters")
        self.patterns.setdefault(pattern, place)
        if len(self.patterns) > MAX_PATTERNS:
            raise Malformed(self.field, f"has more than {MAX_PATTERNS} different patterns")

    def check_patterns(self) -> None:
        """Name the pattern because of which a schema does not compile."""
        for pattern, place in self.patterns.items():
            try:
                compiled({"pattern": pattern})
            except ValueError as cause:
                problem = "must be a regular expression without look-around and back-references"
                raise self._fault(place, f"{problem}, and small") from cause

    def _read_value(self, value: object, place: str, depth: int) -> None:
        self._count(place, depth)
        for each in _inside(value):
            self._read_value(each, place, depth + 1)

    def _check_depth(self, value: object, place: str, depth: int) -> None:
        self._check_level(place, depth)
        for each in _inside(value):
            self._check_depth(each, place, depth + 1)

    def _count(self, where: str, depth: int) -> None:
        self._check_level(where, depth)
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise Malformed(self.field, f"has more than {MAX_NODES} nodes")

    def _check_level(self, where: str, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise self._fault(where, f"is nested more than {MAX_DEPTH} deep")

    def _fault(self, where: str, problem: str) -> Malformed:
        return Malformed(self.field, f"{clean_text(where or '/', 120)} {problem}")


def _inside(value: object) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


@attrs.define
class _Expansion:
    """How much a schema is once every reference is replaced; refuses those that never end."""

    field: str
    defs: Mapping[str, Any]
    _known: dict[str, tuple[int, int]] = attrs.field(factory=dict)
    _open: set[str] = attrs.field(factory=set)

    def check(self, schema: Schema) -> None:
        """Measure the schema, and the definitions that nothing refers to."""
        nodes, depth = self._measure({**schema, "$defs": {}}, 1)
        for name in self.defs:
            depth = max(depth, self._named(name, 1)[1])
        if nodes > MAX_EXPANSION:
            raise self._too_much()
        if depth > MAX_HOPS:
            raise self._too_deep()

    def _measure(self, schema: Any, hops: int) -> tuple[int, int]:
        """Nodes and depth of one."""
        if hops > MAX_HOPS:
            raise self._too_deep()
        if isinstance(schema, bool):
            return 1, 1
        inside = [self._measure(each, hops + 1) for _, _, each in parts(schema)]
        name = referred(schema)
        if name is not None:
            inside.append(self._named(name, hops + 1))
        nodes = 1 + sum(nodes for nodes, _ in inside)
        if nodes > MAX_EXPANSION:
            raise self._too_much()
        return nodes, 1 + max((depth for _, depth in inside), default=0)

    def _named(self, name: str, hops: int) -> tuple[int, int]:
        if name not in self.defs:
            raise Malformed(self.field, f"refers to {name}, which is not in $defs")
        if name in self._open:
            raise Malformed(self.field, f"refers to {name} from inside {name}")
        if name not in self._known:
            self._open.add(name)
            self._known[name] = self._measure(self.defs[name], hops)
            self._open.discard(name)
        return self._known[name]

    def _too_much(self) -> Malformed:
        problem = f"has more than {MAX_EXPANSION} nodes once every $ref is replaced"
        return Malformed(self.field, problem)

    def _too_deep(self) -> Malformed:
        return Malformed(self.field, f"is nested more than {MAX_HOPS} deep by its references")
