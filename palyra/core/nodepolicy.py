"""The owner's rules on a device: what may run there, whatever the gateway says.

Any rule that denies wins.  Else the first rule in the file that allows or asks; else what needs
mediation, or is of high risk, asks, and the rest is allowed.  A field that a rule leaves out is
true of every call; what a rule cannot tell of an input fits where it denies or asks, and does not
where it allows.
"""

from __future__ import annotations

import attrs

from palyra.core.devices import Risk
from palyra.core.policy import Asking, Effect, Principal, Rule

_ANYBODY = Principal()
"""A device's rules are about what is asked, never about who: that is the gateway's word only."""


@attrs.frozen
class Decision:
    """What the owner's rules say to a call; ``rule_id`` is empty where none was for it, and its
    number in the file where it has no name there."""

    effect: Effect
    rule_id: str = ""


@attrs.frozen
class NodePolicy:
    """The rules in the order of their file."""

    rules: tuple[Rule, ...] = ()

    def decide(
        self, capability: str, *, risk: str, needs_mediation: bool, value: object
    ) -> Decision:
        """What they say to a call; ``value`` is its decoded input.

        ``value`` is not looked at where there are no rules.
        """
        if not self.rules:
            return Decision(_unruled(risk, needs_mediation))
        asking = Asking(_ANYBODY, capability, Risk(risk), value)
        fitting = [rule for rule in self.rules if rule.concerns(asking)]
        denying = [rule for rule in fitting if rule.effect is Effect.DENY]
        for rule in denying or fitting:
            return Decision(rule.effect, rule.rule_id if rule.named else str(rule.number))
        return Decision(_unruled(risk, needs_mediation))

    def may_ask(self, name: str, *, risk: str, needs_mediation: bool) -> bool:
        """Whether some input of that capability is one that a person is asked about."""
        for rule in self.rules:
            if rule.capability is not None and not rule.capability.include(name):
                continue
            if rule.effect is Effect.ASK:
                return True
            if rule.effect is Effect.ALLOW and not rule.input:
                return False
        return _unruled(risk, needs_mediation) is Effect.ASK


def _unruled(risk: str, needs_mediation: bool) -> Effect:
    return Effect.ASK if needs_mediation or risk == Risk.HIGH.value else Effect.ALLOW
