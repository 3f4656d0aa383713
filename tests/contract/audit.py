"""What every store keeps of what was done (:class:`palyra.core.auditlog.IAuditLog`)."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from palyra.core.audit import (
    GATEWAY,
    NO_DETAILS,
    Acting,
    AuditEntry,
    AuditPage,
    acts_for,
    details_of,
)
from palyra.core.audithead import Head, HeadKind
from palyra.core.auditlog import LOOKED_THROUGH, AuditQuery
from palyra.core.auditverify import Examination, Verdict
from palyra.core.devices import DeviceChange, Risk, RotationOrder
from palyra.core.pairing import RequestState
from palyra.errors import AlreadyKept
from tests.contract.ways import Ways
from tests.store.samples import (
    DAY_MS,
    NOW_MS,
    a_code,
    a_fanout,
    a_job,
    a_request,
    an_approval,
    dispatch,
    succeed,
    ulid,
)

ANA = Acting("01JZ0000000000000000000ANA", "ana", "console.sock")
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))


def entry(action: str = "test.done", **changes: Any) -> AuditEntry:
    """A row that says nothing of importance."""
    return AuditEntry(**{"at_ms": NOW_MS, "action": action, "who": "bo"} | changes)


class AuditContract(Ways):
    """Part of :class:`tests.contract.store.StoreContract`."""

    def audit(self, limit: int = 1_000, **query: Any) -> AuditPage:
        page: AuditPage = self.wait(self.store.audit_rows(AuditQuery(limit, **query)))
        return page

    def done(self, after_seq: int = 0) -> list[tuple[str, str, str]]:
        """Action, who and result of the rows behind a number."""
        rows = self.audit(after_seq=after_seq).rows
        return [(row.line.action, row.line.who, row.line.result) for row in rows]

    def last_row(self) -> int:
        head: Head = self.wait(self.store.audit_head())
        return head.seq

    def examined(self, **given: Any) -> Verdict:
        chain_id = self.wait(self.store.audit_head()).chain_id
        examination = Examination(chain_id, **given)
        while self.wait(self.store.examine_audit(examination, 7)):
            pass
        return examination.finish()

    def test_a_chain_begins_with_its_first_row(self) -> None:
        """A new store has a chain, whose first row says that it began."""
        page = self.audit(after_seq=0)
        assert [(row.seq, row.line.action) for row in page.rows] == [(1, "chain.started")]
        assert (page.oldest, page.newest) == (1, 1)

    def test_rows_are_linked(self) -> None:
        """Numbers have no hole, each row follows the one before, and the chain holds."""
        for number in range(20):
            self.wait(self.store.record([entry(), entry(details={"number": number})]))
        page = self.audit(after_seq=0)
        assert [row.seq for row in page.rows] == list(range(1, 42))
        assert page.prev[1:] == tuple(row.hash for row in page.rows[:-1])
        assert self.examined() == Verdict(page.rows[0].chain_id, 41, 1, 41, 0, None, ())

    def test_who_acts_is_told(self) -> None:
        """Whoever an operation is submitted for did it; where nobody is, the gateway; and what an
        entry says itself counts most."""
        with acts_for(ANA):
            self.wait(self.store.record([entry("one", who=""), entry("two", who="bo")]))
        self.wait(self.store.record([entry("three", who="")]))
        one, two, three = (row.line for row in self.audit(after_seq=1).rows)
        assert (one.who, one.operator_id, one.via) == (ANA.name, ANA.operator_id, ANA.via)
        assert (two.who, two.operator_id, two.via) == ("bo", "", "")
        assert (three.who, three.operator_id, three.via) == (GATEWAY, "", "")

    def test_details_are_kept_beside_the_chain(self) -> None:
        """Details come back as they were; a row without any has the digest of none."""
        details = {"b": True, "a": 1, "text": 'x\0"\u00e9'}
        self.wait(self.store.record([entry(details=details), entry(reason="a\0b")]))
        kept, without = (row.line for row in self.audit(after_seq=1).rows)
        assert details_of(kept) == details
        assert without.details_digest == NO_DETAILS
        assert details_of(without) == {}
        assert without.reason == "a\ufffdb"
        assert not self.examined().faults

    def test_text_that_is_not_utf_8_breaks_no_row(self) -> None:
        """Its row is kept with what can be kept of it, and so are those beside it."""
        odd = self.store.record([entry(who="\udcff", details={"name": "\ud800"})])
        self.wait(self.store.record([entry()]))
        self.wait(odd)
        first, second = (row.line for row in self.audit(after_seq=1).rows)
        assert (first.who, details_of(first)) == ("\ufffd", {"name": "\ufffd"})
        assert second.action == "test.done" and not self.examined().faults

    def test_what_is_refused_leaves_no_row(self) -> None:
        """A code that is kept already was not made twice: one row, and no hole."""
        self.wait(self.store.add_code(a_code()))
        with pytest.raises(AlreadyKept):
            self.wait(self.store.add_code(a_code()))
        self.wait(self.store.record([entry()]))
        assert [row[0] for row in self.done(1)] == ["pairing.code_made", "test.done"]
        assert not self.examined().faults

    def test_pairing_is_on_it(self) -> None:
        """Who made the code, who said yes, and the certificate of the device."""
        self.paired()
        assert [row[0] for row in self.done(1)] == [
            "pairing.code_made",
            "pairing.approved",
            "certificate.issued",
        ]

    def test_a_code_that_is_taken_back_is_on_it(self) -> None:
        """Once: what is over already is not taken back."""
        self.wait(self.store.add_code(a_code()))
        code_id = a_code().code_id
        taken = [self.wait(self.store.withdraw_code(code_id, NOW_MS)) for _ in range(2)]
        assert taken == [True, False]
        assert [row[0] for row in self.done(1)] == ["pairing.code_made", "pairing.code_withdrawn"]

    def test_a_no_is_on_it(self) -> None:
        """A rejected request with its reason; one that expired is nobody's doing."""
        for name, state in ("no", RequestState.REJECTED), ("late", RequestState.EXPIRED):
            code = a_code(name)
            self.wait(self.store.add_code(code))
            request = a_request(name, code)
            self.wait(self.store.open_request(request, an_approval(request)))
            request.state, request.reason, request.decided_by = state, "why", "ana"
            request.decided_at_ms = NOW_MS
            self.wait(self.store.close_request(request))
        told = [row for row in self.done(1) if row[0] != "pairing.code_made"]
        assert told == [("pairing.rejected", "ana", "ok"), ("pairing.expired", GATEWAY, "ok")]

    def test_changes_of_a_device_are_on_it(self) -> None:
        """Labels, grants, an ordered rotation, revocation and removal; and no change is no row."""
        device_id = self.paired()[0].device_id
        before = self.last_row()
        self.wait(self.store.change(DeviceChange(device_id, labels={"rack": "2"})))
        self.wait(self.store.change(DeviceChange(device_id, labels={"rack": "2"})))
        self.wait(self.store.change(DeviceChange(device_id, grant_risk=Risk.HIGH)))
        order = RotationOrder(frozenset({device_id}), "ana", NOW_MS)
        self.wait(self.store.order_rotation(order))
        self.wait(self.store.revoke(device_id, "ana", "lost", NOW_MS))
        self.wait(self.store.revoke(device_id, "ana", "lost", NOW_MS))
        self.wait(self.store.remove(device_id, "bo", "gone", NOW_MS))
        assert self.done(before) == [
            ("device.changed", GATEWAY, "ok"),
            ("device.granted", GATEWAY, "ok"),
            ("certificate.rotation_ordered", "ana", "ok"),
            ("device.revoked", "ana", "ok"),
            ("device.removed", "bo", "ok"),
        ]

    def test_removal_erases_details(self) -> None:
        """Of a removed device no details stay, also those of its own removal's revocation; the
        chain holds without them."""
        device_id = self.paired()[0].device_id
        self.wait(self.store.remove(device_id, "ana", "gone", NOW_MS))
        rows = self.audit(subject=f"device:{device_id}").rows
        assert len(rows) == 4
        assert all(row.line.details is None and row.line.salt is None for row in rows)
        assert not self.examined().faults

    def test_a_job_has_two_rows(self) -> None:
        """The decision, and what became of it at last; a second final state is none."""
        job = a_job("one", self.registered().device_id)
        before = self.last_row()
        with acts_for(ANA):
            self.wait(self.store.accept(job))
        self.wait(self.store.update(dispatch(job)))
        self.wait(self.store.update(succeed(job)))
        self.wait(self.store.update(succeed(job)))
        assert self.done(before) == [
            ("job.submitted", "ana", "ok"),
            ("job.ended", GATEWAY, "succeeded"),
        ]
        submitted = self.audit(action="job.submitted").rows[0].line
        assert submitted.subject == f"job:{job.call.job_id}"
        assert submitted.subject_name == job.call.device_name
        assert details_of(submitted) == {
            "capability": job.call.capability,
            "device_id": job.call.device_id,
        }

    def test_a_fanout_has_a_row_and_one_for_each_end(self) -> None:
        """One decision for all rows, and the end of each."""
        device_id = self.registered().device_id
        fanout, rows = a_fanout(device_id, device_id)
        before = self.last_row()
        self.wait(self.store.accept_fanout(fanout, rows))
        self.wait(self.store.update(succeed(dispatch(rows[0]))))
        assert [row[0] for row in self.done(before)] == ["fanout.submitted", "job.ended"]

    def test_rows_are_listed_newest_first(self) -> None:
        """Pages of the newest rows, each going on where the last one ended."""
        self.wait(self.store.record([entry(f"n.{number}") for number in range(5)]))
        first = self.audit(2)
        assert [row.line.action for row in first.rows] == ["n.4", "n.3"]
        second = self.audit(2, before_seq=first.reached)
        assert [row.line.action for row in second.rows] == ["n.2", "n.1"]
        assert self.audit(2, before_seq=second.reached).reached == 1

    def test_rows_are_found(self) -> None:
        """By who, action or its beginning, and subject."""
        entries = [
            entry("job.submitted", who="ana", subject="job:1"),
            entry("job.ended", who="bo", operator_id="B", subject="device:1"),
            entry("jobs", who="ana"),
        ]
        self.wait(self.store.record(entries))

        def found(**query: str) -> list[int]:
            return [row.seq for row in self.audit(**query).rows]

        assert found(who="ana") == [4, 2]
        assert found(who="B") == [3]
        assert found(action="job.") == [3, 2]
        assert found(action="jobs") == [4]
        assert found(subject="job:1") == [2]
        assert found(subject="device:1") == [3]
        assert found(who="ana", action="job.") == [2]
        assert found(who="nobody") == []

    def test_a_search_has_an_end(self) -> None:
        """A page with a filter looks at so many rows, and says how far it came."""
        for _ in range(4):
            self.wait(self.store.record([entry()] * (LOOKED_THROUGH // 4)))
        newest = self.last_row()
        page = self.audit(10, action="chain.started")
        assert not page.rows
        assert page.reached == newest - LOOKED_THROUGH + 1
        page = self.audit(10, action="chain.started", before_seq=page.reached)
        assert [row.seq for row in page.rows] == [1]
        upward = self.audit(10, action="absent", after_seq=1)
        assert upward.reached == 1 + LOOKED_THROUGH

    def test_another_chain_is_another_list(self) -> None:
        """A chain that is not kept has no rows."""
        page = self.audit(chain_id=ulid("another chain"))
        assert page == AuditPage((), (), 0, 0, 0)

    def test_heads_are_kept(self) -> None:
        """Newest first, of the wished kinds, and of each kind only so many."""
        head: Head = self.wait(self.store.audit_head())
        for seq in range(1, 6):
            anchor = Head(head.chain_id, seq, bytes(32), NOW_MS, HeadKind.ANCHOR, bytes(64))
            self.wait(self.store.keep_head(anchor, 3))
        self.wait(self.store.keep_head(anchor, 3))
        found = self.wait(self.store.audit_heads(10, None, None))
        assert [each.seq for each in found] == [5, 4, 3]
        assert found[0] == anchor
        before = (head.chain_id, 5)
        assert [each.seq for each in self.wait(self.store.audit_heads(1, before, None))] == [4]
        assert self.wait(self.store.audit_heads(10, None, [HeadKind.SEGMENT])) == []

    def test_old_rows_are_deleted_behind_a_head(self) -> None:
        """Rows that are too old or too many go a few at a time; the chain is looked at behind the
        segment's head, and the newest row stays."""
        entries = [entry(at_ms=NOW_MS + number * DAY_MS) for number in range(20)]
        self.wait(self.store.record(entries))
        assert self.wait(self.store.forgettable_audit(NOW_MS - DAY_MS, 100)) is None
        by_age = self.wait(self.store.forgettable_audit(NOW_MS + 5 * DAY_MS, 100))
        assert by_age.seq == 6
        found = self.wait(self.store.forgettable_audit(0, 10))
        assert (found.seq, found.kind) == (11, HeadKind.SEGMENT)
        segment = found.signed(KEY)
        assert [self.wait(self.store.cut_audit(segment, 4)) for _ in range(4)] == [4, 4, 3, 0]
        page = self.audit(after_seq=0)
        assert (page.oldest, page.newest) == (12, 21)
        assert page.prev[0] == segment.hash
        verdict = self.examined(segment=segment, key=KEY.public_key())
        assert (verdict.first_seq, verdict.faults) == (12, ())
        everything = self.wait(self.store.forgettable_audit(NOW_MS + 99 * DAY_MS, 0))
        assert everything.seq == 20
