"""What every store keeps (:class:`palyra.core.interfaces.IStore`)."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from zope.interface.verify import verifyObject

from palyra.core.devices import (
    MAX_LABELS,
    Approved,
    CertificateState,
    DeviceChange,
    DeviceState,
)
from palyra.core.fanouts import BATCH, Tally, is_failure
from palyra.core.identifiers import DeviceId, FanoutId, JobId, RequestId, sha256_hex
from palyra.core.interfaces import (
    LISTED_OUTPUT,
    IdempotencyKey,
    IStore,
    JobQuery,
    KeyUse,
    RequestQuery,
)
from palyra.core.jobmachine import job_machine, report_to
from palyra.core.jobs import UNFINISHED, Job, JobState, Outcome, Report
from palyra.core.pairing import CodeMethod, CodeState, RequestState
from palyra.errors import (
    AlreadyKept,
    ApprovalFinal,
    CertificateRefused,
    CertificateSuperseded,
    CertificateUnknown,
    DeviceRevoked,
    Malformed,
    NameTaken,
    NotBoundToDevice,
    NotFound,
    NotRegistered,
    PairingFailed,
)
from tests.contract.audit import AuditContract
from tests.contract.callapprovals import CallApprovalsContract
from tests.contract.descriptors import DescriptorsContract
from tests.contract.forgetting import ForgettingContract
from tests.contract.journal import JournalContract
from tests.contract.operators import OperatorsContract
from tests.contract.removal import RemovalContract
from tests.contract.renewal import RenewalContract
from tests.contract.webhooks import WebhookLogContract
from tests.store.samples import (
    DAY_MS,
    NOW_MS,
    a_certificate,
    a_code,
    a_device,
    a_fanout,
    a_job,
    a_registration,
    a_request,
    an_approval,
    approved,
    dispatch,
    report,
    succeed,
    ulid,
)

KEY = IdempotencyKey("operator:ana POST /jobs", "k", sha256_hex(b"request"))


class StoreContract(
    RenewalContract,
    RemovalContract,
    DescriptorsContract,
    ForgettingContract,
    JournalContract,
    AuditContract,
    OperatorsContract,
    CallApprovalsContract,
    WebhookLogContract,
):
    """Mixed into a test class that sets ``store`` and can ``wait`` for what it returns."""

    def test_nothing_is_to_confirm(self) -> None:
        """A store that was neither restored nor imported may serve; confirming it is no error."""
        assert self.store.unconfirmed_since_ms is None
        self.wait(self.store.confirm())
        assert self.store.unconfirmed_since_ms is None

    # -- codes ------------------------------------------------------------------------------------

    def test_it_provides_the_interface(self) -> None:
        """Every method of IStore is there, with its arguments."""
        assert verifyObject(IStore, self.store)

    def test_it_has_an_identity(self) -> None:
        """A store has a gateway id and a random store epoch."""
        assert len(self.store.gateway_id) == 26
        assert len(self.store.store_epoch) == 32

    def test_a_code_is_found_by_its_digest(self) -> None:
        """A token is found by its SHA-256 only, in whatever state the code is."""
        code = a_code()
        self.wait(self.store.add_code(code))
        assert self.wait(self.store.code_by_digest(code.digest)) == code
        assert self.wait(self.store.code_by_digest(sha256_hex(b"other"))) is None

    def test_a_pin_is_not_found_by_its_empty_digest(self) -> None:
        """A PIN code has no digest, and nothing finds it by that."""
        self.wait(self.store.add_code(a_code(digest="", method=CodeMethod.PIN, nameplate=1)))
        assert self.wait(self.store.code_by_digest("")) is None

    def test_a_code_is_kept_once(self) -> None:
        """A second code with the same id is refused."""
        self.wait(self.store.add_code(a_code()))
        with pytest.raises(AlreadyKept):
            self.wait(self.store.add_code(a_code()))

    def test_active_codes_are_those_a_device_could_use(self) -> None:
        """Expired, burnt and used codes are not active."""
        usable, old, burnt = a_code("a"), a_code("b", expires_at_ms=NOW_MS), a_code("c")
        for code in (usable, old, burnt):
            self.wait(self.store.add_code(code))
        self.wait(self.store.save_code(attrs.evolve(burnt, state=CodeState.BURNT, failed=5)))
        assert self.wait(self.store.active_codes(NOW_MS)) == [usable]

    def test_a_code_is_taken_back(self) -> None:
        """It is not active any more, and nothing is known of its PIN; others stay."""
        kept, taken = a_code("a"), a_code("b", digest="", nameplate=1, sealed_pin=b"sealed")
        for code in (kept, taken):
            self.wait(self.store.add_code(code))
        assert self.wait(self.store.withdraw_code(taken.code_id, NOW_MS))
        assert self.wait(self.store.active_codes(NOW_MS)) == [kept]
        assert not self.wait(self.store.withdraw_code(taken.code_id, NOW_MS))
        assert not self.wait(self.store.withdraw_code("unknown", NOW_MS))

    def test_counters_are_kept_while_a_code_is_active(self) -> None:
        """Counters survive; a code that is over never becomes active again."""
        code = a_code()
        self.wait(self.store.add_code(code))
        counted = attrs.evolve(code, reserved=1, failed=2)
        self.wait(self.store.save_code(counted))
        assert self.wait(self.store.code_by_digest(code.digest)) == counted
        burnt = attrs.evolve(code, state=CodeState.BURNT)
        self.wait(self.store.save_code(burnt))
        self.wait(self.store.save_code(counted))
        assert self.wait(self.store.code_by_digest(code.digest)) == burnt

    def test_a_pin_is_kept_sealed_while_its_code_is_active(self) -> None:
        """The nameplate and what was sealed come back, counters do not touch them."""
        code = a_code(digest="", method=CodeMethod.PIN, nameplate=3, sealed_pin=b"sealed")
        self.wait(self.store.add_code(code))
        assert self.wait(self.store.active_codes(NOW_MS)) == [code]
        counted = attrs.evolve(code, failed=1, sealed_pin=b"")
        self.wait(self.store.save_code(counted))
        kept = attrs.evolve(code, failed=1)
        assert self.wait(self.store.active_codes(NOW_MS)) == [kept]

    def test_a_code_that_is_over_has_no_secret(self) -> None:
        """Burnt or used, what was sealed for it is erased in the same commit."""
        for name, state in (("a", CodeState.BURNT), ("b", CodeState.EXPIRED)):
            code = a_code(name, sealed_pin=b"sealed")
            self.wait(self.store.add_code(code))
            self.wait(self.store.save_code(attrs.evolve(code, state=state)))
            kept = self.wait(self.store.code_by_digest(code.digest))
            assert (kept.state, kept.sealed_pin) == (state, b"")
        code = a_code("c", sealed_pin=b"sealed")
        self.wait(self.store.add_code(code))
        request = a_request("lab-7", code)
        self.wait(self.store.open_request(request, an_approval(request)))
        kept = self.wait(self.store.code_by_digest(code.digest))
        assert (kept.state, kept.sealed_pin) == (CodeState.USED, b"")

    def test_an_unknown_code_is_not_made_by_saving_it(self) -> None:
        """Saving is for codes that were added."""
        self.wait(self.store.save_code(a_code()))
        assert self.wait(self.store.active_codes(NOW_MS)) == []

    # -- requests ---------------------------------------------------------------------------------

    def test_opening_a_request_uses_up_the_code(self) -> None:
        """Request and used code are one commit; the request is found by id and by session."""
        request = self.opened()
        code = self.wait(self.store.code_by_digest(a_code().digest))
        assert code.state is CodeState.USED
        assert self.wait(self.store.request(request.request_id)) == request
        assert self.wait(self.store.request_by_session(request.session_digest)) == request
        assert self.wait(self.store.request(RequestId(ulid("none")))) is None
        assert self.wait(self.store.request_by_session("none")) is None

    def test_of_two_sessions_on_one_code_the_second_fails(self) -> None:
        """A race on a code has one winner, and the loser leaves nothing behind."""
        code = a_code()
        self.wait(self.store.add_code(code))
        first, second = a_request("one", code), a_request("two", code)
        won = self.store.open_request(first, an_approval(first))
        lost = self.store.open_request(second, an_approval(second))
        self.wait(won)
        with pytest.raises(PairingFailed):
            self.wait(lost)
        assert self.wait(self.store.requests(RequestQuery())) == [first]

    def test_a_session_opens_one_request(self) -> None:
        """A second request with a known session or id is refused and leaves its code active."""
        request = self.opened()
        code = a_code("other")
        self.wait(self.store.add_code(code))
        again = a_request("else", code, session_digest=request.session_digest)
        with pytest.raises(AlreadyKept):
            self.wait(self.store.open_request(again, an_approval(again)))
        same = a_request("lab-7", code, request_id=request.request_id)
        with pytest.raises(AlreadyKept):
            self.wait(self.store.open_request(same, an_approval(same)))
        assert self.wait(self.store.active_codes(NOW_MS)) == [code]

    def test_a_rejoin_needs_no_code(self) -> None:
        """Its request has none, waits like any other, and any number of them may."""
        every = [
            a_request(name, a_code(), code_id="", issued_by="", method=CodeMethod.REJOIN)
            for name in ("one", "two")
        ]
        for request in every:
            self.wait(self.store.open_request(request, an_approval(request)))
            assert self.wait(self.store.request(request.request_id)) == request
        self.approve(every[0])
        certificate = a_certificate(every[0])
        kept = self.wait(self.store.add_certificate(approved(every[0]), certificate))
        assert kept == certificate

    def test_what_a_device_is_told_again_is_kept(self) -> None:
        """cB and a key that was made for it survive the decision and the pick-up."""
        request, _ = self.paired(pake_confirm=b"confirm", sealed_key=b"sealed")
        kept = self.wait(self.store.request(request.request_id))
        assert (kept.pake_confirm, kept.sealed_key) == (b"confirm", b"sealed")

    def test_a_made_key_is_forgotten(self) -> None:
        """When the gateway says so, and with every request that comes to nothing."""
        request, _ = self.paired(sealed_key=b"sealed")
        self.wait(self.store.forget_key(request.request_id))
        self.wait(self.store.forget_key(RequestId(ulid("none"))))
        assert self.wait(self.store.request(request.request_id)).sealed_key == b""
        for name, state in (("a", RequestState.REJECTED), ("b", RequestState.EXPIRED)):
            request = self.opened(name, name, sealed_key=b"sealed")
            self.wait(self.store.close_request(attrs.evolve(request, state=state)))
            kept = self.wait(self.store.request(request.request_id))
            assert (kept.state, kept.sealed_key) == (state, b"")

    def test_requests_are_listed_newest_first(self) -> None:
        """State, limit and cursor of a query are kept."""
        every = [
            self.opened(f"d{n}", f"c{n}", request_id=RequestId(ulid("r", NOW_MS + n)))
            for n in range(3)
        ]
        listed = self.wait(self.store.requests(RequestQuery(limit=2)))
        assert listed == [every[2], every[1]]
        rest = self.wait(self.store.requests(RequestQuery(before=listed[-1].request_id)))
        assert rest == [every[0]]
        self.approve(every[1])
        pending = RequestQuery(states=frozenset({RequestState.PENDING}))
        assert self.wait(self.store.requests(pending)) == [every[2], every[0]]
        of_one = RequestQuery(device_id=every[0].device_id)
        assert self.wait(self.store.requests(of_one)) == [every[0]]

    def test_a_request_is_closed_once(self) -> None:
        """A rejected request stays as it was decided first."""
        request = self.opened()
        closed = attrs.evolve(
            request, state=RequestState.REJECTED, decided_by="ana", decided_at_ms=9, reason="no"
        )
        self.wait(self.store.close_request(closed))
        assert self.wait(self.store.request(request.request_id)) == closed
        with pytest.raises(ApprovalFinal):
            self.wait(self.store.close_request(attrs.evolve(request, state=RequestState.EXPIRED)))
        with pytest.raises(ApprovalFinal):
            self.approve(request)
        assert self.wait(self.store.devices()) == []

    def test_an_unknown_request_cannot_be_decided(self) -> None:
        """There is nothing to close, approve or pick up."""
        request = a_request("ghost", a_code())
        for act in (
            self.store.close_request(request),
            self.store.approve_request(approved(request), a_device(request)),
            self.store.add_certificate(request, a_certificate(request)),
        ):
            with pytest.raises(NotFound):
                self.wait(act)

    def test_values_belong_to_their_caller(self) -> None:
        """What was handed in or out can be changed without changing the store."""
        request = self.opened()
        request.name = "changed"
        request.labels["x"] = "y"  # type: ignore[index]
        kept = self.wait(self.store.request(request.request_id))
        assert kept.name == "lab-7"
        assert kept.labels == {"room": "lab"}
        kept.name = "changed"
        assert self.wait(self.store.request(request.request_id)).name == "lab-7"
        made = self.approve(self.wait(self.store.request(request.request_id)))
        made.device.labels["x"] = "y"  # type: ignore[index]
        assert self.wait(self.store.device(request.device_id)).labels == {"room": "lab"}

    # -- approval ---------------------------------------------------------------------------------

    def test_approval_makes_a_device(self) -> None:
        """The device is paired, with the request's labels and epoch 0, and the request approved."""
        request = self.opened()
        made = self.approve(request)
        device = self.wait(self.store.device(request.device_id))
        assert device == a_device(request)
        assert made == Approved(device)
        assert self.wait(self.store.devices()) == [device]
        assert self.wait(self.store.request(request.request_id)) == approved(request)

    def test_names_are_unique(self) -> None:
        """A name that was taken meanwhile gets a number."""
        self.approve(self.opened("lab-7", "c1"))
        other = self.opened("lab-8", "c2", name="lab-7")
        made = self.approve(other)
        assert made.device.name == "lab-7-2"
        assert self.wait(self.store.device(other.device_id)) == made.device

    def test_pairing_again_with_the_same_key_keeps_the_session(self) -> None:
        """Epoch, session facts, own labels and name stay; nothing is revoked."""
        device = self.registered()
        again = self.opened("lab-7", "c2", labels={"floor": "2"})
        made = self.approve(again)
        kept = self.wait(self.store.device(device.device_id))
        assert made == Approved(kept)
        assert kept.labels == {"room": "lab", "floor": "2"}
        assert (kept.name, kept.session_epoch, kept.gateway_id) == ("lab-7", 1, "G")
        assert self.wait(self.store.revocations()) == []

    def test_another_key_revokes_the_old_one(self) -> None:
        """The old key and certificates are revoked, jobs ended, the session loses dispatch."""
        device = self.registered()
        queued, sent = a_job("q", device.device_id), dispatch(a_job("s", device.device_id))
        for job in (queued, sent):
            self.wait(self.store.accept(job))
        key = sha256_hex(b"new")
        request = self.opened("lab-7", "c2", identity_fingerprint=key, identity_public=b"new")
        made = self.approve(request)
        revocation = made.replaced
        assert revocation is not None
        assert revocation.identity_fingerprint == device.identity_fingerprint
        assert [each.not_after_ms for each in revocation.certificates] == [NOW_MS + DAY_MS]
        assert self.wait(self.store.revocations()) == [revocation]
        kept = self.wait(self.store.device(device.device_id))
        assert kept == made.device
        assert (kept.identity_fingerprint, kept.state) == (key, DeviceState.PAIRED)
        assert (kept.session_epoch, kept.gateway_id, kept.memory_id) == (2, "", "")
        assert self.wait(self.store.live_certificates()) == []
        ended = self.wait(self.store.job(queued.call.job_id))
        assert (ended.state, ended.error_code) == (JobState.REJECTED, "identity_changed")
        lost = self.wait(self.store.job(sent.call.job_id))
        assert lost.state is JobState.OUTCOME_UNKNOWN

    def test_a_revoked_key_is_not_paired_again(self) -> None:
        """Neither for its device nor for another one, and the request stays pending."""
        device = self.registered()
        self.wait(self.store.revoke(device.device_id, "ana", "lost", NOW_MS))
        same = self.opened("lab-7", "c2")
        with pytest.raises(DeviceRevoked):
            self.approve(same)
        key = device.identity_fingerprint
        other = self.opened("lab-9", "c3", identity_fingerprint=key)
        with pytest.raises(DeviceRevoked):
            self.approve(other)
        assert self.wait(self.store.request(other.request_id)).state is RequestState.PENDING

    # -- certificates -----------------------------------------------------------------------------

    def test_a_certificate_is_issued_once(self) -> None:
        """The same request asking again gets the same certificate; it is completed."""
        request, certificate = self.paired()
        again = a_certificate(request, "again")
        assert self.wait(self.store.add_certificate(request, again)) == certificate
        assert self.wait(self.store.certificate(again.fingerprint)) is None
        assert self.wait(self.store.certificate(certificate.fingerprint)) == certificate
        kept = self.wait(self.store.request(request.request_id))
        assert kept == attrs.evolve(approved(request), state=RequestState.COMPLETED)

    def test_without_an_approval_there_is_no_certificate(self) -> None:
        """A pending request cannot be picked up."""
        request = self.opened()
        with pytest.raises(ApprovalFinal):
            self.wait(self.store.add_certificate(request, a_certificate(request)))

    def test_a_fingerprint_is_kept_once(self) -> None:
        """A certificate of another request is not overwritten, and the request stays open."""
        _, certificate = self.paired()
        request = self.opened("lab-8", "c2")
        self.approve(request)
        twice = a_certificate(request, fingerprint=certificate.fingerprint)
        with pytest.raises(AlreadyKept):
            self.wait(self.store.add_certificate(request, twice))
        assert self.wait(self.store.request(request.request_id)).state is RequestState.APPROVED

    def test_a_revoked_device_gets_no_certificate(self) -> None:
        """Revocation between approval and pick-up wins."""
        request = self.opened()
        self.approve(request)
        self.wait(self.store.revoke(request.device_id, "ana", "lost", NOW_MS))
        with pytest.raises(DeviceRevoked):
            self.wait(self.store.add_certificate(request, a_certificate(request)))

    def test_a_replaced_key_gets_no_certificate(self) -> None:
        """An approval of the old key is worth nothing once another key was approved."""
        old = self.opened()
        self.approve(old)
        key = sha256_hex(b"new")
        self.approve(self.opened("lab-7", "c2", identity_fingerprint=key))
        with pytest.raises(DeviceRevoked):
            self.wait(self.store.add_certificate(old, a_certificate(old)))

    def test_live_certificates_end_with_their_dates(self) -> None:
        """A certificate past its notAfter is not live."""
        _, certificate = self.paired()
        assert self.wait(self.store.live_certificates()) == [certificate]
        self.now_is(certificate.not_after_ms)
        assert self.wait(self.store.live_certificates()) == []

    def test_a_newer_pending_certificate_supersedes_the_older(self) -> None:
        """At most one certificate of a device is pending."""
        _, first = self.paired()
        _, second = self.paired("lab-7", "c2")
        states = {
            each.fingerprint: each.state for each in self.wait(self.store.live_certificates())
        }
        assert states == {
            first.fingerprint: CertificateState.SUPERSEDED,
            second.fingerprint: CertificateState.PENDING,
        }

    def test_a_certificate_that_is_current_at_once(self) -> None:
        """A certificate kept as current leaves the pending one alone."""
        _, first = self.paired()
        request = self.opened("lab-7", "c2")
        self.approve(request)
        current = a_certificate(request, state=CertificateState.CURRENT)
        self.wait(self.store.add_certificate(request, current))
        kept = self.wait(self.store.certificate(first.fingerprint))
        assert kept.state is CertificateState.PENDING

    # -- registration -----------------------------------------------------------------------------

    def test_registering_raises_the_epoch_and_keeps_the_facts(self) -> None:
        """The newest registration owns dispatch; its certificate is current."""
        request, certificate = self.paired()
        registration = a_registration(request.device_id, certificate.fingerprint)
        device = self.wait(self.store.register(registration))
        assert (device.session_epoch, device.gateway_id, device.memory_id) == (1, "G", "M")
        assert device.capabilities == registration.capabilities
        assert (device.platform, device.version) == ("linux 6", "0.2")
        assert (device.transport, device.address) == ("grpc", "192.0.2.7")
        assert device.last_heard_ms == registration.at_ms
        again = self.wait(self.store.register(registration))
        assert again.session_epoch == 2
        assert self.wait(self.store.device(request.device_id)) == again
        kept = self.wait(self.store.certificate(certificate.fingerprint))
        assert kept.state is CertificateState.CURRENT

    def test_registering_over_a_pending_certificate_supersedes_the_current(self) -> None:
        """The old certificate is over at that commit, and refused from then on."""
        device = self.registered()
        (old,) = self.wait(self.store.live_certificates())
        _, new = self.paired("lab-7", "c2")
        self.wait(self.store.register(a_registration(device.device_id, new.fingerprint)))
        kept = self.wait(self.store.certificate(old.fingerprint))
        assert kept.state is CertificateState.SUPERSEDED
        with pytest.raises(CertificateSuperseded):
            self.wait(self.store.register(a_registration(device.device_id, old.fingerprint)))

    def test_registration_needs_a_live_certificate_of_that_device(self) -> None:
        """Unknown, foreign and expired certificates, and unknown devices, are refused."""
        request, certificate = self.paired()
        other, foreign = self.paired("lab-8", "c2")
        device_id, fingerprint = request.device_id, certificate.fingerprint
        with pytest.raises(CertificateUnknown):
            self.wait(self.store.register(a_registration(device_id, sha256_hex(b"none"))))
        with pytest.raises(NotBoundToDevice):
            self.wait(self.store.register(a_registration(device_id, foreign.fingerprint)))
        late = a_registration(device_id, fingerprint, at_ms=certificate.not_after_ms)
        with pytest.raises(CertificateRefused):
            self.wait(self.store.register(late))
        ghost = a_registration(DeviceId(ulid("ghost")), fingerprint)
        with pytest.raises(NotFound):
            self.wait(self.store.register(ghost))
        assert self.wait(self.store.device(device_id)).session_epoch == 0
        assert self.wait(self.store.device(other.device_id)).session_epoch == 0

    def test_a_revoked_certificate_does_not_register_a_new_key(self) -> None:
        """After an identity change the old certificate is refused although the device is paired."""
        request, certificate = self.paired()
        self.approve(self.opened("lab-7", "c2", identity_fingerprint=sha256_hex(b"new")))
        registration = a_registration(request.device_id, certificate.fingerprint)
        with pytest.raises(CertificateRefused) as caught:
            self.wait(self.store.register(registration))
        assert caught.value.reason == "revoked"

    def test_heard_never_goes_back(self) -> None:
        """The latest time stays; unknown devices are passed over."""
        request, _ = self.paired()
        device_id = request.device_id
        self.wait(self.store.heard({}))
        self.wait(self.store.heard({device_id: NOW_MS + 5, DeviceId(ulid("ghost")): 1}))
        self.wait(self.store.heard({device_id: NOW_MS}))
        assert self.wait(self.store.device(device_id)).last_heard_ms == NOW_MS + 5
        assert self.wait(self.store.device(DeviceId(ulid("ghost")))) is None

    # -- revocation -------------------------------------------------------------------------------

    def test_revocation_ends_everything(self) -> None:
        """Device, certificates and unfinished jobs, of this device only, in one commit."""
        device, other = self.registered(), self.registered("lab-8", "c2")
        done = succeed(dispatch(a_job("done", device.device_id)))
        queued, sent = a_job("q", device.device_id), dispatch(a_job("s", device.device_id))
        theirs = a_job("t", other.device_id)
        for job in (done, queued, sent, theirs):
            self.wait(self.store.accept(job))
        revocation = self.wait(self.store.revoke(device.device_id, "ana", "lost", NOW_MS + 50))
        assert (revocation.by, revocation.reason, revocation.at_ms) == ("ana", "lost", NOW_MS + 50)
        kept = self.wait(self.store.device(device.device_id))
        assert (kept.state, kept.revoke_reason) == (DeviceState.REVOKED, "lost")
        assert kept.revoked_at_ms == NOW_MS + 50
        states = [
            self.wait(self.store.job(job.call.job_id)).state for job in (done, queued, sent, theirs)
        ]
        assert states == [
            JobState.SUCCEEDED,
            JobState.REJECTED,
            JobState.OUTCOME_UNKNOWN,
            JobState.QUEUED,
        ]
        live = self.wait(self.store.live_certificates())
        assert [each.device_id for each in live] == [other.device_id]
        assert self.wait(self.store.revocations()) == [revocation]

    def test_revoking_twice_is_revoking_once(self) -> None:
        """The first revocation stands, with its time and reason."""
        device = self.registered()
        first = self.wait(self.store.revoke(device.device_id, "ana", "lost", NOW_MS))
        assert self.wait(self.store.revoke(device.device_id, "bob", "why", NOW_MS + 9)) == first
        with pytest.raises(NotFound):
            self.wait(self.store.revoke(DeviceId(ulid("ghost")), "ana", "", NOW_MS))

    def test_a_revoked_device_does_not_register(self) -> None:
        """Nor is a job dispatched to the session it still has."""
        device = self.registered()
        (certificate,) = self.wait(self.store.live_certificates())
        self.wait(self.store.revoke(device.device_id, "ana", "lost", NOW_MS))
        registration = a_registration(device.device_id, certificate.fingerprint)
        with pytest.raises(DeviceRevoked) as caught:
            self.wait(self.store.register(registration))
        assert caught.value.when == "2027-01-15"
        with pytest.raises(NotRegistered):
            self.wait(self.store.accept(dispatch(a_job("j", device.device_id))))

    # -- jobs -------------------------------------------------------------------------------------

    def test_a_job_is_kept_whole(self) -> None:
        """Every field of call, attempt and record comes back; wants are the host's."""
        device = self.registered()
        job = a_job(
            "j",
            device.device_id,
            idempotent=True,
            needs_mediation=True,
            queue_expires_at_ms=NOW_MS + 1,
            idempotency_key="k",
            fanout_id="f",
        )
        self.wait(self.store.accept(job))
        assert self.wait(self.store.job(job.call.job_id)) == job
        self.wait(self.store.update(dispatch(job)))
        assert self.wait(self.store.job(job.call.job_id)) == job
        job_machine(job).cancel_requested(NOW_MS + 21, "operator:bo", "a typo")
        self.wait(self.store.update(job))
        job.take_wants()
        assert self.wait(self.store.job(job.call.job_id)) == job
        self.wait(self.store.update(succeed(job)))
        kept = self.wait(self.store.job(job.call.job_id))
        assert kept == job
        assert (kept.output_json, kept.took_ms) == (b'{"echo":"hi"}', 4)
        assert (kept.cancel_requested_by, kept.cancel_reason) == ("operator:bo", "a typo")
        assert self.wait(self.store.job(JobId(ulid("none")))) is None

    def test_a_job_is_read_before_the_method_returns(self) -> None:
        """What happens to a job after it was handed in is not kept."""
        job = a_job("j", DeviceId(ulid("d")))
        accepted = self.store.accept(job)
        job_machine(job).cancel_requested(NOW_MS)
        self.wait(accepted)
        kept = self.wait(self.store.job(job.call.job_id))
        assert kept.state is JobState.QUEUED
        kept.state = JobState.FAILED
        assert self.wait(self.store.job(job.call.job_id)).state is JobState.QUEUED

    def test_a_job_is_accepted_once(self) -> None:
        """A second job with its id is refused; its neighbours in the group are kept."""
        jobs = [a_job(name, DeviceId(ulid("d"))) for name in ("a", "b", "a", "c")]
        results = [self.store.accept(job) for job in jobs]
        self.wait(results[0])
        self.wait(results[1])
        with pytest.raises(AlreadyKept):
            self.wait(results[2])
        self.wait(results[3])
        assert len(self.wait(self.store.unfinished())) == 3

    def test_an_unknown_job_is_not_updated(self) -> None:
        """Updating what was never accepted fails, alone."""
        device = self.registered()
        known = a_job("known", device.device_id)
        self.wait(self.store.accept(known))
        good = self.store.update(dispatch(known))
        bad = self.store.update(dispatch(a_job("ghost", device.device_id)))
        self.wait(good)
        with pytest.raises(NotFound):
            self.wait(bad)
        assert self.wait(self.store.job(known.call.job_id)) == known
        alone = dispatch(a_job("alone", device.device_id))
        with pytest.raises(NotFound):
            self.wait(self.store.update(alone))
        assert alone.attempt is not None
        assert self.wait(self.store.job_of_attempt(alone.attempt.attempt_id)) is None

    def test_only_the_session_that_owns_dispatch_dispatches(self) -> None:
        """A stale epoch, another gateway, an unknown device: refused; neighbours are not."""
        device = self.registered()
        good = dispatch(a_job("good", device.device_id))
        stale = dispatch(a_job("stale", device.device_id), epoch=0)
        foreign = dispatch(a_job("foreign", device.device_id), gateway_id="H")
        ghost = dispatch(a_job("ghost", DeviceId(ulid("ghost"))))
        last = dispatch(a_job("last", device.device_id))
        results = [self.store.accept(job) for job in (good, stale, foreign, ghost, last)]
        self.wait(results[0])
        for refused in results[1:4]:
            with pytest.raises(NotRegistered):
                self.wait(refused)
        self.wait(results[4])
        kept = {job.call.job_id for job in self.wait(self.store.unfinished())}
        assert kept == {good.call.job_id, last.call.job_id}

    def test_a_dispatch_by_update_is_checked_too(self) -> None:
        """A queued job that a stale session takes stays queued; what was dispatched may go on."""
        device = self.registered()
        queued, running = a_job("q", device.device_id), a_job("r", device.device_id)
        self.wait(self.store.accept(queued))
        self.wait(self.store.accept(dispatch(running)))
        (certificate,) = self.wait(self.store.live_certificates())
        again = a_registration(device.device_id, certificate.fingerprint)
        self.wait(self.store.register(again))
        refused = self.store.update(dispatch(queued, epoch=1))
        went_on = self.store.update(succeed(running))
        with pytest.raises(NotRegistered):
            self.wait(refused)
        self.wait(went_on)
        assert self.wait(self.store.job(queued.call.job_id)).state is JobState.QUEUED
        assert self.wait(self.store.job(running.call.job_id)).state is JobState.SUCCEEDED

    def test_a_job_can_be_accepted_and_finished_in_one_group(self) -> None:
        """What gathers together is kept in the order it came."""
        device = self.registered()
        job = dispatch(a_job("j", device.device_id))
        results = [self.store.accept(job), self.store.update(job), self.store.update(succeed(job))]
        for result in results:
            self.wait(result)
        assert self.wait(self.store.job(job.call.job_id)) == job

    def test_the_first_final_state_stays(self) -> None:
        """A later state is not kept, in the same group or afterwards; it is no error either."""
        job = a_job("j", DeviceId(ulid("d")))
        self.wait(self.store.accept(job))
        cancelled, expired = attrs.evolve(job), attrs.evolve(job)
        job_machine(cancelled).cancel_requested(NOW_MS)
        job_machine(expired).queue_expired(NOW_MS)
        results = [self.store.update(cancelled), self.store.update(expired)]
        for result in results:
            self.wait(result)
        self.wait(self.store.update(job))
        kept = self.wait(self.store.job(job.call.job_id))
        assert kept == attrs.evolve(cancelled, wants=[])

    def test_late_reports_are_kept_as_notes(self) -> None:
        """Each once, in order, at most sixteen, without changing the state."""
        device = self.registered()
        job = succeed(dispatch(a_job("j", device.device_id)))
        self.wait(self.store.accept(job))
        late = report(job, Outcome.FAILED, error_code="x", error="too late", stopped=False)
        for wanted in range(1, 4):
            job_machine(job).failed(late, NOW_MS)
            self.wait(self.store.update(job))
            kept = self.wait(self.store.job(job.call.job_id))
            assert kept.notes == [late] * wanted
        self.wait(self.store.update(job))
        assert self.wait(self.store.job(job.call.job_id)) == job
        job.notes.extend(Report(late.attempt_id, Outcome.CANCELLED) for _ in range(20))
        self.wait(self.store.update(job))
        kept = self.wait(self.store.job(job.call.job_id))
        assert kept.notes == job.notes[:16]

    def test_a_job_is_found_by_each_of_its_attempts(self) -> None:
        """Also by one that was lost and replaced."""
        device = self.registered()
        job = dispatch(a_job("j", device.device_id))
        assert job.attempt is not None
        first = job.attempt.attempt_id
        self.wait(self.store.accept(job))
        job_machine(job).retried(NOW_MS + 500)
        job.take_wants()
        assert job.retry_at_ms == NOW_MS + 500
        self.wait(self.store.update(job))
        assert self.wait(self.store.job(job.call.job_id)) == job
        self.wait(self.store.update(dispatch(job)))
        for attempt_id in (first, job.attempt.attempt_id):
            assert self.wait(self.store.job_of_attempt(attempt_id)) == job
        assert self.wait(self.store.job_of_attempt("none")) is None

    def listed(self, query: JobQuery) -> list[Job]:
        """The whole jobs of a list."""
        found = self.wait(self.store.jobs(query))
        return [self.wait(self.store.job(job.call.job_id)) for job in found]

    def test_a_list_has_the_beginning_of_each_job(self) -> None:
        """No input, no note, and of an output as much as is shown; all else of it."""
        device = self.registered()
        fanout, rows = a_fanout(device.device_id)
        self.wait(self.store.accept_fanout(fanout, rows))
        jobs = [dispatch(a_job(f"j{n}", device.device_id, NOW_MS + n)) for n in range(4)]
        outputs = [b'"' + b"x" * size + b'"' for size in (0, LISTED_OUTPUT - 2, LISTED_OUTPUT)]
        for job, output in zip(jobs, outputs, strict=False):
            job_machine(job).succeeded(report(job, output_json=output), NOW_MS)
            job_machine(job).failed(report(job, Outcome.FAILED), NOW_MS)
        for job in jobs:
            self.wait(self.store.accept(job))
        for query in (JobQuery(), JobQuery(states=UNFINISHED), JobQuery(capability="echo")):
            for job in self.wait(self.store.jobs(query)):
                whole = self.wait(self.store.job(job.call.job_id))
                assert whole.call.input_json and len(whole.notes) == whole.final
                beginning = whole.output_json and whole.output_json[:LISTED_OUTPUT]
                call = attrs.evolve(whole.call, input_json=b"")
                assert job == attrs.evolve(whole, call=call, output_json=beginning, notes=[])
        (cut,) = self.wait(self.store.jobs(JobQuery(before=jobs[3].call.job_id, limit=1)))
        assert cut.output_json == b'"' + b"x" * (LISTED_OUTPUT - 1)

    def test_jobs_are_listed_newest_first(self) -> None:
        """States, device, limit and cursor of a query are kept."""
        mine, theirs = DeviceId(ulid("mine")), DeviceId(ulid("theirs"))
        jobs = [a_job(f"j{n}", mine if n % 2 else theirs, NOW_MS + n) for n in range(6)]
        job_machine(jobs[5]).cancel_requested(NOW_MS)
        for job in jobs:
            self.wait(self.store.accept(job))
        newest = jobs[::-1]
        assert self.listed(JobQuery()) == newest
        page = self.listed(JobQuery(limit=2))
        assert page == newest[:2]
        cursor = JobQuery(limit=2, before=page[-1].call.job_id)
        assert self.listed(cursor) == newest[2:4]
        assert self.listed(JobQuery(device_id=mine)) == newest[::2]
        final = JobQuery(states=frozenset({JobState.CANCELLED}))
        assert self.listed(final) == [jobs[5]]
        running = JobQuery(states=UNFINISHED, device_id=mine)
        assert self.listed(running) == newest[2::2]
        assert self.listed(JobQuery(states=frozenset())) == []

    def test_unfinished_jobs_are_those_not_final(self) -> None:
        """What a gateway takes up again when it starts, oldest first."""
        device = self.registered()
        queued, sent = a_job("q", device.device_id, NOW_MS + 1), a_job("s", device.device_id)
        done = succeed(dispatch(a_job("d", device.device_id)))
        for job in (queued, dispatch(sent), done):
            self.wait(self.store.accept(job))
        assert self.wait(self.store.unfinished()) == [sent, queued]

    def test_jobs_are_found_by_the_beginning_of_their_random_part(self) -> None:
        """At most ten, newest first."""
        entropyless = "0" * 12
        ids = [JobId(f"01H000000{n:X}ABCD{entropyless}") for n in range(12)]
        for job_id in ids:
            self.wait(self.store.accept(a_job("j", DeviceId(ulid("d")), job_id=job_id)))
        assert list(self.wait(self.store.find_jobs("ABCD"))) == ids[::-1][:10]
        assert list(self.wait(self.store.find_jobs("ABCE"))) == []

    def test_jobs_are_listed_by_what_was_asked_and_by_whom(self) -> None:
        """Capability, caller and fan-out filter alone, together and beyond a cursor."""
        device = DeviceId(ulid("d"))
        fanout, rows = a_fanout(device, device, at_ms=NOW_MS + 9)
        self.wait(self.store.accept_fanout(fanout, rows))
        jobs = [
            a_job("a", device, NOW_MS + 1, capability="system.health"),
            a_job("b", device, NOW_MS + 2, requested_by="operator:bo"),
            a_job("c", device, NOW_MS + 3, capability="system.health"),
            a_job("e", device, NOW_MS + 4, capability="system.health", requested_by="operator:bo"),
        ]
        job_machine(jobs[2]).cancel_requested(NOW_MS)
        for job in jobs:
            self.wait(self.store.accept(job))
        a, b, c, e = jobs
        health = JobQuery(capability="system.health")
        assert self.listed(health) == [e, c, a]
        page = attrs.evolve(health, before=e.call.job_id, limit=1)
        assert self.listed(page) == [c]
        assert self.listed(attrs.evolve(health, states=UNFINISHED)) == [e, a]
        assert self.listed(JobQuery(requested_by="operator:bo")) == [e, b]
        both = attrs.evolve(health, requested_by="operator:bo", device_id=device)
        assert self.listed(both) == [e]
        newest = sorted(rows, key=lambda row: row.call.job_id, reverse=True)
        of_fanout = JobQuery(fanout_id=fanout.fanout_id)
        assert self.listed(of_fanout) == newest
        rest = attrs.evolve(of_fanout, before=newest[0].call.job_id)
        assert self.listed(rest) == newest[1:]
        assert self.listed(JobQuery(fanout_id=FanoutId(ulid("x")))) == []

    # -- idempotency keys -------------------------------------------------------------------------

    def test_a_key_is_kept_with_its_job(self) -> None:
        """It tells what it was used for, in its own scope only."""
        job = a_job("j", DeviceId(ulid("d")), idempotency_key="k")
        self.wait(self.store.accept(job, KEY))
        use = KeyUse(KEY.digest, job_id=job.call.job_id)
        assert self.wait(self.store.key_use(KEY.scope, KEY.key)) == use
        assert self.wait(self.store.key_use("other", KEY.key)) is None
        other = a_job("o", DeviceId(ulid("d")), idempotency_key="k")
        self.wait(self.store.accept(other, attrs.evolve(KEY, scope="other")))
        assert self.wait(self.store.job(job.call.job_id)) == job

    def test_of_concurrent_calls_with_a_key_the_first_is_kept(self) -> None:
        """The others are refused and leave nothing behind; their neighbours are kept."""
        fanout, rows = a_fanout(DeviceId(ulid("d")))
        jobs = [a_job(name, DeviceId(ulid("d"))) for name in ("a", "b", "c", "e", "f")]
        keys = [None, KEY, KEY, None, attrs.evolve(KEY, digest="0" * 64)]
        results = [self.store.accept(job, key) for job, key in zip(jobs, keys, strict=True)]
        results.append(self.store.accept_fanout(fanout, rows, KEY))
        for number, result in enumerate(results):
            if number in (2, 4, 5):
                with pytest.raises(AlreadyKept):
                    self.wait(result)
            else:
                self.wait(result)
        kept = {job.call.job_id for job in self.wait(self.store.unfinished())}
        assert kept == {jobs[n].call.job_id for n in (0, 1, 3)}
        use = self.wait(self.store.key_use(KEY.scope, KEY.key))
        assert use == KeyUse(KEY.digest, job_id=jobs[1].call.job_id)
        assert self.wait(self.store.fanout(fanout.fanout_id)) is None

    def test_a_call_that_is_refused_does_not_use_its_key(self) -> None:
        """The next call may use it."""
        stale = dispatch(a_job("stale", self.registered().device_id), epoch=9)
        with pytest.raises(NotRegistered):
            self.wait(self.store.accept(stale, KEY))
        assert self.wait(self.store.key_use(KEY.scope, KEY.key)) is None
        self.wait(self.store.accept(a_job("j", DeviceId(ulid("d"))), KEY))

    # -- fan-outs ---------------------------------------------------------------------------------

    def test_a_fanout_is_kept_with_its_rows(self) -> None:
        """Each row is a job with the fan-out's input, or its own; the key tells the fan-out."""
        device = self.registered()
        fanout, rows = a_fanout(device.device_id, DeviceId(ulid("x")), DeviceId(ulid("y")))
        own = attrs.evolve(rows[1].call, input_json=b'{"text":"other"}')
        rows[1] = attrs.evolve(rows[1], call=own, waiting_for=BATCH)
        job_machine(rows[2]).refused("device_offline", "y is offline.", NOW_MS)
        self.wait(self.store.accept_fanout(fanout, rows, KEY))
        assert self.wait(self.store.fanout(fanout.fanout_id)) == fanout
        assert self.wait(self.store.fanout(FanoutId(ulid("none")))) is None
        use = KeyUse(KEY.digest, fanout_id=fanout.fanout_id)
        assert self.wait(self.store.key_use(KEY.scope, KEY.key)) == use
        for row in rows:
            assert self.wait(self.store.job(row.call.job_id)) == row
        queued = sorted(rows[:2], key=lambda row: row.call.job_id)
        assert self.wait(self.store.unfinished()) == queued
        self.wait(self.store.update(dispatch(rows[0])))
        self.wait(self.store.update(succeed(rows[0])))
        assert self.wait(self.store.job(rows[0].call.job_id)) == rows[0]

    def test_a_fanout_is_read_before_the_method_returns(self) -> None:
        """What happens to its rows after it was handed in is not kept."""
        fanout, rows = a_fanout(DeviceId(ulid("d")))
        accepted = self.store.accept_fanout(fanout, rows)
        job_machine(rows[0]).cancel_requested(NOW_MS)
        job_id = rows.pop().call.job_id
        self.wait(accepted)
        assert self.wait(self.store.job(job_id)).state is JobState.QUEUED

    def test_a_fanout_is_kept_whole_or_not_at_all(self) -> None:
        """A row, a fan-out or a key that is there already refuses all of it."""
        device = DeviceId(ulid("d"))
        fanout, rows = a_fanout(*[device] * 300)
        self.wait(self.store.accept(a_job("taken", device, job_id=rows[-1].call.job_id)))
        other, others = a_fanout(device, device, name="other")
        for refused in (
            self.store.accept_fanout(fanout, rows, KEY),
            self.store.accept_fanout(other, [others[0], others[0]], KEY),
        ):
            with pytest.raises(AlreadyKept):
                self.wait(refused)
        assert self.wait(self.store.fanout(fanout.fanout_id)) is None
        assert self.wait(self.store.key_use(KEY.scope, KEY.key)) is None
        assert len(self.wait(self.store.unfinished())) == 1
        self.wait(self.store.accept_fanout(other, others))
        twice = [a_job("new", device, fanout_id=other.fanout_id)]
        with pytest.raises(AlreadyKept):
            self.wait(self.store.accept_fanout(other, twice))
        assert len(self.wait(self.store.unfinished())) == 3

    def test_a_tally_counts_what_became_of_the_rows(self) -> None:
        """Failures are the rows that a device was asked to run and that did not work out."""
        device = self.registered().device_id
        fanout, rows = a_fanout(*[device] * 8)
        job_machine(rows[0]).refused("device_offline", "It is offline.", NOW_MS)
        job_machine(rows[1]).cancel_requested(NOW_MS)
        self.wait(self.store.accept_fanout(fanout, rows))
        succeed(dispatch(rows[2]))
        for number, outcome in ((3, Outcome.FAILED), (4, Outcome.REJECTED), (5, Outcome.CANCELLED)):
            machine = job_machine(dispatch(rows[number]))
            report_to(machine, rows[number], report(rows[number], outcome), NOW_MS)
        dispatch(rows[6])
        for row in rows[2:7]:
            self.wait(self.store.update(row))
        tally = self.wait(self.store.tally(fanout.fanout_id))
        assert tally.counts == {
            JobState.QUEUED: 1,
            JobState.DISPATCHED: 1,
            JobState.SUCCEEDED: 1,
            JobState.FAILED: 1,
            JobState.REJECTED: 2,
            JobState.CANCELLED: 2,
        }
        assert tally.failures == sum(map(is_failure, rows)) == 2
        assert self.wait(self.store.tally(FanoutId(ulid("none")))) == Tally({}, 0)

    def test_fanouts_are_found_by_the_beginning_of_their_random_part(self) -> None:
        """At most ten, newest first, and no jobs among them."""
        ids = [FanoutId(f"01H000000{n:X}ABCD{'0' * 12}") for n in range(12)]
        for fanout_id in ids:
            fanout, _ = a_fanout(name=fanout_id)
            self.wait(self.store.accept_fanout(attrs.evolve(fanout, fanout_id=fanout_id), []))
        self.wait(self.store.accept(a_job("j", DeviceId(ulid("d")), job_id=JobId(ids[0]))))
        assert list(self.wait(self.store.find_fanouts("ABCD"))) == ids[::-1][:10]
        assert list(self.wait(self.store.find_fanouts("ABCE"))) == []

    def test_rows_that_wait_end_with_their_device(self) -> None:
        """For their turn or for their next attempt: a revocation ends both."""
        device = self.registered()
        fanout, rows = a_fanout(device.device_id, device.device_id)
        rows[0].waiting_for = BATCH
        self.wait(self.store.accept_fanout(fanout, rows))
        self.wait(self.store.update(dispatch(rows[1])))
        job_machine(rows[1]).retried(NOW_MS + 500)
        self.wait(self.store.update(rows[1]))
        self.wait(self.store.revoke(device.device_id, "ana", "lost", NOW_MS))
        assert self.wait(self.store.unfinished()) == []
        tally = self.wait(self.store.tally(fanout.fanout_id))
        assert tally == Tally({JobState.REJECTED: 2}, 1)

    # -- retention --------------------------------------------------------------------------------

    def ended(self, name: str, at_ms: int, **changes: Any) -> Job:
        job = a_job(name, DeviceId(ulid("d")), at_ms, **changes)
        job_machine(job).cancel_requested(at_ms)
        return job

    def kept_jobs(self) -> list[Job]:
        return self.listed(JobQuery())

    def test_the_oldest_ended_jobs_are_forgotten_first(self) -> None:
        """Those submitted before a time, as many as the limit says; unfinished ones stay."""
        jobs = [self.ended(f"j{n}", NOW_MS + n) for n in range(6)]
        jobs[1] = a_job("unfinished", DeviceId(ulid("d")), NOW_MS + 1)
        for job in jobs:
            self.wait(self.store.accept(job))
        assert self.wait(self.store.forget_jobs(NOW_MS + 4, 100, 2)) == 2
        assert self.kept_jobs() == [jobs[n] for n in (5, 4, 3, 1)]
        assert self.wait(self.store.forget_jobs(NOW_MS + 4, 100, 2)) == 1
        assert self.wait(self.store.forget_jobs(NOW_MS + 4, 100, 2)) == 0
        assert self.kept_jobs() == [jobs[n] for n in (5, 4, 1)]
        assert self.wait(self.store.forget_jobs(-1, 100, 2)) == 0

    def test_jobs_beyond_the_newest_are_forgotten(self) -> None:
        """However young they are; an unfinished one counts and stays."""
        jobs = [self.ended(f"j{n}", NOW_MS + n) for n in range(6)]
        jobs[0] = a_job("unfinished", DeviceId(ulid("d")), NOW_MS)
        for job in jobs:
            self.wait(self.store.accept(job))
        assert self.wait(self.store.forget_jobs(0, 6, 100)) == 0
        assert self.wait(self.store.forget_jobs(0, 5, 100)) == 0
        assert self.wait(self.store.forget_jobs(NOW_MS + 2, 2, 100)) == 3
        assert self.kept_jobs() == [jobs[n] for n in (5, 4, 0)]

    def test_what_hangs_on_a_job_is_forgotten_with_it(self) -> None:
        """Attempts, all of them, late reports and an old key; those of other jobs stay."""
        device = self.registered()
        jobs = [dispatch(a_job(name, device.device_id, NOW_MS - DAY_MS)) for name in ("a", "b")]
        first = jobs[0].attempt
        assert first is not None
        for number, job in enumerate(jobs):
            self.wait(self.store.accept(job, attrs.evolve(KEY, key=f"{number}")))
        job_machine(jobs[0]).retried(NOW_MS)
        succeed(dispatch(jobs[0]))
        job_machine(jobs[0]).failed(report(jobs[0], Outcome.FAILED), NOW_MS)
        self.wait(self.store.update(jobs[0]))
        assert self.wait(self.store.forget_jobs(NOW_MS, 100, 100)) == 1
        assert self.kept_jobs() == [jobs[1]]
        for attempt in (first, jobs[0].attempt):
            assert attempt is not None
            assert self.wait(self.store.job_of_attempt(attempt.attempt_id)) is None
        assert self.wait(self.store.key_use(KEY.scope, "0")) is None
        assert self.wait(self.store.key_use(KEY.scope, "1")) is not None
        self.wait(self.store.accept(self.ended("again", NOW_MS), attrs.evolve(KEY, key="0")))

    def test_a_young_key_keeps_its_call(self) -> None:
        """A job, or all rows of a fan-out, until the key is a day old."""
        device = DeviceId(ulid("d"))
        fanout, rows = a_fanout(device, device)
        for row in rows:
            job_machine(row).cancel_requested(NOW_MS)
        self.wait(self.store.accept_fanout(fanout, rows, KEY))
        job = self.ended("j", NOW_MS)
        self.wait(self.store.accept(job, attrs.evolve(KEY, key="other")))
        self.wait(self.store.accept(self.ended("plain", NOW_MS)))
        assert self.wait(self.store.forget_jobs(NOW_MS + 1, 0, 100)) == 1
        self.now_is(NOW_MS + DAY_MS - 1)
        assert self.wait(self.store.forget_jobs(NOW_MS + 1, 0, 100)) == 0
        self.now_is(NOW_MS + DAY_MS)
        assert self.wait(self.store.forget_jobs(NOW_MS + 1, 0, 100)) == 3
        assert self.kept_jobs() == []

    def test_the_rows_of_a_fanout_stay_until_the_last_has_ended(self) -> None:
        """What became of them decides whether the others start; other jobs go."""
        device = DeviceId(ulid("d"))
        fanout, rows = a_fanout(device, device, device)
        other, others = a_fanout(device, device, name="other")
        for row in (*rows[1:], *others):
            job_machine(row).cancel_requested(NOW_MS)
        self.wait(self.store.accept_fanout(fanout, rows))
        self.wait(self.store.accept_fanout(other, others))
        self.wait(self.store.accept(self.ended("plain", NOW_MS)))
        tally = self.wait(self.store.tally(fanout.fanout_id))
        assert self.wait(self.store.forget_jobs(NOW_MS + 1, 0, 100)) == 3
        assert self.wait(self.store.forget_jobs(NOW_MS + 1, 0, 100)) == 0
        assert self.wait(self.store.tally(fanout.fanout_id)) == tally
        job_machine(rows[0]).cancel_requested(NOW_MS)
        self.wait(self.store.update(rows[0]))
        assert self.wait(self.store.forget_jobs(NOW_MS + 1, 0, 100)) == 3
        assert self.kept_jobs() == []

    def test_a_fanout_goes_with_its_last_row(self) -> None:
        """And its key with it; until then both stay."""
        device = DeviceId(ulid("d"))
        fanout, rows = a_fanout(device, device, device)
        for row in rows:
            job_machine(row).cancel_requested(NOW_MS)
        self.wait(self.store.accept_fanout(fanout, rows, KEY))
        self.wait(self.store.accept(self.ended("before", NOW_MS - 1)))
        self.now_is(NOW_MS + DAY_MS)
        assert self.wait(self.store.forget_jobs(NOW_MS + 1, 100, 3)) == 3
        assert self.wait(self.store.fanout(fanout.fanout_id)) == fanout
        assert self.wait(self.store.key_use(KEY.scope, KEY.key)) is not None
        (left,) = self.kept_jobs()
        assert left.call.input_json == fanout.input_json
        assert self.wait(self.store.forget_jobs(NOW_MS + 1, 100, 3)) == 1
        assert self.wait(self.store.fanout(fanout.fanout_id)) is None
        assert self.wait(self.store.key_use(KEY.scope, KEY.key)) is None

    # -- names and labels -------------------------------------------------------------------------

    def test_name_and_labels_change(self) -> None:
        """What is set is set, what is taken away is away, the rest stays."""
        device = self.registered()
        labels = {"floor": "2", "canary": ""}
        change = DeviceChange(device.device_id, "bench", labels, frozenset({"room", "none"}))
        changed = self.wait(self.store.change(change))
        assert changed == attrs.evolve(device, name="bench", labels=labels)
        assert self.wait(self.store.device(device.device_id)) == changed
        change = DeviceChange(device.device_id, labels={"canary": "x", "room": "b"})
        changed = self.wait(self.store.change(change))
        assert changed.labels == {"floor": "2", "canary": "x", "room": "b"}
        assert changed.name == "bench"
        assert self.wait(self.store.change(DeviceChange(device.device_id))) == changed

    def test_a_name_is_given_once(self) -> None:
        """Another device's name is refused, also a revoked one's; one's own is not."""
        device, other = self.registered(), self.registered("lab-8", "c2")
        self.wait(self.store.revoke(other.device_id, "ana", "lost", NOW_MS))
        taken = DeviceChange(device.device_id, name="lab-8", labels={"x": "y"})
        with pytest.raises(NameTaken):
            self.wait(self.store.change(taken))
        assert self.wait(self.store.device(device.device_id)) == device
        own = DeviceChange(device.device_id, name=device.name)
        assert self.wait(self.store.change(own)) == device

    def test_what_cannot_be_changed_is_said(self) -> None:
        """No such device, and more labels than a device may have."""
        with pytest.raises(NotFound):
            self.wait(self.store.change(DeviceChange(DeviceId(ulid("ghost")), name="x")))
        device = self.registered()
        labels = {f"l{n}": "" for n in range(MAX_LABELS)}
        with pytest.raises(Malformed) as caught:
            self.wait(self.store.change(DeviceChange(device.device_id, labels=labels)))
        assert caught.value.field == "labels"
        exactly = DeviceChange(device.device_id, labels=labels, unlabel=frozenset({"room"}))
        assert len(self.wait(self.store.change(exactly)).labels) == MAX_LABELS
