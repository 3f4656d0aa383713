"""What rules are written with, wherever they stand: ids, names of capabilities, tests of inputs.

Every reader takes the path of its value and raises :class:`Malformed` that names it.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, TypeVar

import msgspec

from palyra.core.policy import Capabilities, Effect, Rule, default_id
from palyra.core.policyinput import AtMost, InputTest, OneOf, Pointer, Prefix, Scalar, Test
from palyra.errors import ExpressionInvalid, Malformed

MAX_RULES = 1_000
SOME = msgspec.Meta(min_length=1, max_length=256)
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=4_096)]
EFFECTS = [effect.value for effect in Effect]
_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\Z", re.ASCII)
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*(?:\.[a-z0-9][a-z0-9_-]*)*(?:\.\*)?\Z", re.ASCII)
_TESTS = ("equals", "one_of", "prefix", "max")
_Given = TypeVar("_Given")
_Made = TypeVar("_Made")


class InputSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One test of ``input``: a JSON pointer, and one of the four."""

    path: str
    equals: Scalar | None = None
    one_of: Annotated[tuple[Scalar, ...], SOME] | None = None
    prefix: Text | None = None
    max: int | float | None = None


@contextlib.contextmanager
def numbered(number: int) -> Iterator[None]:
    """Name the rule, counted from 1, in what is wrong with it."""
    try:
        yield
    except ExpressionInvalid as error:
        problem = f"rule {number}, column {error.column}: {error.problem}"
        raise Malformed(error.field, problem) from error
    except Malformed as error:
        raise Malformed(error.field, f"rule {number}: {error.problem}") from error


def id_of(text: str | None, number: int, field: str) -> str:
    """The id of a rule; one that names none is called by its number."""
    if text is None:
        return default_id(number)
    if not _ID.match(text):
        raise Malformed(
            field, "must be 1 to 64 of a-z 0-9 . _ - and begin with a letter or a digit"
        )
    return text


def check_ids(rules: Iterable[Rule], path: str) -> None:
    """Refuse an id that two rules have; ``path`` is that of their list."""
    seen: dict[str, int] = {}
    for rule in rules:
        earlier = seen.setdefault(rule.rule_id, rule.number)
        if earlier != rule.number:
            field = f"{path}[{rule.number - 1}].id"
            raise Malformed(field, f"rule {rule.number}: rule {earlier} has this id")


def word_of(word: str, known: Iterable[str], field: str) -> str:
    """One of the known words."""
    if word not in known:
        raise Malformed(field, f"must be {' or '.join(known)}")
    return word


def capabilities_of(patterns: tuple[str, ...], path: str) -> Capabilities:
    """Names of capabilities, and ``PREFIX.*``."""
    for place, name in enumerate(patterns):
        check_capability(name, f"{path}[{place}]")
    return Capabilities(patterns)


def check_capability(name: str, field: str) -> None:
    """Refuse what is neither the name of a capability nor ``PREFIX.*``."""
    if not _NAME.match(name):
        problem = "must name a capability, or all below a prefix as in system.*"
        if name == "*":
            problem = "leave capability out for every capability"
        raise Malformed(field, problem)


def tests_of(sections: Iterable[InputSection], path: str) -> tuple[InputTest, ...]:
    """The tests of a rule; ``path`` is that of their list."""
    return tuple(_test(each, f"{path}[{place}]") for place, each in enumerate(sections))


def optional(value: _Given | None, make: Callable[[_Given], _Made]) -> _Made | None:
    """What is made of a value that may be left out."""
    return None if value is None else make(value)


def _test(section: InputSection, path: str) -> InputTest:
    pointer = Pointer.parse(section.path, f"{path}.path")
    said = [name for name in _TESTS if getattr(section, name) is not None]
    if len(said) != 1:
        raise Malformed(path, f"must have one of {', '.join(_TESTS)} (has {len(said)})")
    return InputTest(pointer, _compared(section, f"{path}.{said[0]}"))


def _compared(section: InputSection, field: str) -> Test:
    if section.prefix is not None:
        return Prefix.parse(section.prefix, field)
    if section.max is not None:
        _check_finite((section.max,), field)
        return AtMost(section.max)
    values = section.one_of if section.equals is None else (section.equals,)
    assert values is not None, "one of the four is there"
    _check_finite(values, field)
    return OneOf(values)


def _check_finite(values: Iterable[Scalar], field: str) -> None:
    """TOML knows nan and inf, JSON does not."""
    if any(isinstance(value, float) and not math.isfinite(value) for value in values):
        raise Malformed(field, "compares with a number that JSON cannot say")
