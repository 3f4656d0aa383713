"""Policy: the order of rules, what each field of a rule means, and that a deny only ever denies."""

from __future__ import annotations

import itertools
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.core.devices import AnnouncedCapability, ClientKind, Device, Risk
from palyra.core.identifiers import DeviceId, Fingerprint
from palyra.core.operators import Role
from palyra.core.policy import (
    Asking,
    Capabilities,
    Decision,
    Effect,
    Principal,
    Rule,
    Rules,
    decide,
    explain,
    parse_where,
)
from palyra.core.policyinput import AtMost, InputTest, OneOf, Pointer, Prefix
from palyra.errors import ExpressionInvalid, Malformed

DEVICE_ID = DeviceId("01J9ZC5QXGX4K7QM2ZT9B3FVHD")
OTHER_ID = DeviceId("01J9ZC5QXG0123456789ABCDEF")
DEVICE = Device(
    device_id=DEVICE_ID,
    client_kind=ClientKind.NODE,
    name="pi",
    platform="linux arm64",
    version="0.1.0",
    identity_public=b"",
    identity_fingerprint=Fingerprint(""),
    grants=frozenset(),
    capabilities=(),
    labels={"env": "prod", "edge": ""},
    approved_by="",
    paired_at_ms=0,
)
BO = Principal("01J9ZC5QXGAAAAAAAAAAAAAAAA", Role.OPERATOR)
ROOT = Principal("local:0", Role.ADMIN)
CLIENT = Principal(device_id=OTHER_ID)
NUMBERS = itertools.count(1)


def a_rule(effect: str, **fields: Any) -> Rule:
    number = fields.pop("number", None) or next(NUMBERS)
    return Rule(rule_id=f"rule-{number}", number=number, effect=Effect(effect), **fields)


def asking(**fields: Any) -> Asking:
    given: dict[str, Any] = {
        "principal": BO,
        "capability": "system.service",
        "risk": Risk.HIGH,
        "input": {},
    }
    return Asking(**(given | fields))


def effect_of(*rules: Rule, **fields: Any) -> str:
    return decide(Rules(rules), asking(**fields), DEVICE).effect.value


def decided_by(rule: Rule, **fields: Any) -> bool:
    """Whether the rule is for the call."""
    return decide(Rules((rule,)), asking(**fields), DEVICE).rule is rule


ALLOW, ASK, DENY = a_rule("allow"), a_rule("ask"), a_rule("deny")
OTHERS = Capabilities(("echo",))


# -- the order ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ((ALLOW,), "allow"),
        ((ASK,), "ask"),
        ((DENY,), "deny"),
        ((ALLOW, ASK), "allow"),
        ((ASK, ALLOW), "ask"),
        ((ALLOW, DENY), "deny"),
        ((ASK, ALLOW, DENY), "deny"),
        ((a_rule("deny", capability=OTHERS), ALLOW), "allow"),
        ((a_rule("allow", capability=OTHERS), ASK), "ask"),
        ((a_rule("allow", capability=OTHERS),), "ask"),
    ],
)
def test_any_deny_then_the_first_in_the_file(rules: tuple[Rule, ...], expected: str) -> None:
    """A deny wins from anywhere; of the others the first that is for the call."""
    assert effect_of(*rules) == expected


@pytest.mark.parametrize("rules", [Rules.empty, Rules((a_rule("deny", capability=OTHERS),))])
@pytest.mark.parametrize(
    ("risk", "effect", "reason"),
    [
        (Risk.LOW, Effect.ALLOW, "no rule; risk low is allowed"),
        (Risk.MEDIUM, Effect.ASK, "no rule; risk medium asks"),
        (Risk.HIGH, Effect.ASK, "no rule; risk high asks"),
    ],
)
def test_without_a_rule_only_low_risk_is_allowed(
    rules: Rules, risk: Risk, effect: Effect, reason: str
) -> None:
    """And the reason says that no rule was for it."""
    decision = decide(rules, asking(risk=risk), DEVICE)
    assert decision == Decision(effect, reason)
    assert (decision.rule_id, decision.rule_number) == ("", 0)


def test_the_reason_names_the_rule() -> None:
    """By its number, and its id where the file gives one."""
    rule = Rule(rule_id="no-prod", number=4, effect=Effect.DENY)
    decision = decide(Rules((rule,)), asking(), DEVICE)
    assert (decision.rule_id, decision.rule_number) == ("no-prod", 4)
    assert decision.reason == "rule 4 (no-prod) denies"
    assert str(rule) == "rule 4: no-prod" and str(a_rule("deny", number=5)) == "rule 5"
    assert decide(Rules((a_rule("ask", number=2),)), asking(), DEVICE).reason == "rule 2 asks"


def test_a_decision_is_explained_in_a_line() -> None:
    """With who may say yes, and until when, where it asks."""
    some = a_rule("ask", number=3, approvers=("role:admin", "operator:local:0"), expires_s=60)
    eyes = a_rule("ask", number=4, four_eyes=True)
    lines = [explain(decide(Rules((rule,)), asking(), DEVICE)) for rule in (some, eyes)]
    assert lines == [
        "rule 3 asks: role:admin or operator:local:0, within 60 s",
        "rule 4 asks: any approver, who is not the one who asks, within 600 s",
    ]
    unruled = decide(Rules.empty, asking(), DEVICE)
    assert explain(unruled) == "no rule; risk high asks: any approver, within 600 s"
    assert explain(decide(Rules((a_rule("deny", number=5),)), asking(), DEVICE)) == "rule 5 denies"


# -- the fields -----------------------------------------------------------------------------------


@pytest.mark.parametrize("effect", ["allow", "ask", "deny"])
def test_an_absent_field_is_true_of_every_call(effect: str) -> None:
    """A rule of an effect alone is for everything."""
    for principal in (BO, ROOT, CLIENT, Principal()):
        assert decided_by(a_rule(effect), principal=principal)


@pytest.mark.parametrize(
    ("who", "principals"),
    [
        ({"role:operator"}, [BO]),
        ({"role:admin"}, [ROOT]),
        ({"role:viewer", "role:admin"}, [ROOT]),
        ({"operator:local:0"}, [ROOT]),
        ({"operator:01J9ZC5QXGAAAAAAAAAAAAAAAA"}, [BO]),
        ({f"device:{OTHER_ID}"}, [CLIENT]),
        ({f"device:{OTHER_ID}", "role:operator"}, [BO, CLIENT]),
        ({"operator:local:00", "operator:"}, []),
    ],
)
def test_who(who: set[str], principals: list[Principal]) -> None:
    """A role is that role and none above it; ids are whole; nobody is named by nothing."""
    rule = a_rule("allow", who=frozenset(who))
    everyone = [BO, ROOT, CLIENT, Principal()]
    assert [each for each in everyone if decided_by(rule, principal=each)] == principals


@pytest.mark.parametrize(
    ("patterns", "name", "expected"),
    [
        (("echo",), "echo", True),
        (("echo",), "echoes", False),
        (("system.*",), "system.health", True),
        (("system.*",), "system.a.b", True),
        (("system.*",), "system", False),
        (("system.*",), "systems.health", False),
        (("system.service.*",), "system.service", False),
        (("echo", "system.*"), "system.health", True),
        (("echo", "system.*"), "desktop.open_url", False),
    ],
)
def test_capabilities(patterns: tuple[str, ...], name: str, expected: bool) -> None:
    """A name is that name; a prefix ends at a dot."""
    assert (
        decided_by(a_rule("deny", capability=Capabilities(patterns)), capability=name) is expected
    )


@pytest.mark.parametrize("effect", ["allow", "ask"])
@pytest.mark.parametrize("risk", [Risk.LOW, Risk.MEDIUM, Risk.HIGH])
def test_the_risk_up_to_which_a_rule_is(effect: str, risk: Risk) -> None:
    """What is above it goes on to the next rule."""
    rule = a_rule(effect, max_risk=Risk.MEDIUM)
    assert decided_by(rule, risk=risk) is (risk is not Risk.HIGH)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("all", True),
        ("label.env = prod", True),
        ("label.env in (test, stage)", False),
        ("label.nothing = 1", False),
        ("label.nothing != 1", True),
        ("group(edge) and not label.env ~ te*", True),
        (f"id = {DEVICE_ID}", True),
        (f"id not in ({DEVICE_ID}, {OTHER_ID})", False),
        (f"(id = {OTHER_ID} or group(edge)) and label.env = prod", True),
    ],
)
def test_where(where: str, expected: bool) -> None:
    """What operators set, and the whole id."""
    assert decided_by(a_rule("deny", where=parse_where(where))) is expected


@pytest.mark.parametrize(
    ("where", "fault"),
    [
        ("name = pi", "name"),
        ("platform ~ linux", "platform"),
        ("version = 1", "version"),
        ("kind = node", "kind"),
        ("presence = online", "presence"),
        ("transport = grpc", "transport"),
        ("address = 127.0.0.1", "address"),
        ("has(echo)", "has()"),
        ("id = X4K7QM", "a part of an id"),
        (f"id in ({DEVICE_ID}, X4K7QM)", "a part of an id"),
        (f"id ~ {DEVICE_ID}", "a part of an id"),
        ("label.env = prod and (group(edge) or not not has(echo))", "has()"),
    ],
)
def test_what_a_device_could_choose_is_no_part_of_a_rule(where: str, fault: str) -> None:
    """A device draws its own id, so that even the short form of one can be had."""
    with pytest.raises(Malformed) as refused:
        parse_where(where, "here")
    assert refused.value.field == "here"
    assert refused.value.problem.startswith(f"{fault} cannot stand here: a rule sees label.KEY")


def test_what_is_no_expression() -> None:
    """It is refused as it is everywhere, with its column."""
    with pytest.raises(ExpressionInvalid) as refused:
        parse_where("label.env =", "here")
    assert refused.value.column == 12


def a_test(pointer: str, test: Any) -> InputTest:
    return InputTest(Pointer.parse(pointer), test)


NGINX = a_test("/name", OneOf(("nginx",)))
FEW = a_test("/count", AtMost(3))
DOCS = a_test("/url", Prefix.parse("https://example.org/docs"))


@pytest.mark.parametrize(
    ("tests", "value", "allows", "denies"),
    [
        ((NGINX,), {"name": "nginx"}, True, True),
        ((NGINX,), {"name": "sshd"}, False, False),
        ((NGINX,), {}, False, True),
        ((NGINX,), None, False, True),
        ((NGINX,), ["nginx"], False, True),
        ((NGINX,), {"name": ["nginx"]}, False, True),
        ((NGINX, FEW), {"name": "nginx", "count": 3}, True, True),
        ((NGINX, FEW), {"name": "nginx", "count": 4}, False, False),
        ((NGINX, FEW), {"name": "nginx"}, False, True),
        ((NGINX, FEW), {"name": "sshd"}, False, False),
        ((DOCS,), {"url": "https://example.org/docs/a"}, True, True),
        ((DOCS,), {"url": "https://example.org/docs/../a"}, False, True),
        ((DOCS,), {"url": "https://example.org/other"}, False, False),
    ],
)
def test_what_cannot_be_told_never_allows(
    tests: tuple[InputTest, ...], value: object, allows: bool, denies: bool
) -> None:
    """A missing path and a trick fit where a rule denies or asks, and do not where it allows."""
    assert decided_by(a_rule("allow", input=tests), input=value) is allows
    assert decided_by(a_rule("ask", input=tests), input=value) is denies
    assert decided_by(a_rule("deny", input=tests), input=value) is denies


def test_high_risk_is_approved_once() -> None:
    """Whatever the rule says of longer."""
    rule = a_rule("ask", scopes=("once", "timeboxed"))
    assert rule.scopes_for(Risk.MEDIUM) == ("once", "timeboxed")
    assert rule.scopes_for(Risk.HIGH) == ("once",)


# -- risk -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("floors", "name", "said", "counts"),
    [
        ({}, "system.health", "low", Risk.LOW),
        ({}, "acme.print", "low", Risk.MEDIUM),
        ({}, "acme.print", "high", Risk.HIGH),
        ({"system.health": Risk.MEDIUM}, "system.health", "low", Risk.MEDIUM),
        ({"system.health": Risk.MEDIUM}, "system.load", "low", Risk.LOW),
        ({"system.*": Risk.HIGH, "system.health": Risk.LOW}, "system.health", "low", Risk.HIGH),
        ({"acme.print": Risk.LOW}, "acme.print", "low", Risk.MEDIUM),
        ({"acme.print": Risk.LOW}, "acme.print", "high", Risk.HIGH),
    ],
)
def test_the_gateway_only_raises_risks(
    floors: dict[str, Risk], name: str, said: str, counts: Risk
) -> None:
    """The highest of what is announced, what others' capabilities have at least, and its floors."""
    rules = Rules(floors=floors)
    assert rules.risk_of(AnnouncedCapability(name, risk=said)) is counts
    assert rules.plain is (not floors)


# -- whatever the rules are -----------------------------------------------------------------------

inputs = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["nginx", "sshd", None, ["nginx"]]),
        "count": st.sampled_from([1, 3, 4, True]),
        "url": st.sampled_from(["https://example.org/docs/", "https://example.org/docs/..", "x"]),
    },
)
DEVICES = [DEVICE, attrs.evolve(DEVICE, labels={})]
RISKS = [Risk.LOW, Risk.MEDIUM, Risk.HIGH]
askings = st.builds(
    Asking,
    st.sampled_from([BO, ROOT, CLIENT]),
    st.sampled_from(["echo", "system.service", "acme.print"]),
    st.sampled_from(RISKS),
    inputs,
)
rules_drawn = st.builds(
    Rule,
    rule_id=st.just("drawn"),
    number=st.integers(1, 9),
    effect=st.sampled_from(Effect),
    who=st.none() | st.sampled_from([frozenset({"role:admin"}), frozenset({"role:operator"})]),
    capability=st.none() | st.sampled_from([OTHERS, Capabilities(("system.*",))]),
    where=st.none() | st.sampled_from(["group(edge)", "label.env != prod"]).map(parse_where),
    max_risk=st.none() | st.sampled_from([Risk.LOW, Risk.MEDIUM]),
    input=st.lists(st.sampled_from([NGINX, FEW, DOCS]), max_size=2).map(tuple),
)


@given(st.lists(rules_drawn, max_size=4), rules_drawn, askings, st.integers(0, 4))
@settings(max_examples=100)
def test_one_more_deny_never_allows_more(
    rules: list[Rule], extra: Rule, call: Asking, place: int
) -> None:
    """Wherever in the file it stands; and the same question has the same answer."""
    before = decide(Rules(tuple(rules)), call, DEVICE)
    assert decide(Rules(tuple(rules)), call, DEVICE) == before
    deny = attrs.evolve(extra, effect=Effect.DENY)
    after = decide(Rules((*rules[:place], deny, *rules[place:])), call, DEVICE)
    assert after == before or (after.effect, after.rule) == (Effect.DENY, deny)


@given(rules_drawn, askings)
@settings(max_examples=100)
def test_what_allows_would_also_deny(rule: Rule, call: Asking) -> None:
    """The conditions of an allow are met only where they would be met of an ask or a deny."""
    allow, deny = (attrs.evolve(rule, effect=effect) for effect in (Effect.ALLOW, Effect.DENY))
    if decide(Rules((allow,)), call, DEVICE).rule is not None:
        assert decide(Rules((deny,)), call, DEVICE).effect is Effect.DENY


@given(st.lists(rules_drawn, max_size=6), askings, st.sampled_from(DEVICES), st.sampled_from(RISKS))
@settings(max_examples=100)
def test_the_rules_that_concern_a_call_say_the_same_as_all(
    rules: list[Rule], call: Asking, device: Device, risk: Risk
) -> None:
    """On every device, and of whatever risk the capability is there."""
    all_of_them = Rules(tuple(rules), {"echo": Risk.HIGH})
    some = all_of_them.about(call)
    there = attrs.evolve(call, risk=risk)
    assert decide(some, there, device) == decide(all_of_them, there, device)
    assert some.floors == all_of_them.floors and set(some.rules) <= set(rules)


def test_rules_are_not_asked_where_there_are_none() -> None:
    """Nothing is built for a call under no rules: the answer is one of three ready ones."""
    first, second = (decide(Rules.empty, asking(risk=Risk.LOW), DEVICE) for _ in range(2))
    assert first is second and Rules.empty.plain
