"""``[policy]``: rules that say who may run what where, and the least risk of capabilities."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Annotated, TypeAlias

import msgspec

from palyra.config.ruleparts import (
    EFFECTS,
    MAX_RULES,
    SOME,
    InputSection,
    Text,
    capabilities_of,
    check_capability,
    check_ids,
    id_of,
    numbered,
    optional,
    tests_of,
    word_of,
)
from palyra.core.callapprovals import ONCE, SCOPES
from palyra.core.devices import Risk, clean_text
from palyra.core.identifiers import is_ulid
from palyra.core.operators import LOCAL, Right, Role
from palyra.core.policy import (
    DEVICE,
    EXPIRES_S,
    OPERATOR,
    ROLE,
    Effect,
    Rule,
    Rules,
    parse_where,
)
from palyra.errors import Malformed

_Known: TypeAlias = Callable[[str], bool]
_LOCAL = re.compile(rf"{LOCAL}[0-9]{{1,10}}\Z", re.ASCII)
_ASKING = ("approvers", "four_eyes", "expires_s", "scopes")
_DECIDERS = [role.value for role in Role if role.may(Right.DECIDE)]
_LEVELS = [risk.value for risk in Risk if risk is not Risk.NONE]


class RuleSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One ``[[policy.rule]]`` as it is written; None where it is not."""

    effect: str
    id: str | None = None
    who: Annotated[tuple[str, ...], SOME] | None = None
    capability: Annotated[tuple[str, ...], SOME] | None = None
    where: Text | None = None
    max_risk: str | None = None
    input: Annotated[tuple[InputSection, ...], SOME] | None = None
    approvers: Annotated[tuple[str, ...], SOME] | None = None
    four_eyes: bool | None = None
    expires_s: Annotated[int, msgspec.Meta(ge=30, le=86_400)] | None = None
    scopes: Annotated[tuple[str, ...], SOME] | None = None


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
    check_ids(rules, "policy.rule")
    return Rules(rules, {name: _floor(name, word) for name, word in section.risk.items()})


def _floor(name: str, word: str) -> Risk:
    field = f"policy.risk.{clean_text(name, 64)}"
    check_capability(name, field)
    return _risk(word, field)


def _ruled(section: RuleSection, number: int, path: str) -> Rule:
    with numbered(number):
        return _rule(section, number, path)


def _rule(section: RuleSection, number: int, path: str) -> Rule:
    _check_fit(section, path)
    return Rule(
        rule_id=id_of(section.id, number, f"{path}.id"),
        number=number,
        effect=Effect(word_of(section.effect, EFFECTS, f"{path}.effect")),
        who=optional(section.who, lambda words: frozenset(_who(words, f"{path}.who"))),
        capability=optional(
            section.capability, lambda names: capabilities_of(names, f"{path}.capability")
        ),
        where=optional(section.where, lambda text: parse_where(text, f"{path}.where")),
        max_risk=optional(section.max_risk, lambda word: _risk(word, f"{path}.max_risk")),
        input=tests_of(section.input or (), f"{path}.input"),
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


def _risk(word: str, field: str) -> Risk:
    return Risk(word_of(word, _LEVELS, field))


def _scopes(words: Iterable[str], field: str) -> tuple[str, ...]:
    checked = (word_of(word, SCOPES, f"{field}[{place}]") for place, word in enumerate(words))
    return tuple(dict.fromkeys(checked))


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
