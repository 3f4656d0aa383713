"""The owner's word on a call: their rules, what they said before, else the person who is there."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import attrs
from twisted.internet.defer import Deferred, DeferredSemaphore, maybeDeferred, succeed
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

from palyra.capability.catalogue import Offer
from palyra.core.calldigest import ExactInput, exact_input
from palyra.core.consents import Scope, scope_of
from palyra.core.frames import Dispatch
from palyra.core.identifiers import new_ulid
from palyra.core.jobs import ALWAYS, BY_RULE, FOR_SESSION, ONCE
from palyra.core.nodepolicy import Decision, NodePolicy
from palyra.core.policy import Effect
from palyra.node.consents import Consents
from palyra.node.mediation import VOID, Answer, IMediator, Question
from palyra.node.opening import OPEN_PATH, leading_to, opened_by

MAX_LOOKS = 4
"""Paths that are looked at at once: a disk that hangs must not take every thread there is."""
RULE_DENIES = "device_policy_denied"
_UNASKED = Answer(ONCE)
_NOTHING = ExactInput(None, b"")


def _new_id() -> str:
    return new_ulid(int(time.time() * 1000), os.urandom)


@attrs.frozen
class _Case:
    """A call to be decided; ``opens`` is the URL or path it means, as it was found to be."""

    dispatch: Dispatch
    offer: Offer
    until_s: float
    asking: Callable[[], object]
    given: ExactInput
    opens: str = ""

    @property
    def opens_path(self) -> bool:
        """Whether the file system says what it means, which may be another thing later."""
        return self.offer.name == OPEN_PATH


class Owner:
    """Decides for this device.  ``policy`` may be replaced: what comes next is judged by it, and
    what it denies does not run, whatever a person says who was asked before."""

    def __init__(
        self,
        name: str,
        *,
        mediator: IMediator,
        consents: Consents | None = None,
        policy: NodePolicy = NodePolicy(),  # noqa: B008 - frozen
        in_thread: Callable[..., Deferred[str]] = deferToThread,
        new_id: Callable[[], str] = _new_id,
    ) -> None:
        """``name`` is the device's; ``new_id`` draws the id of a question, which nobody else can
        foresee.  Without ``consents`` nothing is remembered."""
        self._name = name
        self._mediator = mediator
        self._consents = consents
        self._in_thread = in_thread
        self._new_id = new_id
        self._looks = DeferredSemaphore(MAX_LOOKS)
        self.policy = policy

    def may_ask(self, capability: str, risk: str, needs_mediation: bool) -> bool:
        """Whether a person may be asked about calls of that capability."""
        return self.policy.may_ask(capability, risk=risk, needs_mediation=needs_mediation)

    def decide(
        self,
        dispatch: Dispatch,
        offer: Offer,
        until_s: float,
        asking: Callable[[], object] = lambda: None,
    ) -> Deferred[Answer]:
        """Whether it may run; fired already where nothing needs to be waited for.  ``until_s`` is
        how long a person may take, in the host's elapsed time; ``asking`` is called when one is
        asked, and has not answered at once.

        Fails with InputInvalid where the input is no JSON.  Cancelling it takes the question back.
        """
        return maybeDeferred(self._decide, dispatch, offer, until_s, asking)

    def _decide(
        self, dispatch: Dispatch, offer: Offer, until_s: float, asking: Callable[[], object]
    ) -> Deferred[Answer]:
        case = _Case(dispatch, offer, until_s, asking, _NOTHING)
        if not self.policy.rules and self._judge(case).effect is not Effect.ASK:
            return succeed(_UNASKED)  # nearly always: its input need not be looked at
        case = attrs.evolve(case, given=exact_input(dispatch.input_json, offer.name))
        if not case.opens_path:
            opens = opened_by(offer.name, case.given.value)
            return self._judged(attrs.evolve(case, opens=opens))
        if self._judge(case).effect is Effect.DENY:
            return self._judged(case)  # the disk need not be looked at
        return self._led(case).addCallback(
            lambda opens: self._judged(attrs.evolve(case, opens=opens))
        )

    def _led(self, case: _Case) -> Deferred[str]:
        """Where its path leads now; in a thread, for a disk may be far away."""
        told: Deferred[str] = Deferred()
        self._looks.acquire().addCallback(lambda _: self._look(case, told))
        return told

    def _look(self, case: _Case, told: Deferred[str]) -> None:
        """Its turn ends with the thread, which nobody can call off."""

        def ended(result: str | Failure) -> None:
            self._looks.release()
            if not told.called:
                told.callback(result)

        if told.called:  # taken back while it waited for its turn
            self._looks.release()
        else:
            self._in_thread(opened_by, case.offer.name, case.given.value).addBoth(ended)

    def _judged(self, case: _Case) -> Deferred[Answer]:
        decision = self._judge(case)
        if decision.effect is Effect.ASK:
            return self._ask(case)
        if decision.effect is Effect.DENY:
            return succeed(self._denied(decision))
        if not decision.rule_id:
            return succeed(_UNASKED)
        return succeed(Answer(BY_RULE, f"rule {decision.rule_id}"))

    def _judge(self, case: _Case) -> Decision:
        """What the rules say now.  Of a path they see where it leads, and deny what they deny as it
        is written too: a link is no way around them."""
        decision = self._ruled(case, case.given.value)
        if not case.opens_path or decision.effect is Effect.DENY:
            return decision
        return self._ruled(case, leading_to(case.given.value, case.opens))

    def _ruled(self, case: _Case, value: object) -> Decision:
        about = case.offer.descriptor
        return self.policy.decide(
            about.name, risk=about.risk, needs_mediation=about.needs_mediation, value=value
        )

    def _denied(self, decision: Decision) -> Answer:
        sentence = f"The owner of {self._name} does not allow this (rule: {decision.rule_id})."
        return Answer.no(RULE_DENIES, sentence, f"rule {decision.rule_id}")

    # -- the person ---------------------------------------------------------------------------

    def _ask(self, case: _Case) -> Deferred[Answer]:
        """Say what was said before, or put the question to the person."""
        offer, dispatch = case.offer, case.dispatch
        scope = scope_of(case.given, risk=offer.descriptor.risk, opens=case.opens)
        said = self._said_before(offer, scope)
        if said is not None:
            return succeed(said)
        question = Question(
            question_id=self._new_id(),
            requested_by=dispatch.requested_by,
            capability=offer.name,
            risk=offer.descriptor.risk,
            argument=case.given.json.decode(),
            scope=scope.shown if self._consents is not None else "",
            until_s=case.until_s,
            opens=case.opens,
            job_id=dispatch.job_id,
        )
        answer = self._mediator.ask(question)
        if not answer.called:
            case.asking()
        # Decoded it may be far larger than it was sent, and a person takes their time.
        return answer.addCallback(self._answered, attrs.evolve(case, given=_NOTHING), scope)

    def _said_before(self, offer: Offer, scope: Scope) -> Answer | None:
        if self._consents is None:
            return None
        found = self._consents.find(offer.name, offer.digest, scope)
        return None if found is None else Answer(found.choice, found.decided_by)

    def _answered(self, answer: Answer, case: _Case, scope: Scope) -> Answer | Deferred[Answer]:
        if not answer.allowed:
            return answer
        case = attrs.evolve(case, given=exact_input(case.dispatch.input_json, case.offer.name))
        if not case.opens_path:
            return self._allowed(answer, case, scope)
        return self._led(case).addCallback(self._still_there, answer, case, scope)

    def _still_there(self, opens: str, answer: Answer, case: _Case, scope: Scope) -> Answer:
        """The answer, where its path still leads to what the person saw."""
        if opens == case.opens:
            return self._allowed(answer, case, scope)
        sentence = f"The path leads elsewhere since {self._name} was asked about it."
        return Answer.no(VOID, sentence)

    def _allowed(self, answer: Answer, case: _Case, scope: Scope) -> Answer:
        """The yes, unless the owner's rules have become others meanwhile; it is remembered where it
        is for longer."""
        decision = self._judge(case)
        if decision.effect is Effect.DENY:
            return self._denied(decision)
        if answer.choice in (FOR_SESSION, ALWAYS) and self._consents is not None:
            self._consents.remember(
                answer.choice,
                case.offer.name,
                case.offer.digest,
                scope,
                argument=case.opens or case.given.json.decode(),
                decided_by=answer.decided_by,
            )
        return answer
