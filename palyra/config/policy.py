"""``[policy]``: rules that say who may run what where, and the least risk of capabilities."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from typing import Annotated, TypeAlias, TypeVar

import msgspec

from palyra.core.callapprovals import ONCE, SCOPES
from palyra.core.devices import Risk, clean_text
from palyra.core.identifiers import is_ulid
from palyra.core.operators import LOCAL, Right, Role
from palyra.core.policy import (
    DEVICE,
    EXPIRES_S,
    OPERATOR,
    ROLE,
    Capabilities,
    Effect,
    Rule,
    Rules,
    default_id,
    parse_where,
)
from palyra.core.policyinput import AtMost, InputTest, OneOf, Pointer, Prefix, Scalar, Test
from palyra.errors import ExpressionInvalid, Malformed

MAX_RULES = 1_000
_SOME = msgspec.Meta(min_length=1, max_length=256)
_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=4_096)]
_Item = TypeVar("_Item")
_Known: TypeAlias = Callable[[str], bool]
_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\Z", re.ASCII)
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*(?:\.[a-z0-9][a-z0-9_-]*)*(?:\.\*)?\Z", re.ASCII)
_LOCAL = re.compile(rf"{LOCAL}[0-9]{{1,10}}\Z", re.ASCII)
_TESTS = ("equals", "one_of", "prefix", "max")
_ASKING = ("approvers", "four_eyes", "expires_s", "scopes")
_EFFECTS = [effect.value for effect in Effect]
_ROLES = [role.value for role in Role]
_DECIDERS = [role.value for role in Role if role.may(Right.DECIDE)]
_LEVELS = [risk.value for risk in Risk if risk is not Risk.NONE]


class InputSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One test of ``input``: a JSON pointer, and one of the four."""

    path: str
    equals: Scalar | None = None
    one_of: Annotated[tuple[Scalar, ...], _SOME] | None = None
    prefix: _Text | None = None
    max: int | float | None = None


class RuleSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One ``[[policy.rule]]`` as it is written; None where it is not."""

    effect: str
    id: str | None = None
    who: Annotated[tuple[str, ...], _SOME] | None = None
    capability: Annotated[tuple[str, ...], _SOME] | None = None
    where: _Text | None = None
    max_risk: str | None = None
    input: Annotated[tuple[InputSection, ...], _SOME] | None = None
    approvers: Annotated[tuple[str, ...], _SOME] | None = None
    four_eyes: bool | None = None
    expires_s: Annotated[int, msgspec.Meta(ge=30, le=86_400)] | None = None
    scopes: Annotated[tuple[str, ...], _SOME] | None = None


class PolicySection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The rules in their order, and ``risk``: capability or ``PREFIX.*`` to the least risk of it.

    Making one checks all of it and raises what :func:`rules_of` raises.
    """

    rule: Annotated[tuple[RuleSection, ...], msgspec.Meta(max_length=MAX_RULES)] = ()
    risk: dict[str, str] = {}

    def __post_init__(self) -> None:
        rules_of(self)


def rules_of(section: PolicySection) -> Rules:
    """The rules that the section says, compiled.

    :raises Malformed: something in it means nothing; ``field`` is its path in the file, where
        rules count from 0 as every list does there, and the problem names the rule by its number.
    """
    rules = tuple(
        _ruled(each, number, f"policy.rule[{number - 1}]")
        for number, each in enumerate(section.rule, 1)
    )
    _check_ids(rules)
    return Rules(rules, {name: _floor(name, word) for name, word in section.risk.items()})


def _floor(name: str, word: str) -> Risk:
    field = f"policy.risk.{clean_text(name, 64)}"
    _check_capability(name, field)
    return _risk(word, field)


def _ruled(section: RuleSection, number: int, path: str) -> Rule:
    try:
        return _rule(section, number, path)
    except ExpressionInvalid as error:
        problem = f"rule {number}, column {error.column}: {error.problem}"
        raise Malformed(error.field, problem) from error
    except Malformed as error:
        raise Malformed(error.field, f"rule {number}: {error.problem}") from error


def _rule(section: RuleSection, number: int, path: str) -> Rule:
    _check_fit(section, path)
    return Rule(
        rule_id=_id(section.id, number, f"{path}.id"),
        number=number,
        effect=Effect(_word(section.effect, _EFFECTS, f"{path}.effect")),
        who=_optional(section.who, lambda words: frozenset(_who(words, f"{path}.who"))),
        capability=_optional(section.capability, lambda names: _names(names, path)),
        where=_optional(section.where, lambda text: parse_where(text, f"{path}.where")),
        max_risk=_optional(section.max_risk, lambda word: _risk(word, f"{path}.max_risk")),
        input=tuple(
            _test(each, f"{path}.input[{place}]") for place, each in enumerate(section.input or ())
        ),
        approvers=_approvers(section.approvers or (), f"{path}.approvers"),
        four_eyes=section.four_eyes or False,
        expires_s=section.expires_s or EXPIRES_S,
        scopes=_scopes(section.scopes or (ONCE,), f"{path}.scopes"),
    )


def _check_fit(section: RuleSection, path: str) -> None:
    """Refuse what a rule of this effect has no use for, and would be read as something else."""
    if section.effect == "deny" and section.max_risk is not None:
        problem = "only rules that allow or ask have it; those that deny are for every risk"
        raise Malformed(f"{path}.max_risk", problem)
    if section.effect == "ask":
        return
    for name in _ASKING:
        if getattr(section, name) is not None:
            raise Malformed(f"{path}.{name}", "only rules that ask have it")


def _id(text: str | None, number: int, field: str) -> str:
    if text is None:
        return default_id(number)
    if not _ID.match(text):
        raise Malformed(
            field, "must be 1 to 64 of a-z 0-9 . _ - and begin with a letter or a digit"
        )
    return text


def _check_ids(rules: Iterable[Rule]) -> None:
    seen: dict[str, int] = {}
    for rule in rules:
        earlier = seen.setdefault(rule.rule_id, rule.number)
        if earlier != rule.number:
            field = f"policy.rule[{rule.number - 1}].id"
            raise Malformed(field, f"rule {rule.number}: rule {earlier} has this id")


def _word(word: str, known: Iterable[str], field: str) -> str:
    if word not in known:
        raise Malformed(field, f"must be {' or '.join(known)}")
    return word


def _risk(word: str, field: str) -> Risk:
    return Risk(_word(word, _LEVELS, field))


def _scopes(words: Iterable[str], field: str) -> tuple[str, ...]:
    checked = (_word(word, SCOPES, f"{field}[{place}]") for place, word in enumerate(words))
    return tuple(dict.fromkeys(checked))


def _names(patterns: tuple[str, ...], path: str) -> Capabilities:
    for place, name in enumerate(patterns):
        _check_capability(name, f"{path}.capability[{place}]")
    return Capabilities(patterns)


def _check_capability(name: str, field: str) -> None:
    if not _NAME.match(name):
        problem = "must name a capability, or all below a prefix as in system.*"
        if name == "*":
            problem = "leave capability out for every capability"
        raise Malformed(field, problem)


def _is_operator(text: str) -> bool:
    return is_ulid(text) or _LOCAL.match(text) is not None


_WORDS: dict[str, tuple[_Known, str]] = {
    ROLE: (
        lambda text: text in {role.value for role in Role},
        " or ".join(role.value for role in Role),
    ),
    OPERATOR: (_is_operator, "its id of 26 characters, or local:UID"),
    DEVICE: (is_ulid, "its id of 26 characters"),
}


def _who(words: Iterable[str], field: str) -> Iterable[str]:
    """Words for principals, each checked."""
    for place, word in enumerate(words):
        kind, colon, value = word.partition(":")
        known, form = _WORDS.get(kind + colon, (lambda text: False, ""))
        if not form:
            raise Malformed(f"{field}[{place}]", "must be role:NAME, operator:ID or device:ID")
        if not known(value):
            raise Malformed(f"{field}[{place}]", f"must have {form} after {kind}:")
        yield word


def _approvers(words: tuple[str, ...], field: str) -> tuple[str, ...]:
    for place, word in enumerate(_who(words, field)):
        if word.startswith(DEVICE):
            raise Malformed(f"{field}[{place}]", "a device cannot decide")
        if word.startswith(ROLE) and word.removeprefix(ROLE) not in _DECIDERS:
            problem = f"that role cannot decide, only {' or '.join(_DECIDERS)} can"
            raise Malformed(f"{field}[{place}]", problem)
    return words


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


_Made = TypeVar("_Made")


def _optional(value: _Item | None, make: Callable[[_Item], _Made]) -> _Made | None:
    return None if value is None else make(value)
