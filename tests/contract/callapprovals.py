"""What every store keeps of approvals of calls."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from palyra.core.approval import ApprovalState
from palyra.core.approvallog import CallQuery
from palyra.core.auditlog import AuditQuery
from palyra.core.callapprovals import APPROVAL, ONCE, TIMEBOXED, CallApproval, CallTarget
from palyra.core.identifiers import DeviceId, Fingerprint, sha256_hex
from palyra.core.interfaces import IdempotencyKey
from palyra.core.jobmachine import job_machine
from palyra.core.jobs import Job
from palyra.errors import AlreadyKept, ApprovalVoid, CallDecided, NotFound
from tests.contract.ways import Ways
from tests.store.samples import DAY_MS, NOW_MS, a_fanout, a_job, dispatch, succeed, ulid

P, A = ApprovalState.PENDING, ApprovalState.APPROVED


def a_call(*jobs: Job, name: str = "call", **changes: Any) -> CallApproval:
    """An approval that is pending, of jobs that wait for it from now on."""
    first = jobs[0].call
    made = CallApproval(
        approval_id=ulid(name, first.submitted_at_ms),
        digest=sha256_hex(name.encode()),
        repeat_digest=sha256_hex(b"repeat"),
        operator_id="local:1000",
        requested_by=first.requested_by,
        person="local:1000",
        session="",
        capability=first.capability,
        risk="medium",
        input_json=first.input_json,
        max_payload_bytes=first.max_payload_bytes,
        run_timeout_ms=first.run_timeout_ms,
        queue_ttl_ms=None,
        idempotency_key="",
        targets=tuple(
            CallTarget(
                device_id=job.call.device_id,
                device_name=job.call.device_name,
                job_id=job.call.job_id,
                identity_fingerprint=Fingerprint(sha256_hex(job.call.device_id.encode())),
                descriptor_digest="d",
            )
            for job in jobs
        ),
        rule_id="docs",
        rule_names="rule 2: docs",
        approvers=("role:approver", "operator:X"),
        four_eyes=True,
        scopes=(ONCE, TIMEBOXED),
        created_at_ms=first.submitted_at_ms,
        expires_at_ms=first.submitted_at_ms + 600_000,
    )
    for job in jobs:
        job.call = attrs.evolve(job.call, approval_id=made.approval_id)
        job.waiting_for = APPROVAL
    return attrs.evolve(made, **changes)


def yes(approval: CallApproval, **changes: Any) -> CallApproval:
    """The approval after an operator said yes."""
    decided = {"state": A, "decided_by": "bo", "decided_at_ms": NOW_MS + 10, "reason": "fine"}
    decided["decided_by_id"] = "local:1001"
    return attrs.evolve(approval, **{**decided, **changes})


class CallApprovalsContract(Ways):
    """Part of :class:`tests.contract.store.StoreContract`."""

    def asked_call(self, name: str = "j", **changes: Any) -> tuple[Job, CallApproval]:
        """A call that a rule holds."""
        job = a_job(name, self.registered(name, f"code {name}").device_id)
        approval = a_call(job, name=f"call {name}", **changes)
        self.wait(self.store.accept(job, approval=approval))
        return job, approval

    def kept_call(self, approval: CallApproval) -> CallApproval:
        found: CallApproval | None = self.wait(self.store.call_approval(approval.approval_id))
        assert found is not None
        return found

    def audited_calls(self) -> list[str]:
        page = self.wait(self.store.audit_rows(AuditQuery(limit=100, action="approval.")))
        return [row.line.action for row in reversed(page.rows)]

    def test_a_call_is_kept_with_its_approval(self) -> None:
        """Job and approval are there together, all that was asked included, and on the chain."""
        job, approval = self.asked_call()
        assert self.kept_call(approval) == approval
        assert self.wait(self.store.job(job.call.job_id)) == job
        assert self.wait(self.store.call_approval(ulid("other"))) is None
        assert self.audited_calls() == ["approval.asked"]

    def test_both_or_none(self) -> None:
        """A key that is in use keeps the approval out as well."""
        key = IdempotencyKey("local:1000 invoke", "k", sha256_hex(b"asked"))
        device_id = self.registered().device_id
        self.wait(self.store.accept(a_job("first", device_id), key))
        job = a_job("second", device_id)
        approval = a_call(job)
        with pytest.raises(AlreadyKept):
            self.wait(self.store.accept(job, key, approval))
        assert self.wait(self.store.call_approval(approval.approval_id)) is None
        assert self.wait(self.store.job(job.call.job_id)) is None
        assert self.audited_calls() == []

    def test_what_was_handed_in_is_a_copy(self) -> None:
        """Changing an approval afterwards changes nothing that is kept."""
        _, approval = self.asked_call()
        before = self.kept_call(approval)
        approval.state = ApprovalState.REJECTED
        self.kept_call(approval).state = ApprovalState.EXPIRED
        assert self.kept_call(approval) == before

    def test_a_fanout_has_one_approval(self) -> None:
        """A fan-out is kept with the approval of the rows that are asked, in their order."""
        fanout, rows = a_fanout(
            *(self.registered(each, f"code {each}").device_id for each in ("a", "b", "c"))
        )
        approval = a_call(rows[2], rows[0])
        fanout = attrs.evolve(fanout, approval_id=approval.approval_id)
        self.wait(self.store.accept_fanout(fanout, rows, None, approval))
        assert self.kept_call(approval).targets == approval.targets
        assert self.wait(self.store.fanout(fanout.fanout_id)) == fanout

    def test_a_decision_is_kept_once(self) -> None:
        """The first decision stands; the second is refused and changes nothing."""
        _, approval = self.asked_call()
        decided = yes(approval, scope=TIMEBOXED, standing_until_ms=NOW_MS + DAY_MS)
        self.wait(self.store.decide_call(decided))
        assert self.kept_call(approval) == decided
        with pytest.raises(CallDecided):
            self.wait(self.store.decide_call(yes(approval, state=ApprovalState.REJECTED)))
        assert self.kept_call(approval) == decided
        with pytest.raises(NotFound):
            self.wait(self.store.decide_call(attrs.evolve(decided, approval_id=ulid("other"))))
        assert self.audited_calls() == ["approval.asked", "approval.approved"]

    def test_the_first_attempt_uses_it_up(self) -> None:
        """The commit of the first attempt consumes the target's share; later ones need nothing."""
        job, approval = self.asked_call()
        self.wait(self.store.decide_call(yes(approval)))
        sent = dispatch(job)
        self.wait(self.store.update(sent))
        (target,) = self.kept_call(approval).targets
        assert target.consumed_at_ms == NOW_MS + 20
        self.wait(self.store.update(succeed(sent)))
        assert self.wait(self.store.job(job.call.job_id)).final

    def test_without_a_yes_nothing_is_sent(self) -> None:
        """An attempt before the decision, after a no or after the end is not recorded."""
        for number, state in enumerate((P, ApprovalState.REJECTED, ApprovalState.EXPIRED)):
            job, approval = self.asked_call(f"job {number}")
            if state is ApprovalState.REJECTED:
                self.wait(self.store.decide_call(yes(approval, state=state)))
            elif state is ApprovalState.EXPIRED:
                self.wait(self.store.close_call(approval.approval_id, state, "", NOW_MS))
            with pytest.raises(ApprovalVoid):
                self.wait(self.store.update(dispatch(job)))
            kept = self.wait(self.store.job(job.call.job_id))
            assert (kept.attempts, kept.waiting_for) == (0, APPROVAL)

    def test_nor_after_its_time(self) -> None:
        """A yes is of no more use once its time is over, also where nobody has noted that."""
        job, approval = self.asked_call(expires_at_ms=NOW_MS + 15)
        self.wait(self.store.decide_call(yes(approval)))
        with pytest.raises(ApprovalVoid):
            self.wait(self.store.update(dispatch(job)))

    def test_nor_twice(self) -> None:
        """A second first attempt of the same job finds the yes used."""
        job, approval = self.asked_call()
        self.wait(self.store.decide_call(yes(approval)))
        sent = dispatch(attrs.evolve(job))
        self.wait(self.store.update(sent))
        attempt = attrs.evolve(sent.attempt, attempt_id=ulid("another"))
        with pytest.raises(ApprovalVoid):
            self.wait(self.store.update(attrs.evolve(sent, attempt=attempt)))

    def test_one_that_is_refused_leaves_its_neighbours(self) -> None:
        """In a group, the attempt without a yes is kept out and the others are kept."""
        good, given = self.asked_call("good")
        bad, _ = self.asked_call("bad")
        plain = a_job("plain", self.registered("plain", "code plain").device_id)
        self.wait(self.store.accept(plain))
        self.wait(self.store.decide_call(yes(given)))
        results = [self.store.update(dispatch(each)) for each in (plain, bad, good)]
        self.wait(results[0])
        self.wait(results[2])
        with pytest.raises(ApprovalVoid):
            self.wait(results[1])
        (target,) = self.kept_call(given).targets
        assert target.consumed_at_ms is not None
        assert self.wait(self.store.job(bad.call.job_id)).attempts == 0

    def test_a_new_attempt_needs_no_new_yes(self) -> None:
        """The second attempt of a job is recorded though its yes is used."""
        job, approval = self.asked_call()
        self.wait(self.store.decide_call(yes(approval)))
        sent = dispatch(job)
        self.wait(self.store.update(sent))
        again = attrs.evolve(
            sent, attempt=attrs.evolve(sent.attempt, attempt_id=ulid("two"), number=2), attempts=2
        )
        self.wait(self.store.update(again))
        assert self.wait(self.store.job(job.call.job_id)).attempts == 2

    def test_it_is_over_once(self) -> None:
        """Closing one that is open is kept and audited; of any other it changes nothing."""
        _, approval = self.asked_call()
        close = self.store.close_call
        self.wait(close(approval.approval_id, ApprovalState.EXPIRED, "why", NOW_MS))
        self.wait(close(approval.approval_id, ApprovalState.CONSUMED, "no", NOW_MS))
        self.wait(close(ulid("other"), ApprovalState.EXPIRED, "", NOW_MS))
        kept = self.kept_call(approval)
        assert (kept.state, kept.reason) == (ApprovalState.EXPIRED, "why")
        assert self.audited_calls() == ["approval.asked", "approval.expired"]

    def test_lists(self) -> None:
        """Newest first, by state and by page; a beginning of an id finds them."""
        made = [
            self.asked_call(f"n{number}", approval_id=ulid(f"c{number}", NOW_MS + number))[1]
            for number in range(3)
        ]
        self.wait(self.store.decide_call(yes(made[1])))
        ids = [each.approval_id for each in made]

        def listed(query: CallQuery) -> list[str]:
            return [each.approval_id for each in self.wait(self.store.call_approvals(query))]

        assert listed(CallQuery()) == ids[::-1]
        assert listed(CallQuery(frozenset({P}))) == [ids[2], ids[0]]
        assert listed(CallQuery(limit=1, before=ids[2])) == [ids[1]]
        assert self.wait(self.store.find_calls(ids[0][10:18])) == [ids[0]]
        assert self.wait(self.store.find_calls("ZZZZZZZZ")) == []

    def test_what_a_start_takes_over(self) -> None:
        """What is pending, approved and not used up, or stands for repeats; nothing else."""
        _, pending = self.asked_call("pending")
        _, approved = self.asked_call("approved")
        _, gone = self.asked_call("gone")
        _, stands = self.asked_call("stands")
        until = {"scope": TIMEBOXED, "standing_until_ms": NOW_MS + 1_000}
        self.wait(self.store.decide_call(yes(approved)))
        self.wait(self.store.decide_call(yes(gone, **until)))
        self.wait(self.store.decide_call(yes(stands, **{**until, "standing_until_ms": NOW_MS + 2})))
        for each in (gone, stands):
            close = self.store.close_call(each.approval_id, ApprovalState.CONSUMED, "", NOW_MS)
            self.wait(close)
        found = self.wait(self.store.open_calls(NOW_MS + 5))
        wanted = sorted(each.approval_id for each in (pending, approved, gone))
        assert [each.approval_id for each in found] == wanted

    def test_forgetting(self) -> None:
        """Those that ended long ago go once no job refers to them; the others stay."""
        old = NOW_MS - 40 * DAY_MS
        device_id: DeviceId = self.registered().device_id
        made: list[CallApproval] = []
        for name in ("gone", "job", "open"):
            job = a_job(name, device_id, old)
            made.append(a_call(job, name=f"call {name}"))
            self.wait(self.store.accept(job, approval=made[-1]))
        for each in made[:2]:
            close = self.store.close_call(each.approval_id, ApprovalState.EXPIRED, "", NOW_MS)
            self.wait(close)
        first = self.wait(self.store.job(made[0].targets[0].job_id))
        self.wait(self.store.update(_refused(first)))
        assert self.wait(self.store.forget_calls(NOW_MS, 10)) == 0
        assert self.wait(self.store.forget_jobs(NOW_MS, 100, 10)) == 1
        assert self.wait(self.store.forget_calls(old - 1, 10)) == 0
        assert self.wait(self.store.forget_calls(NOW_MS, 10)) == 1
        assert self.wait(self.store.call_approval(made[0].approval_id)) is None
        assert self.wait(self.store.forget_calls(NOW_MS, 10)) == 0


def _refused(job: Job) -> Job:
    job_machine(job).refused("approval_expired", "over", NOW_MS)
    return job
