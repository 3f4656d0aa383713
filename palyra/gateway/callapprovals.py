"""Approvals of calls: what a rule holds until an operator has decided, and what the yes is for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, cast

import attrs
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from palyra.core.approval import Approval, ApprovalState, approval_machine
from palyra.core.approvallog import ICallApprovalLog
from palyra.core.callapprovals import (
    ONCE,
    TIMEBOXED,
    CallApproval,
    CallTarget,
    may_stand,
)
from palyra.core.calldigest import ExactCall, call_digest, repeat_digest
from palyra.core.devices import Device, Risk, clean_text
from palyra.core.frames import JobUpdate
from palyra.core.identifiers import Entropy, JobId, new_ulid, short_id
from palyra.core.jobs import Job, JobState
from palyra.core.operators import Right
from palyra.core.policy import EXPIRES_S, Decision, Effect
from palyra.errors import (
    ApprovalExpired,
    ApprovalRejected,
    ApprovalVoid,
    CallDecided,
    LimitReached,
    NotFound,
    PalyraError,
)
from palyra.gateway.callanswers import (
    Answer,
    check_answer,
    ending,
    expired,
    hold,
    is_enough,
    scopes_of,
)
from palyra.gateway.inventory import Inventory
from palyra.gateway.orders import Ask, permitted
from palyra.gateway.policing import FILE, Policing
from palyra.gateway.requesters import Requesters
from palyra.gateway.waits import deferred
from palyra.gateway.wheel import TimerWheel

MAX_PENDING_EACH = 100
"""Calls of one operator or client that may wait at a time: who decides must still see them."""
RETRY_MS = 5_000
FORGET_AT_ONCE = 250


@attrs.define(eq=False)
class _Open:
    """An approval that is pending, or approved and not used up."""

    approval: CallApproval
    left: set[JobId]
    """Its jobs that were not sent and have not ended."""
    used: bool = False
    targets: dict[JobId, CallTarget] = attrs.field(init=False)

    @targets.default
    def _by_job(self) -> dict[JobId, CallTarget]:
        return {target.job_id: target for target in self.approval.targets}

    @property
    def pending(self) -> bool:
        return not self.approval.decided


class CallApprovals:
    """Every call that waits for an operator, and every yes that still stands.

    A :class:`palyra.gateway.settlement.Watcher` of the dispatcher, which sets ``let_go(job_id)``
    and ``refuse(job_id, error)``: what becomes of a job that is decided.  ``watchers`` are called
    with the id of each approval that changed.
    """

    _log = Logger()
    let_go: Callable[[JobId], object]
    refuse: Callable[[JobId, PalyraError], object]

    def __init__(
        self,
        *,
        clock: IReactorTime,
        entropy: Entropy,
        store: ICallApprovalLog,
        inventory: Inventory,
        policing: Policing,
        trust_domain: str,
        changed: Callable[[], object] = lambda: None,
    ) -> None:
        self._clock = clock
        self._entropy = entropy
        self._store = store
        self._inventory = inventory
        self._policing = policing
        self._requesters = Requesters(inventory, policing)
        self._trust_domain = trust_domain
        self._changed = changed
        self._open: dict[str, _Open] = {}
        self._asking: dict[str, str] = {}
        """Whose the approvals are that nobody has decided, those being committed among them."""
        self._asked_by: Counter[str] = Counter()
        self._standing: dict[str, list[CallApproval]] = {}
        self._deciding = DeferredLock()
        self._wheel = TimerWheel(clock, self._now_ms, self._due, tick_ms=500)
        self.watchers: list[Callable[[str], object]] = []
        self.asked: Callable[[CallApproval], object] = lambda _: None
        """Hears of each call that waits for a yes, when that is on record."""

    # -- life -------------------------------------------------------------------------------

    async def start(self, unfinished: Iterable[Job]) -> None:
        """Take over what an earlier life of this gateway left."""
        asked: dict[str, list[Job]] = {}
        for job in unfinished:
            unsent = job.state is JobState.QUEUED and not job.attempts
            if job.call.approval_id is not None and unsent:
                asked.setdefault(job.call.approval_id, []).append(job)
        for approval in await self._store.open_calls(self._now_ms()):
            jobs = asked.pop(approval.approval_id, [])
            self._take_over(approval, jobs)
        for approval_id, jobs in asked.items():
            error = ending(await self._store.call_approval(approval_id))
            for job in jobs:
                self.refuse(job.call.job_id, error)
        self._wheel.start()

    def _take_over(self, approval: CallApproval, jobs: Sequence[Job]) -> None:
        if approval.scope == TIMEBOXED:
            self._stands(approval)
        if approval.state not in (ApprovalState.PENDING, ApprovalState.APPROVED):
            return
        used = any(target.consumed_at_ms is not None for target in approval.targets)
        self._keep(_Open(approval, {job.call.job_id for job in jobs}, used))

    def stop(self) -> None:
        """Watch no more."""
        self._wheel.stop()

    # -- asking -----------------------------------------------------------------------------

    def ask(
        self, ask: Ask, rows: Sequence[tuple[Job, Decision]], idempotency_key: str
    ) -> CallApproval:
        """The approval that these jobs of one call need, which are told so; nothing is kept yet.

        It is approved already where a yes to the same call still stands.  Whoever asks commits it,
        and says :meth:`opened` when it is on record, or :meth:`dropped` when it is not.

        :raises LimitReached: too many of this caller's wait already.
        """
        jobs = [job for job, _ in rows]
        rules = [decision.rule for _, decision in rows if decision.rule is not None]
        call, now_ms = jobs[0].call, self._now_ms()
        owner = call.operator_id or call.requested_by
        self._check_room(owner)
        exact = self._exact(ask, jobs, owner, idempotency_key)
        approval = CallApproval(
            approval_id=new_ulid(now_ms, self._entropy),
            digest=call_digest(exact),
            repeat_digest=repeat_digest(exact),
            operator_id=owner,
            requested_by=call.requested_by,
            person=ask.caller.person if ask.caller is not None else owner,
            session=ask.caller.session if ask.caller is not None else "",
            capability=call.capability,
            risk=self._risk(jobs).value,
            input_json=call.input_json,
            max_payload_bytes=exact.max_payload_bytes,
            run_timeout_ms=exact.run_timeout_ms,
            queue_ttl_ms=exact.queue_ttl_ms,
            idempotency_key=idempotency_key,
            targets=exact.targets,
            rule_id=",".join(dict.fromkeys(rule.rule_id for rule in rules)),
            rule_names=", ".join(dict.fromkeys(str(rule) for rule in rules)),
            approvers=rules[0].approvers if rules else (),
            four_eyes=any(rule.four_eyes for rule in rules),
            scopes=scopes_of(rules),
            created_at_ms=now_ms,
            expires_at_ms=now_ms
            + 1000 * min((each.expires_s for each in rules), default=EXPIRES_S),
        )
        self._repeat(approval)
        self._count(approval)
        for job in jobs:
            job.call = attrs.evolve(job.call, approval_id=approval.approval_id)
        return approval

    def opened(self, approval: CallApproval) -> None:
        """The approval is on record, with its jobs."""
        self._keep(_Open(approval, {target.job_id for target in approval.targets}))
        self._tell(approval.approval_id)
        if approval.state is ApprovalState.PENDING:
            self.asked(approval)

    def dropped(self, approval: CallApproval) -> None:
        """The approval could not be kept: nobody is asked."""
        self._asked_no_more(approval.approval_id)

    def _keep(self, entry: _Open) -> None:
        approval = entry.approval
        self._open[approval.approval_id] = entry
        self._count(approval)
        if not entry.left:
            self._over(entry)
            return
        self._wheel.set(approval.approval_id, approval.expires_at_ms)
        if not entry.pending and self._now_ms() < approval.expires_at_ms:
            for job_id in list(entry.left):
                self.let_go(job_id)

    def _check_room(self, owner: str) -> None:
        mine = self._asked_by[owner]
        if mine >= MAX_PENDING_EACH:
            raise LimitReached("calls of one caller that wait for approval", mine, 60.0)

    def _count(self, approval: CallApproval) -> None:
        approval_id, owner = approval.approval_id, approval.operator_id
        if approval.state is ApprovalState.PENDING and approval_id not in self._asking:
            self._asking[approval_id] = owner
            self._asked_by[owner] += 1

    def _asked_no_more(self, approval_id: str) -> None:
        owner = self._asking.pop(approval_id, None)
        if owner is None:
            return
        self._asked_by[owner] -= 1
        if not self._asked_by[owner]:
            del self._asked_by[owner]

    def _exact(self, ask: Ask, jobs: Sequence[Job], owner: str, key: str) -> ExactCall:
        call = jobs[0].call
        return ExactCall(
            trust_domain=self._trust_domain,
            operator_id=owner,
            capability=call.capability,
            input_json=call.input_json,
            max_payload_bytes=call.max_payload_bytes,
            run_timeout_ms=max(job.call.run_timeout_ms for job in jobs),
            queue_ttl_ms=ask.ttl_ms,
            idempotency_key=key,
            targets=tuple(self._target(job) for job in jobs),
        )

    def _target(self, job: Job) -> CallTarget:
        device = self._inventory.paired(job.call.device_id)
        capability = permitted(device, job.call.capability)
        return CallTarget(
            device_id=device.device_id,
            device_name=device.name,
            job_id=job.call.job_id,
            identity_fingerprint=device.identity_fingerprint,
            descriptor_digest=capability.digest,
        )

    def _risk(self, jobs: Sequence[Job]) -> Risk:
        found = Risk.NONE
        for job in jobs:
            device = self._inventory.paired(job.call.device_id)
            risk = self._policing.risk_of(permitted(device, job.call.capability))
            found = found if found.covers(risk) else risk
        return found

    # -- a yes that stands ------------------------------------------------------------------

    def _stands(self, approval: CallApproval) -> None:
        self._forget_standing()
        self._standing.setdefault(approval.repeat_digest, []).append(approval)

    def _forget_standing(self) -> None:
        """What stands no more and was never repeated would stay for ever."""
        now_ms = self._now_ms()
        for key, kept in list(self._standing.items()):
            kept[:] = [each for each in kept if self._still_stands(each, now_ms)]
            if not kept:
                del self._standing[key]

    def _still_stands(self, approval: CallApproval, now_ms: int) -> bool:
        """Whether a yes has not run out, and whoever gave it might still give it."""
        role = self._policing.role_of(approval.decided_by_id)
        in_time = (approval.standing_until_ms or 0) > now_ms
        return in_time and role is not None and role.may(Right.DECIDE)

    def _repeat(self, approval: CallApproval) -> None:
        """Say yes at once where one still stands for the same call of the same operator."""
        now_ms = self._now_ms()
        kept = self._standing.get(approval.repeat_digest, [])
        kept[:] = [each for each in kept if self._still_stands(each, now_ms)]
        if not kept:
            self._standing.pop(approval.repeat_digest, None)
        for each in kept:
            here = each.scope == TIMEBOXED or (each.session and each.session == approval.session)
            same_rule = each.rule_id == approval.rule_id and may_stand(approval, each.scope)
            same_rule &= is_enough(each, approval.approvers, approval.four_eyes)
            if here and same_rule and each.operator_id == approval.operator_id:
                approval.state = ApprovalState.APPROVED
                approval.decided_by, approval.decided_at_ms = each.decided_by, now_ms
                approval.decided_by_id = each.decided_by_id
                approval.reason = f"repeats approval {short_id(each.approval_id)}"
                return

    # -- deciding ---------------------------------------------------------------------------

    @property
    def pending(self) -> int:
        """How many wait for a decision."""
        return sum(entry.pending for entry in self._open.values())

    async def decide(self, approval_id: str, answer: Answer) -> CallApproval:
        """An operator says yes or no.

        :raises NotFound, CallDecided: there is nothing to decide.
        :raises NotAnApprover, FourEyes: it is not theirs to decide.
        :raises ApprovalChanged: they saw another call.
        :raises Malformed: a yes may not hold for that long.
        """
        async with self._deciding:
            entry = await self._pending(approval_id)
            approval = entry.approval
            check_answer(approval, answer)
            decided = attrs.evolve(approval)
            # The machine knows an approval by what a decision changes of it.
            machine = approval_machine(cast("Approval", decided))
            reason, now_ms = clean_text(answer.reason, 240), self._now_ms()
            by, decided.decided_by_id = clean_text(answer.by.name, 64), answer.by.operator_id
            if answer.approved:
                hold(decided, answer, now_ms)
                machine.approved(by, reason, now_ms)
            else:
                machine.rejected(by, reason, now_ms)
            await self._store.decide_call(decided)
            entry.approval = decided
            answered = attrs.evolve(decided)  # what follows may use it up at once
            self._decided(entry)
            return answered

    def _decided(self, entry: _Open) -> None:
        approval = entry.approval
        self._asked_no_more(approval.approval_id)
        self._log.info(
            "call {approval} ({capability}): {state} by {by}",
            approval=short_id(approval.approval_id),
            capability=approval.capability,
            state=approval.state.value,
            by=approval.decided_by,
        )
        if approval.state is ApprovalState.APPROVED:
            if approval.scope != ONCE:
                self._stands(approval)
            for job_id in list(entry.left):
                self.let_go(job_id)
        else:
            self._end(entry, ApprovalRejected(approval.decided_by, approval.reason))
        self._tell(approval.approval_id)

    async def _pending(self, approval_id: str) -> _Open:
        entry = self._open.get(approval_id)
        if entry is not None and entry.pending and self._is_late(entry.approval):
            await self._expire(entry)
        if entry is not None and entry.pending:
            return entry
        kept = entry.approval if entry is not None else await self._store.call_approval(approval_id)
        if kept is None:
            raise NotFound("approval", approval_id)
        raise CallDecided(short_id(approval_id), kept.state.value)

    # -- ends -------------------------------------------------------------------------------

    def changed(self, update: JobUpdate) -> None:
        """What became of a job is on record (Watcher): sent, or ended without."""
        job = update.job
        if job.call.approval_id is None:
            return
        entry = self._open.get(job.call.approval_id)
        if entry is None or job.call.job_id not in entry.left:
            return
        if job.attempts:
            entry.used = True
        elif not job.final:
            return
        entry.left.discard(job.call.job_id)
        if not entry.left:
            self._over(entry)

    def _over(self, entry: _Open) -> None:
        """None of its jobs waits for it any more."""
        approval = entry.approval
        state = ApprovalState.CONSUMED if entry.used else ApprovalState.EXPIRED
        reason = "" if entry.used else "none of its jobs is left"
        self._forget(approval.approval_id)
        approval.state = state
        closed = deferred(
            self._store.close_call(approval.approval_id, state, reason, self._now_ms())
        )
        closed.addErrback(lambda failure: self._log.failure("an approval stays open", failure))
        self._tell(approval.approval_id)

    def _due(self, key: Hashable, now_ms: int) -> None:
        expired = Deferred.fromCoroutine(self._expire_by_id(str(key)))
        expired.addErrback(self._not_expired, key)

    def _not_expired(self, failure: Any, key: Hashable) -> None:
        self._log.failure("an approval did not expire", failure)
        self._wheel.set(key, self._now_ms() + RETRY_MS)

    async def _expire_by_id(self, approval_id: str) -> None:
        async with self._deciding:
            entry = self._open.get(approval_id)
            if entry is not None and self._is_late(entry.approval):
                await self._expire(entry)

    async def _expire(self, entry: _Open) -> None:
        approval, over = entry.approval, ApprovalState.EXPIRED
        await self._store.close_call(approval.approval_id, over, "", self._now_ms())
        error = expired(approval)
        approval.state = over
        self._end(entry, error)
        self._tell(approval.approval_id)

    def operator_left(self, operator_id: str) -> None:
        """Begin :meth:`operator_gone`."""
        gone = Deferred.fromCoroutine(self.operator_gone(operator_id))
        gone.addErrback(lambda failure: self._log.failure("an approval stays open", failure))

    async def operator_gone(self, operator_id: str) -> None:
        """An operator was revoked: what waits in their name is over, and no yes stands that was
        given to them, or by them."""
        for key, kept in list(self._standing.items()):
            kept[:] = [e for e in kept if operator_id not in (e.operator_id, e.decided_by_id)]
            if not kept:
                del self._standing[key]
        async with self._deciding:
            mine = [e for e in self._open.values() if e.approval.operator_id == operator_id]
            for entry in mine:
                approval, over = entry.approval, ApprovalState.EXPIRED
                why = f"{approval.requested_by} was revoked"
                await self._store.close_call(approval.approval_id, over, why, self._now_ms())
                approval.state, approval.reason = over, why
                self._end(entry, ApprovalVoid(why))
                self._tell(approval.approval_id)

    def _end(self, entry: _Open, error: PalyraError) -> None:
        self._forget(entry.approval.approval_id)
        for job_id in list(entry.left):
            self.refuse(job_id, error)

    def _forget(self, approval_id: str) -> None:
        self._open.pop(approval_id, None)
        self._asked_no_more(approval_id)
        self._wheel.discard(approval_id)

    async def sweep(self, before_ms: int) -> None:
        """Delete what ended long ago and has no job left."""
        while await self._store.forget_calls(before_ms, FORGET_AT_ONCE) >= FORGET_AT_ONCE:
            pass

    # -- before it is sent ------------------------------------------------------------------

    def recheck(self, job: Job, *, sending: bool = True) -> None:
        """Refuse a queued job that may not be sent any more; while not ``sending``, one that waits
        for approval may go on waiting.

        :raises PalyraError: rules, role, grant, key, descriptor or approval are not what they were.
        """
        call = job.call
        if call.approval_id is None or job.attempts:  # a new attempt needs no new yes
            self._requesters.check(call)
            device = self._inventory.paired(call.device_id)
            self._policing.require(job, device, permitted(device, call.capability))
            return
        try:
            device = self._inventory.paired(call.device_id)
            self._check_yes(job, device, sending)
        except (ApprovalVoid, ApprovalExpired):
            raise
        except PalyraError as error:
            raise ApprovalVoid(error.sentence.rstrip(".")) from error

    def _check_yes(self, job: Job, device: Device, sending: bool) -> None:
        call = job.call
        entry = self._open.get(call.approval_id or "")
        if entry is None and not sending:
            return  # both are being committed
        if entry is None or (sending and entry.pending):
            raise ApprovalVoid("nobody has given it")
        if self._is_late(entry.approval):
            raise expired(entry.approval)
        capability = permitted(device, call.capability)
        target = entry.targets[call.job_id]
        if device.identity_fingerprint != target.identity_fingerprint:
            raise ApprovalVoid(f"{device.name} has another key")
        if capability.digest != target.descriptor_digest:
            raise ApprovalVoid(f"{call.capability} on {device.name} is not the same any more")
        self._requesters.check(call)
        decision = self._policing.judge_again(call, device, capability)
        if decision.effect is Effect.DENY:
            raise ApprovalVoid(f"a rule denies it by now ({FILE}, {decision.rule})")
        rule = decision.rule
        if rule is not None and not is_enough(entry.approval, rule.approvers, rule.four_eyes):
            raise ApprovalVoid(f"others decide it by now ({FILE}, {rule})")

    def _is_late(self, approval: CallApproval) -> bool:
        return self._now_ms() >= approval.expires_at_ms

    def _tell(self, approval_id: str) -> None:
        self._changed()
        for watcher in self.watchers:
            watcher(approval_id)

    def _now_ms(self) -> int:
        return int(self._clock.seconds() * 1000)
