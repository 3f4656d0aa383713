"""The device owner's rules: what may run there, whatever the gateway says."""

from __future__ import annotations

import pytest

from palyra.config.nodepolicy import parse_node_policy
from palyra.core.nodepolicy import Decision, NodePolicy
from palyra.core.policy import Effect

ALLOW, DENY, ASK = Effect.ALLOW, Effect.DENY, Effect.ASK
RULES = parse_node_policy(
    """
    [[rule]]
    id = "home"
    effect = "allow"
    capability = ["desktop.open_url"]
    input = [{ path = "/url", prefix = "https://example.org/" }]

    [[rule]]
    effect = "ask"
    capability = ["system.*"]

    [[rule]]
    id = "no-intranet"
    effect = "deny"
    capability = ["desktop.*"]
    input = [{ path = "/url", prefix = "https://intranet.example/" }]

    [[rule]]
    id = "rest"
    effect = "allow"
    capability = ["desktop.*", "system.health", "printer.print"]
    """,
    "node-policy.toml",
)


@pytest.mark.parametrize(
    ("risk", "needs_mediation", "effect"),
    [
        ("low", False, ALLOW),
        ("medium", False, ALLOW),
        ("high", False, ASK),
        ("low", True, ASK),
    ],
)
def test_without_a_rule(risk: str, needs_mediation: bool, effect: Effect) -> None:
    """What needs mediation, or is of high risk, asks; the rest is allowed."""
    for policy in (NodePolicy(), RULES):
        decision = policy.decide("x.y", risk=risk, needs_mediation=needs_mediation, value=None)
        assert decision == Decision(effect)
        asks = policy.may_ask("x.y", risk=risk, needs_mediation=needs_mediation)
        assert asks == (effect is ASK)


@pytest.mark.parametrize(
    ("capability", "value", "decision"),
    [
        ("desktop.open_url", {"url": "https://example.org/a"}, Decision(ALLOW, "home")),
        ("desktop.open_url", {"url": "https://other.example/"}, Decision(ALLOW, "rest")),
        ("desktop.open_url", {"url": "https://intranet.example/x"}, Decision(DENY, "no-intranet")),
        ("desktop.open_url", {"url": "https://ana@example.org/"}, Decision(DENY, "no-intranet")),
        ("desktop.open_url", {}, Decision(DENY, "no-intranet")),
        ("desktop.open_path", None, Decision(DENY, "no-intranet")),
        ("system.health", {}, Decision(ASK, "2")),
        ("printer.print", {}, Decision(ALLOW, "rest")),
    ],
)
def test_which_rule_decides(capability: str, value: object, decision: Decision) -> None:
    """Any deny; else the first that allows or asks.  What cannot be told fits only a yes not."""
    said = RULES.decide(capability, risk="high", needs_mediation=True, value=value)
    assert said == decision


@pytest.mark.parametrize(
    ("name", "asks"),
    [("desktop.open_url", False), ("system.health", True), ("printer.print", False)],
)
def test_which_capabilities_may_ask(name: str, asks: bool) -> None:
    """Those with some input that no earlier rule allows."""
    assert RULES.may_ask(name, risk="high", needs_mediation=True) == asks
