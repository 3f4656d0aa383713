"""Expressions: what a parsed targeting expression is made of, and the devices it is true of.

:func:`palyra.core.selection.parse` makes them; each part knows its canonical text and compiles to a
closure, because one expression is put to every device of a gateway.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from fnmatch import translate
from operator import attrgetter
from typing import TypeAlias

import attrs

from palyra.core.devices import AnnouncedCapability, Device, PresenceState
from palyra.core.identifiers import DeviceId, has_prefix, is_ulid

LABEL = "label."
"""What stands before the key of a label where a field is expected."""
KEYWORDS = frozenset({"and", "or", "not", "in", "all"})
BARE = re.compile(r"[^\s(),=!~\"']+")
"""A value that needs no quotes, unless it is a keyword."""


@attrs.frozen
class Facts:
    """What an expression can see of a device."""

    name: str
    id: DeviceId
    platform: str
    version: str
    kind: str
    presence: str
    transport: str
    address: str
    labels: Mapping[str, str]
    capabilities: tuple[AnnouncedCapability, ...]

    @classmethod
    def of(cls, device: Device, presence: PresenceState) -> Facts:
        """The facts of a device of the directory, and whether it can be reached."""
        return cls(
            device.name,
            device.device_id,
            device.platform,
            device.version,
            device.client_kind.value,
            presence.value,
            device.transport,
            device.address,
            device.labels,
            device.capabilities,
        )


Test: TypeAlias = Callable[[Facts], bool]


@attrs.frozen
class Everything:
    """``all``."""

    def __str__(self) -> str:
        return "all"

    def compiled(self) -> Test:
        return lambda facts: True


@attrs.frozen
class Comparison:
    """A field and what it is compared with; ``sign`` as it is written, ``not in`` included."""

    field: str
    sign: str
    values: tuple[str, ...]

    def __str__(self) -> str:
        values = ", ".join(_quoted(value) for value in self.values)
        return f"{self.field} {self.sign} " + (f"({values})" if "in" in self.sign else values)

    def compiled(self) -> Test:
        if "~" in self.sign:
            holds = _resembles(self.values[0])
        else:
            holds = _equals_id(self.values) if self.field == "id" else _equals(self.values)
        test = self._of_label(holds) if self.field.startswith(LABEL) else self._of_field(holds)
        return _negated(test) if self.sign in ("!=", "!~", "not in") else test

    def _of_field(self, holds: Callable[[str], bool]) -> Test:
        get = attrgetter(self.field)
        return lambda facts: holds(get(facts))

    def _of_label(self, holds: Callable[[str], bool]) -> Test:
        key = self.field.removeprefix(LABEL)
        return lambda facts: key in facts.labels and holds(facts.labels[key])


@attrs.frozen
class Has:
    """A capability that the device announces and that is available there."""

    capability: str

    def __str__(self) -> str:
        return f"has({_quoted(self.capability)})"

    def compiled(self) -> Test:
        name = self.capability
        return lambda facts: any(
            item.name == name and item.available for item in facts.capabilities
        )


@attrs.frozen
class Group:
    """A label without a value."""

    name: str

    def __str__(self) -> str:
        return f"group({_quoted(self.name)})"

    def compiled(self) -> Test:
        name = self.name
        return lambda facts: facts.labels.get(name) == ""


@attrs.frozen
class Negation:
    """``not`` something."""

    term: Term

    def __str__(self) -> str:
        shown = f"({self.term})" if isinstance(self.term, Junction) else str(self.term)
        return f"not {shown}"

    def compiled(self) -> Test:
        return _negated(self.term.compiled())


@attrs.frozen
class Junction:
    """Two terms or more with one ``word`` between them; no term is a junction of the same word."""

    word: str
    terms: tuple[Term, ...]

    def __str__(self) -> str:
        return f" {self.word} ".join(
            f"({term})" if self.word == "and" and isinstance(term, Junction) else str(term)
            for term in self.terms
        )

    def compiled(self) -> Test:
        tests = [term.compiled() for term in self.terms]
        if self.word == "and":
            return lambda facts: all(test(facts) for test in tests)
        return lambda facts: any(test(facts) for test in tests)


Term: TypeAlias = Everything | Comparison | Has | Group | Negation | Junction


@attrs.frozen
class Expression:
    """A parsed expression.  ``str`` of it is its one canonical form, which parses to an equal one.

    The canonical form is printable and within the bounds of :func:`parse`.
    """

    term: Term
    _test: Test = attrs.field(init=False, repr=False, eq=False)

    @_test.default
    def _compile(self) -> Test:
        return self.term.compiled()

    def __str__(self) -> str:
        return str(self.term)

    def matches(self, facts: Facts) -> bool:
        """Whether a device is among those that are meant."""
        return self._test(facts)


def _negated(test: Test) -> Test:
    return lambda facts: not test(facts)


def _equals(values: tuple[str, ...]) -> Callable[[str], bool]:
    if len(values) == 1:
        return values[0].__eq__
    return frozenset(values).__contains__


def _equals_id(values: tuple[str, ...]) -> Callable[[str], bool]:
    """An id is named in full or by its short form."""
    full = frozenset(value for value in values if is_ulid(value))
    prefixes = [value for value in values if value not in full]
    return lambda text: text in full or any(has_prefix(text, prefix) for prefix in prefixes)


def _resembles(value: str) -> Callable[[str], bool]:
    """A part of the text, or a pattern of all of it.

    ``translate`` makes each ``*`` an atomic group, so that a pattern of many stars is never tried
    in more than one way.
    """
    wanted = value.casefold()
    if "*" not in wanted and "?" not in wanted:
        return lambda text: wanted in text.casefold()
    matched = re.compile(translate(wanted.replace("[", "[[]"))).match
    return lambda text: matched(text.casefold()) is not None


def _quoted(value: str) -> str:
    """A value as the canonical form has it: bare where it may be."""
    if BARE.fullmatch(value) and value.lower() not in KEYWORDS:
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
