"""What becomes of operators, their invitations and certificates, the same for every store, and
what the audit log says of it.

Pure functions, as in :mod:`palyra.store.rules`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import attrs

from palyra.core.audit import AuditEntry
from palyra.core.operators import (
    MAX_LIVE_CERTIFICATES,
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

KEPT_INVITATIONS_MS = 30 * 86_400_000
"""How long an invitation that is over is kept: whoever accepted it may ask for the answer again."""


def present(operator: Operator | None, operator_id: str) -> Operator:
    """The operator, if there is one and they are active."""
    if operator is None:
        raise NotFound("operator", operator_id)
    if operator.state is not OperatorState.ACTIVE:
        raise OperatorRevoked(operator.name)
    return operator


def refuse_taken(name: str, active_names: Collection[str]) -> None:
    """A name is that of one active operator."""
    if name in active_names:
        raise OperatorNameTaken(name)


def accepted(
    kept: Invitation | None, active_names: Collection[str], enrolment: OperatorEnrolment
) -> tuple[Invitation, Enrolled]:
    """The invitation as it is from now on, and whom it made an operator."""
    if kept is None or not kept.usable(enrolment.now_ms):
        raise InvitationInvalid()
    refuse_taken(kept.name, active_names)
    operator = Operator(
        operator_id=enrolment.operator_id,
        name=kept.name,
        role=kept.role,
        created_at_ms=enrolment.now_ms,
        created_by=kept.invited_by,
        owner=kept.owner,
    )
    used = attrs.evolve(
        kept,
        state=InvitationState.ACCEPTED,
        operator_id=operator.operator_id,
        csr_digest=enrolment.certificate.csr_digest,
    )
    return used, Enrolled(operator, enrolment.certificate)


def repeated(
    kept: Invitation | None,
    operator: Operator | None,
    certificates: Iterable[OperatorCertificate],
    csr_digest: str,
) -> Enrolled | None:
    """The answer that the same CSR got before; None: this one is new.

    :raises InvitationInvalid: the invitation was accepted with another CSR.
    """
    if kept is None or kept.state is not InvitationState.ACCEPTED:
        return None
    theirs = next((each for each in certificates if each.csr_digest == csr_digest), None)
    active = operator is not None and operator.state is OperatorState.ACTIVE
    if kept.csr_digest != csr_digest or theirs is None or operator is None or not active:
        raise InvitationInvalid()
    return Enrolled(operator, theirs)


def superfluous(certificates: Sequence[OperatorCertificate]) -> list[OperatorCertificate]:
    """Which certificates of one operator are let go once another one is kept."""
    newest = sorted(certificates, key=lambda each: (each.issued_at_ms, each.not_after_ms))
    return newest[: -(MAX_LIVE_CERTIFICATES - 1)]


def with_role(operator: Operator, role: Role) -> Operator:
    """The operator with another role."""
    return attrs.evolve(operator, role=role)


def revoked(operator: Operator, by: str, reason: str, now_ms: int) -> Operator:
    """The operator after their revocation."""
    return attrs.evolve(
        operator,
        state=OperatorState.REVOKED,
        revoked_at_ms=now_ms,
        revoked_by=by,
        revoke_reason=reason,
    )


# -- what the audit log says -------------------------------------------------------------------


def told_invited(invitation: Invitation) -> AuditEntry:
    """Somebody was invited."""
    details = {"role": invitation.role.value, "expires_at_ms": invitation.expires_at_ms}
    if invitation.owner:
        details["owner"] = invitation.owner
    return AuditEntry(
        at_ms=invitation.created_at_ms,
        action="operator.invited",
        subject="operator:",
        subject_name=invitation.name,
        details=details,
    )


def told_accepted(enrolled: Enrolled, via: str) -> AuditEntry:
    """An invitation was accepted; whoever did it became the operator by it."""
    operator, certificate = enrolled.operator, enrolled.certificate
    return AuditEntry(
        at_ms=operator.created_at_ms,
        action="operator.accepted",
        subject=f"operator:{operator.operator_id}",
        subject_name=operator.name,
        who=operator.name,
        operator_id=operator.operator_id,
        via=via,
        details={"role": operator.role.value, "certificate": certificate.fingerprint},
    )


def told_renewed(operator: Operator, certificate: OperatorCertificate, now_ms: int) -> AuditEntry:
    """An operator has another certificate."""
    return AuditEntry(
        at_ms=now_ms,
        action="operator.renewed",
        subject=f"operator:{operator.operator_id}",
        subject_name=operator.name,
        details={"certificate": certificate.fingerprint},
    )


def told_role(before: Operator, now: Operator, now_ms: int) -> AuditEntry:
    """An operator has another role."""
    return AuditEntry(
        at_ms=now_ms,
        action="operator.role_changed",
        subject=f"operator:{now.operator_id}",
        subject_name=now.name,
        details={"before": before.role.value, "role": now.role.value},
    )


def told_revoked(operator: Operator, now_ms: int) -> AuditEntry:
    """An operator was revoked."""
    return AuditEntry(
        at_ms=now_ms,
        action="operator.revoked",
        subject=f"operator:{operator.operator_id}",
        subject_name=operator.name,
        reason=operator.revoke_reason,
        details={"owner": operator.owner} if operator.owner else {},
    )
