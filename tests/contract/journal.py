"""What every store keeps of the journals of devices."""

from __future__ import annotations

from typing import Any

import pytest

from palyra.core import journal
from palyra.core.devices import DeviceChange, Risk, RotationOrder
from palyra.core.identifiers import DeviceId, sha256_hex
from palyra.core.jobmachine import job_machine, report_to
from palyra.core.jobs import Job, JobState, Outcome
from palyra.core.journal import (
    KEPT,
    PAGE,
    PRUNED_EVERY,
    Details,
    JournalEntry,
    JournalEvent,
    JournalPage,
)
from palyra.errors import AlreadyKept, CertificateUnknown, NotFound
from tests.contract.ways import Ways
from tests.store.samples import (
    NOW_MS,
    a_code,
    a_device,
    a_fanout,
    a_job,
    a_registration,
    a_renewal,
    a_request,
    an_approval,
    approved,
    dispatch,
    report,
    succeed,
    ulid,
)

SOMEBODY = DeviceId(ulid("nobody paired it"))
OF_PAIRING = [journal.APPROVED, journal.ISSUED, journal.REGISTERED]


class JournalContract(Ways):
    """Part of :class:`tests.contract.store.StoreContract`."""

    def page(self, device_id: DeviceId, after_seq: int = 0, limit: int = 10_000) -> JournalPage:
        page: JournalPage = self.wait(self.store.journal(device_id, after_seq, limit))
        return page

    def events(self, device_id: DeviceId, after_seq: int = 0) -> list[JournalEvent]:
        """The events of a device, which have no hole."""
        events = self.page(device_id, after_seq).events
        assert all(each.device_id == device_id for each in events)
        begin = events[0].seq if events else 0
        assert [each.seq for each in events] == [*range(begin, begin + len(events))]
        return [*events]

    def newest(self, device_id: DeviceId) -> tuple[str, dict[str, Any], int]:
        """Kind, details and time of the newest event."""
        event = self.events(device_id)[-1]
        return event.kind, dict(event.details), event.at_ms

    def kinds(self, device_id: DeviceId) -> list[str]:
        return [each.kind for each in self.events(device_id)]

    def said(self, device_id: DeviceId, *words: str) -> list[JournalEntry]:
        return [JournalEntry(device_id, NOW_MS, "said", {"word": word}) for word in words]

    def ended_jobs(self, device_id: DeviceId) -> list[tuple[Any, Any]]:
        """Job and state of each job that ended."""
        ended = [each for each in self.events(device_id) if each.kind == journal.JOB_ENDED]
        assert all(each.details["capability"] == "echo" for each in ended)
        return [(each.details["job_id"], each.details["state"]) for each in ended]

    # -- what is an event -----------------------------------------------------------------------

    def test_a_device_has_a_journal_from_its_approval_on(self) -> None:
        """Who approved it, which certificate it got and how it came, numbered from 1."""
        request, certificate = self.paired()
        device_id = request.device_id
        self.wait(self.store.register(a_registration(device_id, certificate.fingerprint)))
        assert self.page(device_id) == JournalPage(
            (
                JournalEvent(
                    device_id,
                    1,
                    NOW_MS + 5,
                    "device.approved",
                    {"by": "operator:ana", "name": "lab-7"},
                ),
                JournalEvent(
                    device_id,
                    2,
                    NOW_MS,
                    "certificate.issued",
                    {
                        "fingerprint": certificate.fingerprint,
                        "not_after_unix_ms": certificate.not_after_ms,
                    },
                ),
                JournalEvent(
                    device_id,
                    3,
                    NOW_MS + 10,
                    "device.registered",
                    {"transport": "grpc", "address": "192.0.2.7", "version": "0.2"},
                ),
            ),
            1,
            3,
        )

    def test_an_answer_that_is_given_again_is_no_event(self) -> None:
        """A certificate that is picked up twice was issued once, and one that is renewed twice."""
        request, certificate = self.paired()
        self.wait(self.store.add_certificate(approved(request), certificate))
        assert self.kinds(request.device_id) == OF_PAIRING[:2]
        renewal = a_renewal(request, "n", certificate.fingerprint)
        for _ in range(2):
            self.wait(self.store.renew(renewal))
        assert self.kinds(request.device_id) == [*OF_PAIRING[:2], journal.ISSUED]
        kind, details, _ = self.newest(request.device_id)
        assert (kind, details["fingerprint"]) == (journal.ISSUED, renewal.certificate.fingerprint)

    def test_what_is_refused_is_no_event(self) -> None:
        """A registration over a certificate that nobody knows leaves nothing."""
        request, _ = self.paired()
        with pytest.raises(CertificateUnknown):
            self.wait(self.store.register(a_registration(request.device_id, sha256_hex(b"x"))))
        assert self.kinds(request.device_id) == OF_PAIRING[:2]

    def test_an_order_to_renew_is_told_to_whom_it_concerns(self) -> None:
        """Each device of the order that is paired, and nobody else."""
        ordered, other = self.registered(), self.registered("lab-8", "c2")
        order = RotationOrder(frozenset({ordered.device_id, SOMEBODY}), "ana", NOW_MS + 50)
        self.wait(self.store.order_rotation(order))
        wanted = ("certificate.renewal_ordered", {"by": "ana"}, NOW_MS + 50)
        assert self.newest(ordered.device_id) == wanted
        assert self.kinds(other.device_id) == OF_PAIRING
        assert self.page(SOMEBODY) == JournalPage((), 0, 0)

    def test_a_change_says_what_is_different(self) -> None:
        """Name, labels, grants and risk, each as it is from now on; nothing that stays."""
        device_id = self.registered().device_id
        self.now_is(NOW_MS + 60)
        change = DeviceChange(device_id, name="attic", labels={"old": "", "room": "loft"})
        self.wait(self.store.change(change))
        details = {"name": "attic", "labels": "old, room=loft"}
        assert self.newest(device_id) == ("device.changed", details, NOW_MS + 60)
        granting = DeviceChange(device_id, withhold=frozenset({"echo"}), grant_risk=Risk.MEDIUM)
        self.wait(self.store.change(granting))
        _, details, _ = self.newest(device_id)
        assert details == {"grants": "system.health", "grant_risk": "medium"}
        count = len(self.events(device_id))
        self.wait(self.store.change(DeviceChange(device_id, name="attic")))
        assert len(self.events(device_id)) == count

    def test_a_revocation_is_an_event_once(self) -> None:
        """By whom and why, and then the jobs that ended with it."""
        device_id = self.registered().device_id
        waiting, running = a_job("w", device_id), dispatch(a_job("r", device_id))
        for job in (waiting, running):
            self.wait(self.store.accept(job))
        for at_ms in (NOW_MS + 70, NOW_MS + 80):
            self.revoked(device_id, at_ms)
        event, *jobs = self.events(device_id)[3:]
        assert (event.kind, event.at_ms) == ("device.revoked", NOW_MS + 70)
        assert event.details == {"by": "ana", "reason": "lost"}
        assert {each.kind for each in jobs} == {journal.JOB_ENDED}
        states = {"w": JobState.REJECTED, "r": JobState.OUTCOME_UNKNOWN}
        ids = {"w": waiting.call.job_id, "r": running.call.job_id}
        assert {*self.ended_jobs(device_id)} == {(ids[name], states[name].value) for name in states}

    def test_another_key_is_an_event(self) -> None:
        """The device's journal goes on: its identity was replaced, by whom, and it is approved."""
        device_id = self.registered().device_id
        self.wait(self.store.accept(a_job("w", device_id)))
        code = a_code("c2")
        self.wait(self.store.add_code(code))
        again = a_request("lab-7", code, identity_fingerprint=sha256_hex(b"another key"))
        self.wait(self.store.open_request(again, an_approval(again)))
        self.wait(self.store.approve_request(approved(again), a_device(again)))
        replaced, ended, back = self.events(device_id)[3:]
        assert (replaced.kind, replaced.details) == (
            "device.identity_replaced",
            {"by": "operator:ana"},
        )
        assert (ended.kind, ended.details["state"]) == (journal.JOB_ENDED, "rejected")
        assert back.kind == journal.APPROVED

    # -- jobs -----------------------------------------------------------------------------------

    def test_a_job_is_one_event(self) -> None:
        """Its final state, when it is kept; neither what led there nor what is reported later."""
        device_id = self.registered().device_id
        job = a_job("j", device_id)
        self.wait(self.store.accept(job))
        self.wait(self.store.update(dispatch(job)))
        assert self.kinds(device_id) == OF_PAIRING
        done = succeed(job)
        self.wait(self.store.update(done))
        details = {"job_id": job.call.job_id, "capability": "echo", "state": "succeeded"}
        assert self.newest(device_id) == ("job.ended", details, NOW_MS + 30)
        report_to(job_machine(done), done, report(done, Outcome.FAILED), NOW_MS + 90)
        self.wait(self.store.update(done))
        self.wait(self.store.update(done))
        assert self.kinds(device_id) == [*OF_PAIRING, journal.JOB_ENDED]

    def test_a_job_that_is_over_at_once_is_an_event(self) -> None:
        """So is each row of a fan-out."""
        device_id = self.registered().device_id
        refused = _refused(a_job("r", device_id))
        self.wait(self.store.accept(refused))
        fanout, (first, second) = a_fanout(device_id, device_id)
        self.wait(self.store.accept_fanout(fanout, [_refused(first), second]))
        expected = [(each.call.job_id, "rejected") for each in (refused, first)]
        assert self.ended_jobs(device_id) == expected

    def test_a_group_of_jobs_tells_each_end_once(self) -> None:
        """Whatever a group has of a job: new and over, over twice, over before, never accepted."""
        one, two = self.registered(), self.registered("lab-8", "c2")
        before = succeed(dispatch(a_job("b", one.device_id)))
        self.wait(self.store.accept(before))
        jobs = [
            dispatch(a_job(f"j{n} {each.name}", each.device_id))
            for n in range(3)
            for each in (one, two)
        ]
        results = [self.store.accept(job) for job in jobs]
        results += [self.store.update(succeed(job)) for job in jobs]
        results += [self.store.update(each) for each in (*jobs, before, before)]
        at_once = succeed(dispatch(a_job("n", one.device_id)))
        results += [self.store.accept(at_once), self.store.update(at_once)]
        lost = self.store.update(succeed(dispatch(a_job("lost", one.device_id))))
        for result in results:
            self.wait(result)
        with pytest.raises(NotFound):
            self.wait(lost)
        for device in (one, two):
            mine = [each for each in (before, *jobs, at_once) if _is_of(each, device.device_id)]
            assert sorted(self.ended_jobs(device.device_id)) == sorted(
                (each.call.job_id, "succeeded") for each in mine
            )

    def test_a_refusal_leaves_no_hole(self) -> None:
        """What is refused in a group takes no number; its neighbours have theirs."""
        device_id = self.registered().device_id
        kept = _refused(a_job("kept", device_id))
        self.wait(self.store.accept(kept))
        good = [_refused(a_job(f"g{n}", device_id)) for n in range(4)]
        noted = [self.store.note(self.said(device_id, "a"))]
        accepted = [self.store.accept(good[0]), self.store.accept(good[1])]
        again = self.store.accept(kept)
        accepted += [self.store.accept(good[2]), self.store.accept(good[3])]
        noted.append(self.store.note(self.said(device_id, "b", "c")))
        with pytest.raises(AlreadyKept):
            self.wait(again)
        for each in (*noted, *accepted):
            self.wait(each)
        jobs = [journal.JOB_ENDED]
        assert self.kinds(device_id) == [*OF_PAIRING, *jobs, "said", *jobs * 4, "said", "said"]

    # -- reading and keeping --------------------------------------------------------------------

    def test_what_is_noted_is_kept(self) -> None:
        """In its order, each with its own device's number; of a device that is not there: nothing.

        Details may be words, numbers and flags.
        """
        one, two = self.registered().device_id, self.registered("lab-8", "c2").device_id
        details: Details = {"reason": "si\u00e9ge \u201cx\u201d", "count": 7, "clean": True}
        entry = JournalEntry(one, NOW_MS + 3, journal.SESSION_ENDED, details)
        self.wait(self.store.note([entry, *self.said(two, "a"), *self.said(SOMEBODY, "b")]))
        assert self.events(one, 3) == [JournalEvent(one, 4, NOW_MS + 3, "session.ended", details)]
        assert [each.seq for each in self.events(two, 3)] == [4]
        assert self.page(SOMEBODY) == JournalPage((), 0, 0)
        self.wait(self.store.accept(_refused(a_job("j", SOMEBODY))))
        assert self.page(SOMEBODY) == JournalPage((), 0, 0)

    def test_a_page_is_what_follows_a_number(self) -> None:
        """At most as many as were asked for; every page says how far the journal reaches."""
        device_id = self.registered().device_id
        self.wait(self.store.note(self.said(device_id, *"abcdefg")))
        page = self.page(device_id, 4, 3)
        assert [each.seq for each in page.events] == [5, 6, 7]
        assert (page.oldest_seq, page.newest_seq) == (1, 10)
        assert self.page(device_id, 10) == JournalPage((), 1, 10)
        assert self.page(device_id, 0, 0) == JournalPage((), 1, 10)

    @pytest.mark.parametrize("at_once", [1, 300])
    def test_the_oldest_events_go(self, at_once: int) -> None:
        """The newest thousand stay, and not many more; nothing of another device goes."""
        one, two = self.registered().device_id, self.registered("lab-8", "c2").device_id
        words = [str(number) for number in range(KEPT + 2 * PRUNED_EVERY)]
        entries = [
            self.said(one, *words[start : start + at_once])
            for start in range(0, len(words), at_once)
        ]
        for result in [self.store.note(each) for each in entries]:
            self.wait(result)
        page = self.page(one)
        newest = len(OF_PAIRING) + len(words)
        assert page.newest_seq == newest == page.events[-1].seq
        assert newest - KEPT - PRUNED_EVERY < page.oldest_seq <= newest - KEPT + 1
        assert page.oldest_seq == self.events(one)[0].seq
        assert page.events[-1].details == {"word": words[-1]}
        assert self.kinds(two) == OF_PAIRING

    def test_a_device_that_is_removed_has_no_journal(self) -> None:
        """And begins a new one where it is approved again; of others nothing is deleted."""
        one, two = self.registered().device_id, self.registered("lab-8", "c2").device_id
        self.wait(self.store.accept(a_job("j", one)))
        self.removed(one)
        self.wait(self.store.note(self.said(one, "late")))
        assert self.page(one) == JournalPage((), 0, 0)
        assert self.kinds(two) == OF_PAIRING
        again = self.opened("lab-7", "c3")
        self.approve(again)
        assert [(each.seq, each.kind) for each in self.events(one)] == [(1, journal.APPROVED)]

    # -- whoever watches ------------------------------------------------------------------------

    def test_growth_is_told_of_whom_is_followed(self) -> None:
        """After the commit, for each commit; of nobody else, and of nobody any more."""
        one, two = self.registered().device_id, self.registered("lab-8", "c2").device_id
        followed, grown = {one}, list[DeviceId]()
        self.store.watch(followed, grown.append)
        self.wait(self.store.note(self.said(two, "a")))
        self.wait(self.store.heard({one: NOW_MS + 100}))
        assert grown == []
        self.wait(self.store.note(self.said(one, "a", "b")))
        self.told(grown, one)
        self.wait(self.store.accept(_refused(a_job("j", one))))
        self.told(grown, one, one)
        followed.add(two)
        followed.discard(one)
        self.wait(self.store.note([*self.said(one, "c"), *self.said(two, "d")]))
        self.told(grown, one, one, two)
        with pytest.raises(AlreadyKept):
            self.wait(self.store.accept(_refused(a_job("j", two))))
        self.told(grown, one, one, two)

    def told(self, grown: list[DeviceId], *expected: DeviceId) -> None:
        """The store's next answer comes after what it told."""
        self.page(expected[0], 0, PAGE)
        assert grown == [*expected]


def _refused(job: Job) -> Job:
    """The job once it was rejected without being sent."""
    job.state, job.finished_at_ms = JobState.REJECTED, NOW_MS + 40
    job.error_code, job.error = "device_offline", "It is offline."
    return job


def _is_of(job: Job, device_id: DeviceId) -> bool:
    return job.call.device_id == device_id
