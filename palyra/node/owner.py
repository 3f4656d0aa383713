"""The owner's word on a call: their rules, what they said before, else the person who is there."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.threads import deferToThread

from palyra.capability.catalogue import Offer
from palyra.core.calldigest import ExactInput, exact_input
from palyra.core.consents import Scope, scope_of
from palyra.core.frames import Dispatch
from palyra.core.jobs import ALWAYS, BY_RULE, FOR_SESSION, ONCE
from palyra.core.nodepolicy import NodePolicy
from palyra.core.policy import Effect
from palyra.node.consents import Consents
from palyra.node.mediation import Answer, IMediator, Question
from palyra.node.opening import OPEN_PATH, opened_by

RULE_DENIES = "device_policy_denied"
_UNASKED = Answer(ONCE)
_NOTHING = ExactInput(None, b"")


class Owner:
    """Decides for this device.  ``policy`` may be replaced: what comes next is judged by it."""

    def __init__(
        self,
        name: str,
        *,
        mediator: IMediator,
        consents: Consents | None = None,
        policy: NodePolicy = NodePolicy(),  # noqa: B008 - frozen
        in_thread: Callable[..., Deferred[str]] = deferToThread,
    ) -> None:
        """``name`` is the device's.  Without ``consents`` nothing is remembered."""
        self._name = name
        self._mediator = mediator
        self._consents = consents
        self._in_thread = in_thread
        self.policy = policy

    def may_ask(self, capability: str, risk: str, needs_mediation: bool) -> bool:
        """Whether a person may be asked about calls of that capability."""
        return self.policy.may_ask(capability, risk=risk, needs_mediation=needs_mediation)

    def decide(self, dispatch: Dispatch, offer: Offer, until_s: float) -> Deferred[Answer]:
        """Whether it may run; fired already where nobody needs to be asked.  ``until_s`` is how
        long a person may take, on the host's monotonic clock.

        Fails with InputInvalid where the input is no JSON.  Cancelling it takes the question back.
        """
        return maybeDeferred(self._decide, dispatch, offer, until_s)

    def _decide(self, dispatch: Dispatch, offer: Offer, until_s: float) -> Deferred[Answer]:
        about = offer.descriptor
        given = _NOTHING
        if self.policy.rules:
            given = exact_input(dispatch.input_json, about.name)
        decision = self.policy.decide(
            about.name, risk=about.risk, needs_mediation=about.needs_mediation, value=given.value
        )
        if decision.effect is Effect.ASK:
            return self._ask(dispatch, offer, until_s)
        if not decision.rule_id:
            return succeed(_UNASKED)
        by = f"rule {decision.rule_id}"
        if decision.effect is Effect.ALLOW:
            return succeed(Answer(BY_RULE, by))
        sentence = f"The owner of {self._name} does not allow this (rule: {decision.rule_id})."
        return succeed(Answer.no(RULE_DENIES, sentence, by))

    def _ask(self, dispatch: Dispatch, offer: Offer, until_s: float) -> Deferred[Answer]:
        given = exact_input(dispatch.input_json, offer.name)
        if offer.name != OPEN_PATH:
            opens = opened_by(offer.name, given.value)
            return self._put(dispatch, offer, until_s, given, opens)
        resolved = self._in_thread(opened_by, offer.name, given.value)  # a disk may be far away
        return resolved.addCallback(lambda text: self._put(dispatch, offer, until_s, given, text))

    def _put(
        self, dispatch: Dispatch, offer: Offer, until_s: float, given: ExactInput, opens: str
    ) -> Deferred[Answer]:
        """Say what was said before, or put the question to the person."""
        scope = scope_of(given, risk=offer.descriptor.risk, opens=opens)
        said = self._said_before(offer, scope)
        if said is not None:
            return succeed(said)
        question = Question(
            attempt_id=dispatch.attempt_id,
            job_id=dispatch.job_id,
            requested_by=dispatch.requested_by,
            capability=offer.name,
            risk=offer.descriptor.risk,
            argument=given.json.decode(),
            scope=scope.shown if self._consents is not None else "",
            until_s=until_s,
            opens=opens,
        )
        answer = self._mediator.ask(question)
        return answer.addCallback(self._answered, question, offer, scope)

    def _said_before(self, offer: Offer, scope: Scope) -> Answer | None:
        if self._consents is None:
            return None
        found = self._consents.find(offer.name, offer.digest, scope)
        return None if found is None else Answer(found.choice, found.decided_by)

    def _answered(self, answer: Answer, question: Question, offer: Offer, scope: Scope) -> Answer:
        if answer.choice in (FOR_SESSION, ALWAYS) and self._consents is not None:
            self._consents.remember(
                answer.choice,
                offer.name,
                offer.digest,
                scope,
                argument=question.opens or question.argument,
                decided_by=answer.decided_by,
            )
        return answer
