"""Policy: who may run what where, as the rules of ``palyra.toml`` say it (ACCESS: Policy).

Any rule that denies wins.  Else the first rule in the file that allows or asks; else risk low is
allowed and everything above asks.  A field that a rule leaves out is true of every call.  What a
rule cannot tell (:mod:`palyra.core.policyinput`) fits where it denies or asks, and does not where
it allows.  Of a device rules see only what operators set: a device cannot choose its rules.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from typing import ClassVar

import attrs

from palyra.core.callapprovals import ONCE
from palyra.core.devices import AnnouncedCapability, Device, PresenceState, Risk
from palyra.core.expressions import Comparison, Has, Junction, Negation, Term
from palyra.core.identifiers import DeviceId, is_ulid
from palyra.core.operators import Role
from palyra.core.policyinput import InputTest
from palyra.core.selection import Expression, Facts, parse
from palyra.errors import Malformed

EXPIRES_S = 600
"""Seconds for which a call waits for a yes, and a yes for its call, where a rule says nothing."""
ROLE, OPERATOR, DEVICE = "role:", "operator:", "device:"
"""What the words of ``who`` begin with."""
_BELOW = ".*"
_SEEN = "a rule sees label.KEY, group(NAME) and id = a full id, not what a device says of itself"


class Effect(enum.Enum):
    """What a rule does with a call."""

    ALLOW = "allow"
    DENY = "deny"
    ASK = "ask"


_VERBS = {Effect.ALLOW: "allows", Effect.DENY: "denies", Effect.ASK: "asks"}


@attrs.frozen
class Principal:
    """Whose call it is: an operator with a role, or a paired client by its device id."""

    operator_id: str = ""
    role: Role | None = None
    device_id: DeviceId | None = None
    names: frozenset[str] = attrs.field(init=False, repr=False, eq=False)
    """The words of ``who`` that mean this principal."""

    @names.default
    def _names(self) -> frozenset[str]:
        said = (
            ROLE + self.role.value if self.role else "",
            OPERATOR + self.operator_id if self.operator_id else "",
            DEVICE + self.device_id if self.device_id else "",
        )
        return frozenset(filter(None, said))


@attrs.frozen
class Asking:
    """A call to be judged.  ``risk`` is :meth:`Rules.risk_of`; ``input`` is decoded JSON."""

    principal: Principal
    capability: str
    risk: Risk
    input: object = None


@attrs.frozen
class Capabilities:
    """Names of capabilities; ``PREFIX.*`` is every one whose name goes on after ``PREFIX.``."""

    patterns: tuple[str, ...]
    _exact: frozenset[str] = attrs.field(init=False, repr=False, eq=False)
    _prefixes: tuple[str, ...] = attrs.field(init=False, repr=False, eq=False)

    @_exact.default
    def _names(self) -> frozenset[str]:
        return frozenset(each for each in self.patterns if not each.endswith(_BELOW))

    @_prefixes.default
    def _beginnings(self) -> tuple[str, ...]:
        return tuple(each[:-1] for each in self.patterns if each.endswith(_BELOW))

    def include(self, name: str) -> bool:
        """Whether the capability is one of them."""
        return name in self._exact or name.startswith(self._prefixes)


@attrs.frozen(kw_only=True)
class Rule:
    """One ``[[policy.rule]]``; ``number`` counts from 1 in the file, None is true of every call.

    ``max_risk`` is up to which risk the rule is for.  What follows it is for calls that are asked:
    ``approvers`` are words of ``who`` (none: whoever may decide), ``four_eyes`` wants another
    person than the one who asks, ``expires_s`` is in seconds.
    """

    rule_id: str
    number: int
    effect: Effect
    who: frozenset[str] | None = None
    capability: Capabilities | None = None
    where: Expression | None = None
    max_risk: Risk | None = None
    input: tuple[InputTest, ...] = ()
    approvers: tuple[str, ...] = ()
    four_eyes: bool = False
    expires_s: int = EXPIRES_S
    scopes: tuple[str, ...] = (ONCE,)

    def applies(self, asking: Asking, facts: Facts) -> bool:
        """Whether the rule is for this call on the device with these facts."""
        if self.max_risk is not None and not self.max_risk.covers(asking.risk):
            return False
        return self.concerns(asking) and (self.where is None or self.where.matches(facts))

    def concerns(self, asking: Asking) -> bool:
        """Whether the rule is for this call on some device, of whatever risk there."""
        if self.capability is not None and not self.capability.include(asking.capability):
            return False
        if self.who is not None and self.who.isdisjoint(asking.principal.names):
            return False
        said = (test.holds(asking.input) for test in self.input)
        if self.effect is Effect.ALLOW:
            return all(said)
        return all(holds is not False for holds in said)

    def scopes_for(self, risk: Risk) -> tuple[str, ...]:
        """For how long a yes may hold; at high risk never longer than once."""
        return (ONCE,) if risk is Risk.HIGH else self.scopes

    @property
    def named(self) -> bool:
        """Whether the file gives it an id."""
        return self.rule_id != default_id(self.number)

    def __str__(self) -> str:
        return f"rule {self.number}{f': {self.rule_id}' if self.named else ''}"


@attrs.frozen
class Decision:
    """What the rules say to a call, and why; ``rule`` is None where none was for it."""

    effect: Effect
    reason: str
    rule: Rule | None = None

    @property
    def rule_id(self) -> str:
        """The id of the rule; empty where there is none."""
        return "" if self.rule is None else self.rule.rule_id

    @property
    def rule_number(self) -> int:
        """Its number in the file, from 1; 0 where there is none."""
        return 0 if self.rule is None else self.rule.number


@attrs.frozen
class Rules:
    """All rules in the order of the file, and the least risk of capabilities that have one."""

    rules: tuple[Rule, ...] = ()
    floors: Mapping[str, Risk] = attrs.field(factory=dict)
    plain: bool = attrs.field(init=False)
    """There is neither rule nor floor: what announces risk low is allowed, unlooked at."""
    _denying: tuple[Rule, ...] = attrs.field(init=False, repr=False, eq=False)
    _others: tuple[Rule, ...] = attrs.field(init=False, repr=False, eq=False)
    _floors: tuple[tuple[Capabilities, Risk], ...] = attrs.field(init=False, repr=False, eq=False)

    empty: ClassVar[Rules]
    """Those of a gateway without a configuration."""

    @plain.default
    def _is_plain(self) -> bool:
        return not self.rules and not self.floors

    @_denying.default
    def _which_deny(self) -> tuple[Rule, ...]:
        return tuple(rule for rule in self.rules if rule.effect is Effect.DENY)

    @_others.default
    def _which_do_not(self) -> tuple[Rule, ...]:
        return tuple(rule for rule in self.rules if rule.effect is not Effect.DENY)

    @_floors.default
    def _compiled_floors(self) -> tuple[tuple[Capabilities, Risk], ...]:
        return tuple((Capabilities((name,)), risk) for name, risk in self.floors.items())

    def about(self, asking: Asking) -> Rules:
        """Those that concern the call: for one to many devices, each is put to these only."""
        return Rules(tuple(rule for rule in self.rules if rule.concerns(asking)), self.floors)

    def risk_of(self, capability: AnnouncedCapability) -> Risk:
        """The risk that counts: what is announced, or more where the gateway says so."""
        risk = capability.granted_as
        for names, floor in self._floors:
            if not risk.covers(floor) and names.include(capability.name):
                risk = floor
        return risk


Rules.empty = Rules()


def decide(rules: Rules, asking: Asking, device: Device) -> Decision:
    """What the rules say to one call on one device; whether its role and grants allow it is not
    asked here."""
    if not rules.rules:
        return _UNRULED[asking.risk]
    # Presence is nothing that a rule sees, so any one will do.
    facts = Facts.of(device, PresenceState.OFFLINE)
    found = _first(rules._denying, asking, facts) or _first(rules._others, asking, facts)
    if found is None:
        return _UNRULED[asking.risk]
    return Decision(found.effect, _said(found), found)


def explain(decision: Decision) -> str:
    """A decision in one line, with what a call that is asked waits for."""
    rule = decision.rule
    if decision.effect is not Effect.ASK:
        return decision.reason
    approvers = " or ".join(rule.approvers if rule else ()) or "any approver"
    eyes = ", who is not the one who asks" if rule and rule.four_eyes else ""
    expires_s = rule.expires_s if rule else EXPIRES_S
    return f"{decision.reason}: {approvers}{eyes}, within {expires_s} s"


def _said(rule: Rule) -> str:
    own = f" ({rule.rule_id})" if rule.named else ""
    return f"rule {rule.number}{own} {_VERBS[rule.effect]}"


def default_id(number: int) -> str:
    """The id of a rule that names none."""
    return f"rule-{number}"


def parse_where(text: str, field: str = "where") -> Expression:
    """An expression that a rule may have.

    :raises ExpressionInvalid: it is no expression.
    :raises Malformed: it looks at what a device could choose: its name, its platform, the short
        form of an id (a device draws its own), what it announces.
    """
    expression = parse(text, field)
    for term in _parts(expression.term):
        fault = _unseen(term)
        if fault:
            raise Malformed(field, f"{fault}: {_SEEN}")
    return expression


def _first(rules: Iterable[Rule], asking: Asking, facts: Facts) -> Rule | None:
    return next((rule for rule in rules if rule.applies(asking, facts)), None)


def _unruled(risk: Risk) -> Decision:
    if Risk.LOW.covers(risk):
        return Decision(Effect.ALLOW, f"no rule; risk {risk.value} is allowed")
    return Decision(Effect.ASK, f"no rule; risk {risk.value} asks")


_UNRULED = {risk: _unruled(risk) for risk in Risk}


def _parts(term: Term) -> Iterable[Term]:
    """The term and all that it is made of."""
    yield term
    if isinstance(term, Negation):
        yield from _parts(term.term)
    elif isinstance(term, Junction):
        for each in term.terms:
            yield from _parts(each)


def _unseen(term: Term) -> str:
    """What of a term no rule can see; empty where it may stand."""
    if isinstance(term, Has):
        return "has() cannot stand here"
    if not isinstance(term, Comparison) or term.field.startswith("label."):
        return ""
    if term.field != "id":
        return f"{term.field} cannot stand here"
    whole = "~" not in term.sign and all(map(is_ulid, term.values))
    return "" if whole else "a part of an id cannot stand here"
