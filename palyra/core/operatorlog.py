"""What operators need of the store.  As :mod:`palyra.core.interfaces`: awaitables that fire after
the commit, or fail with a PalyraError and have then changed nothing."""

from __future__ import annotations

from collections.abc import Awaitable

from zope.interface import Interface

from palyra.core.operators import (
    Enrolled,
    Invitation,
    Operator,
    OperatorCertificate,
    OperatorEnrolment,
    Role,
)


class IOperatorLog(Interface):
    """Operators, their certificates and invitations; every change has its row in the audit log."""

    def operators() -> Awaitable[list[Operator]]:
        """Every operator, also those that were revoked."""

    def operator_certificates() -> Awaitable[list[OperatorCertificate]]:
        """Every certificate that is kept and has not run out, also those of revoked operators."""

    def invitations() -> Awaitable[list[Invitation]]:
        """The invitations that somebody may still accept."""

    def invitation(token_digest: str) -> Awaitable[Invitation | None]:
        """The invitation whose token has this SHA-256 (hex), in whatever state."""

    def invite(invitation: Invitation) -> Awaitable[None]:
        """Keep an invitation; an older one of that name that is open is withdrawn by it.

        :raises palyra.errors.OperatorNameTaken: an active operator has the name.
        """

    def enrol_operator(enrolment: OperatorEnrolment) -> Awaitable[Enrolled]:
        """In one transaction: use the invitation up, keep operator and certificate.

        The CSR that it was accepted with before gets the same answer while that operator is
        active and that certificate is kept.

        :raises palyra.errors.InvitationInvalid: unknown, withdrawn, expired or used.
        :raises palyra.errors.OperatorNameTaken: somebody has the name by now.
        """

    def renew_operator(
        certificate: OperatorCertificate, now_ms: int
    ) -> Awaitable[OperatorCertificate]:
        """Keep a certificate for an operator; of those kept only the newest two stay.

        A CSR that was answered before by a certificate which is kept gets that one back.

        :raises palyra.errors.OperatorRevoked: they may not come back.
        :raises palyra.errors.NotFound: no such operator.
        """

    def change_role(operator_id: str, role: Role, now_ms: int) -> Awaitable[Operator]:
        """Give an operator another role.

        :raises palyra.errors.OperatorRevoked, NotFound: as :meth:`renew_operator`.
        """

    def revoke_operator(
        operator_id: str, by: str, reason: str, now_ms: int
    ) -> Awaitable[list[Operator]]:
        """In one transaction: end an operator and the programs they answer for, each with its row
        in the audit log, and the invitations of both.

        The operator comes first, then the programs that ended now, by id.  One that was revoked
        before stays as they are.

        :raises palyra.errors.NotFound: no such operator.
        """
