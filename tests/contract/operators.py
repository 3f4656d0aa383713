"""What every store keeps of operators, their certificates and their invitations."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from palyra.core.auditlog import AuditQuery
from palyra.core.identifiers import Fingerprint, sha256_hex
from palyra.core.operators import (
    Enrolled,
    Invitation,
    InvitationState,
    Operator,
    OperatorCertificate,
    OperatorEnrolment,
    OperatorState,
    Role,
)
from palyra.errors import InvitationInvalid, NotFound, OperatorNameTaken, OperatorRevoked
from tests.contract.ways import Ways
from tests.store.samples import DAY_MS, NOW_MS, ulid


def an_invitation(name: str = "bo", token: str = "t", **changes: Any) -> Invitation:
    """An open invitation."""
    made = Invitation(
        token_digest=sha256_hex(token.encode()),
        name=name,
        role=Role.OPERATOR,
        invited_by="ana",
        created_at_ms=NOW_MS,
        expires_at_ms=NOW_MS + DAY_MS,
    )
    return attrs.evolve(made, **changes)


def an_operator_certificate(
    operator_id: str, csr: str = "csr", **changes: Any
) -> OperatorCertificate:
    """A certificate that answers a CSR."""
    made = OperatorCertificate(
        fingerprint=Fingerprint(sha256_hex(f"{operator_id} {csr}".encode())),
        operator_id=operator_id,
        serial="7b",
        pem="PEM",
        csr_digest=sha256_hex(csr.encode()),
        not_before_ms=NOW_MS,
        not_after_ms=NOW_MS + 30 * DAY_MS,
        issued_at_ms=NOW_MS,
        issuer=sha256_hex(b"ca"),
    )
    return attrs.evolve(made, **changes)


def an_enrolment(invitation: Invitation, csr: str = "csr", seed: str = "bo") -> OperatorEnrolment:
    """Somebody accepts an invitation with a CSR."""
    operator_id = ulid(seed)
    certificate = an_operator_certificate(operator_id, csr)
    return OperatorEnrolment(
        invitation.token_digest, operator_id, certificate, NOW_MS + 5, "192.0.2.7"
    )


class OperatorsContract(Ways):
    """Part of :class:`tests.contract.store.StoreContract`."""

    def enrolled(self, name: str = "bo", token: str = "t") -> Enrolled:
        """An operator who has accepted an invitation."""
        invitation = an_invitation(name, token)
        self.wait(self.store.invite(invitation))
        enrolled: Enrolled = self.wait(
            self.store.enrol_operator(an_enrolment(invitation, seed=name))
        )
        return enrolled

    def test_an_invitation_is_found_by_its_token_until_it_expires(self) -> None:
        """By SHA-256 only; one that is over is not listed."""
        invitation = an_invitation()
        self.wait(self.store.invite(invitation))
        assert self.wait(self.store.invitation(invitation.token_digest)) == invitation
        assert self.wait(self.store.invitation(sha256_hex(b"other"))) is None
        assert self.wait(self.store.invitations()) == [invitation]
        self.now_is(invitation.expires_at_ms)
        assert self.wait(self.store.invitations()) == []

    def test_a_second_invitation_withdraws_the_first(self) -> None:
        """A line that went astray is worth nothing once another was made."""
        first, second = an_invitation(), an_invitation(token="u", role=Role.VIEWER)
        self.wait(self.store.invite(first))
        self.wait(self.store.invite(second))
        kept = self.wait(self.store.invitation(first.token_digest))
        assert kept is not None and kept.state is InvitationState.WITHDRAWN
        assert self.wait(self.store.invitations()) == [second]
        with pytest.raises(InvitationInvalid):
            self.wait(self.store.enrol_operator(an_enrolment(first)))

    def test_invitations_that_are_long_over_are_forgotten(self) -> None:
        """They do not pile up."""
        first = an_invitation()
        self.wait(self.store.invite(first))
        later = NOW_MS + 40 * DAY_MS
        self.wait(
            self.store.invite(
                an_invitation("cy", "u", created_at_ms=later, expires_at_ms=later + DAY_MS)
            )
        )
        assert self.wait(self.store.invitation(first.token_digest)) is None

    def test_an_accepted_invitation_makes_an_operator(self) -> None:
        """Name, role and owner are the invitation's; the certificate is on record with it."""
        invitation = an_invitation(owner="local:1000")
        self.wait(self.store.invite(invitation))
        enrolment = an_enrolment(invitation)
        enrolled = self.wait(self.store.enrol_operator(enrolment))
        operator = enrolled.operator
        assert (operator.name, operator.role, operator.owner) == ("bo", Role.OPERATOR, "local:1000")
        assert (operator.created_by, operator.created_at_ms) == ("ana", NOW_MS + 5)
        assert enrolled.certificate == enrolment.certificate
        assert self.wait(self.store.operators()) == [operator]
        assert self.wait(self.store.operator_certificates()) == [enrolment.certificate]
        assert self.wait(self.store.invitations()) == []

    def test_the_same_csr_gets_the_same_answer(self) -> None:
        """A lost answer is asked for again; another CSR has come too late."""
        invitation = an_invitation()
        self.wait(self.store.invite(invitation))
        first = self.wait(self.store.enrol_operator(an_enrolment(invitation)))
        again = attrs.evolve(an_enrolment(invitation, seed="other"), now_ms=NOW_MS + 2 * DAY_MS)
        again = attrs.evolve(
            again, certificate=an_operator_certificate(again.operator_id, serial="8c")
        )
        assert self.wait(self.store.enrol_operator(again)) == first
        with pytest.raises(InvitationInvalid):
            self.wait(self.store.enrol_operator(an_enrolment(invitation, "other", "other")))
        assert self.wait(self.store.operators()) == [first.operator]

    def test_the_answer_ends_with_its_operator(self) -> None:
        """Whoever was revoked does not come back by an old invitation."""
        enrolled = self.enrolled()
        self.wait(self.store.revoke_operator(enrolled.operator.operator_id, "ana", "", NOW_MS))
        with pytest.raises(InvitationInvalid):
            self.wait(self.store.enrol_operator(an_enrolment(an_invitation())))

    def test_an_invitation_ends_with_its_time(self) -> None:
        """Also where nobody looked meanwhile."""
        invitation = an_invitation(expires_at_ms=NOW_MS + 5)
        self.wait(self.store.invite(invitation))
        with pytest.raises(InvitationInvalid):
            self.wait(self.store.enrol_operator(an_enrolment(invitation)))
        assert self.wait(self.store.operators()) == []

    def test_an_unknown_invitation_is_refused_alike(self) -> None:
        """Whether it ever was one is not told."""
        with pytest.raises(InvitationInvalid):
            self.wait(self.store.enrol_operator(an_enrolment(an_invitation())))

    def test_a_name_is_of_one_active_operator(self) -> None:
        """It is free again once they were revoked."""
        bo = self.enrolled().operator
        with pytest.raises(OperatorNameTaken):
            self.wait(self.store.invite(an_invitation(token="u")))
        self.wait(self.store.revoke_operator(bo.operator_id, "ana", "left", NOW_MS))
        other = an_invitation(token="u")
        self.wait(self.store.invite(other))
        self.wait(self.store.enrol_operator(an_enrolment(other, "csr 2", "second")))
        states = {each.state for each in self.wait(self.store.operators())}
        assert states == {OperatorState.ACTIVE, OperatorState.REVOKED}

    def test_two_certificates_of_an_operator_are_kept(self) -> None:
        """The newest: whoever renews keeps the one in use until the next renewal."""
        bo = self.enrolled()
        second = an_operator_certificate(bo.operator.operator_id, "2", issued_at_ms=NOW_MS + 1)
        third = an_operator_certificate(bo.operator.operator_id, "3", issued_at_ms=NOW_MS + 2)
        assert self.wait(self.store.renew_operator(second, NOW_MS)) == second
        assert self.wait(self.store.operator_certificates()) == [bo.certificate, second]
        assert self.wait(self.store.renew_operator(third, NOW_MS)) == third
        assert self.wait(self.store.operator_certificates()) == [second, third]

    def test_a_renewal_that_is_repeated_changes_nothing(self) -> None:
        """The same CSR gets the same certificate."""
        bo = self.enrolled()
        second = an_operator_certificate(bo.operator.operator_id, "2", issued_at_ms=NOW_MS + 1)
        again = attrs.evolve(second, fingerprint=sha256_hex(b"again"), serial="9")
        self.wait(self.store.renew_operator(second, NOW_MS))
        assert self.wait(self.store.renew_operator(again, NOW_MS)) == second
        assert len(self.wait(self.store.operator_certificates())) == 2

    def test_certificates_that_ran_out_are_not_given(self) -> None:
        """Nobody needs them at a start."""
        bo = self.enrolled()
        self.now_is(bo.certificate.not_after_ms)
        assert self.wait(self.store.operator_certificates()) == [bo.certificate]
        self.now_is(bo.certificate.not_after_ms + 1)
        assert self.wait(self.store.operator_certificates()) == []

    def test_a_role_changes(self) -> None:
        """It is what the store says from then on; the same one again is no change."""
        bo = self.enrolled().operator
        now = self.wait(self.store.change_role(bo.operator_id, Role.ADMIN, NOW_MS))
        assert now == attrs.evolve(bo, role=Role.ADMIN)
        assert self.wait(self.store.change_role(bo.operator_id, Role.ADMIN, NOW_MS)) == now
        assert self.wait(self.store.operators()) == [now]

    def test_a_revocation_says_who_when_and_why(self) -> None:
        """It stands; the certificates are kept, so that they can be named as revoked."""
        bo = self.enrolled()
        operator_id = bo.operator.operator_id
        (now,) = self.wait(self.store.revoke_operator(operator_id, "ana", "left", NOW_MS + 9))
        assert (now.state, now.revoked_by, now.revoke_reason, now.revoked_at_ms) == (
            OperatorState.REVOKED,
            "ana",
            "left",
            NOW_MS + 9,
        )
        again = self.wait(self.store.revoke_operator(operator_id, "cy", "twice", NOW_MS + 10))
        assert again == [now]
        assert self.wait(self.store.operator_certificates()) == [bo.certificate]

    def a_program_of(self, owner: str, name: str) -> Operator:
        """An operator that somebody answers for."""
        invitation = an_invitation(name, f"token of {name}", owner=owner)
        self.wait(self.store.invite(invitation))
        enrolment = an_enrolment(invitation, f"csr of {name}", name)
        made: Enrolled = self.wait(self.store.enrol_operator(enrolment))
        return made.operator

    def test_programs_end_with_whoever_answers_for_them(self) -> None:
        """Theirs and nobody else's, each with its row in the audit log; an invitation for one
        more, and what a program invited, are withdrawn."""
        bo = self.enrolled().operator
        robots = [self.a_program_of(bo.operator_id, name) for name in ("robot-a", "robot-b")]
        robots.sort(key=lambda each: each.operator_id)
        other = self.a_program_of("local:1000", "robot-c")
        for name, changes in {
            "robot-d": {"owner": bo.operator_id},
            "cy": {"invited_by": "robot-a"},
        }.items():
            self.wait(self.store.invite(an_invitation(name, f"token of {name}", **changes)))
        now = self.wait(self.store.revoke_operator(bo.operator_id, "ana", "left", NOW_MS + 9))
        assert [each.operator_id for each in now] == [each.operator_id for each in (bo, *robots)]
        assert {each.state for each in now} == {OperatorState.REVOKED}
        active = [
            each for each in self.wait(self.store.operators()) if each.state is OperatorState.ACTIVE
        ]
        assert active == [other]
        assert self.wait(self.store.invitations()) == []
        page = self.wait(self.store.audit_rows(AuditQuery(50, after_seq=0)))
        told = [row.line for row in page.rows if row.line.action == "operator.revoked"]
        assert [each.subject_name for each in told] == [each.name for each in now]
        assert {each.reason for each in told} == {"left"}

    def test_a_program_that_outlived_its_owner_ends_with_the_next_revocation(self) -> None:
        """Asked again, what is still active ends, and nothing else changes."""
        bo = self.enrolled().operator
        self.wait(self.store.revoke_operator(bo.operator_id, "ana", "", NOW_MS))
        robot = self.a_program_of(bo.operator_id, "robot")
        before, ended = self.wait(self.store.revoke_operator(bo.operator_id, "cy", "", NOW_MS + 1))
        assert (before.revoked_by, ended.operator_id) == ("ana", robot.operator_id)

    @pytest.mark.parametrize("leaves", [True, False])
    def test_an_invitation_ends_with_the_right_to_invite(self, leaves: bool) -> None:
        """Neither whoever was revoked nor whoever is no admin any more has let anybody in."""
        bo = self.enrolled().operator
        self.wait(self.store.change_role(bo.operator_id, Role.ADMIN, NOW_MS))
        theirs = an_invitation("cy", "their token", invited_by=bo.name)
        self.wait(self.store.invite(theirs))
        ours = an_invitation("di", "our token")
        self.wait(self.store.invite(ours))
        if leaves:
            self.wait(self.store.revoke_operator(bo.operator_id, "ana", "", NOW_MS))
        else:
            self.wait(self.store.change_role(bo.operator_id, Role.APPROVER, NOW_MS))
        assert self.wait(self.store.invitations()) == [ours]
        with pytest.raises(InvitationInvalid):
            self.wait(self.store.enrol_operator(an_enrolment(theirs, "3", "cy")))

    def test_nothing_becomes_of_a_revoked_operator(self) -> None:
        """Neither a role nor a certificate."""
        bo = self.enrolled().operator
        self.wait(self.store.revoke_operator(bo.operator_id, "ana", "", NOW_MS))
        with pytest.raises(OperatorRevoked):
            self.wait(self.store.change_role(bo.operator_id, Role.ADMIN, NOW_MS))
        with pytest.raises(OperatorRevoked):
            certificate = an_operator_certificate(bo.operator_id, "2")
            self.wait(self.store.renew_operator(certificate, NOW_MS))

    def test_nobody_is_not_changed(self) -> None:
        """An id of no operator is said to be that."""
        with pytest.raises(NotFound):
            self.wait(self.store.change_role("x", Role.ADMIN, NOW_MS))
        with pytest.raises(NotFound):
            self.wait(self.store.revoke_operator("x", "ana", "", NOW_MS))
        with pytest.raises(NotFound):
            self.wait(self.store.renew_operator(an_operator_certificate("x"), NOW_MS))

    def test_every_change_is_in_the_audit_log(self) -> None:
        """Each with its operator; what changed nothing is not in it."""
        bo = self.enrolled().operator
        second = an_operator_certificate(bo.operator_id, "2")
        self.wait(self.store.renew_operator(second, NOW_MS))
        self.wait(self.store.renew_operator(second, NOW_MS))
        for _ in range(2):
            self.wait(self.store.change_role(bo.operator_id, Role.ADMIN, NOW_MS))
        for _ in range(2):
            self.wait(self.store.revoke_operator(bo.operator_id, "ana", "left", NOW_MS))
        page = self.wait(self.store.audit_rows(AuditQuery(50, after_seq=0)))
        lines = [row.line for row in page.rows if row.line.action.startswith("operator.")]
        assert [each.action for each in lines] == [
            "operator.invited",
            "operator.accepted",
            "operator.renewed",
            "operator.role_changed",
            "operator.revoked",
        ]
        assert {each.subject_name for each in lines} == {"bo"}
        accepted, revoked = lines[1], lines[-1]
        assert (accepted.who, accepted.operator_id, accepted.via) == (
            "bo",
            bo.operator_id,
            "192.0.2.7",
        )
        assert (revoked.subject, revoked.reason) == (f"operator:{bo.operator_id}", "left")
