"""Operators, their certificates and invitations in memory."""

from __future__ import annotations

from collections.abc import Callable

import attrs

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
from palyra.errors import NotFound
from palyra.store import operatorrules as rules
from palyra.store.memory.records import Records, add, fired


class OperatorLog(Records):
    """Provides :class:`palyra.core.operatorlog.IOperatorLog`."""

    @fired
    def operators(self) -> list[Operator]:
        return [each for _, each in sorted(self._operators.items())]

    @fired
    def operator_certificates(self) -> list[OperatorCertificate]:
        now_ms = self._now_ms()
        return [each for each in self._certified() if each.not_after_ms >= now_ms]

    @fired
    def invitations(self) -> list[Invitation]:
        now_ms = self._now_ms()
        found = [each for each in self._invitations.values() if each.usable(now_ms)]
        return sorted(found, key=lambda each: (each.created_at_ms, each.name))

    @fired
    def invitation(self, token_digest: str) -> Invitation | None:
        return self._invitations.get(token_digest)

    @fired
    def invite(self, invitation: Invitation) -> None:
        rules.refuse_taken(invitation.name, self._active_names())
        oldest_ms = invitation.created_at_ms - rules.KEPT_INVITATIONS_MS
        for kept in list(self._invitations.values()):
            if kept.expires_at_ms < oldest_ms:
                del self._invitations[kept.token_digest]
        self._withdraw(lambda kept: kept.name == invitation.name)
        add(self._invitations, invitation.token_digest, invitation)
        self._audit(rules.told_invited(invitation))

    @fired
    def enrol_operator(self, enrolment: OperatorEnrolment) -> Enrolled:
        kept = self._invitations.get(enrolment.token_digest)
        before = "" if kept is None else kept.operator_id
        operator, certificates = self._operators.get(before), self._of_operator(before)
        again = rules.repeated(kept, operator, certificates, enrolment.certificate.csr_digest)
        if again is not None:
            return again
        used, enrolled = rules.accepted(kept, self._active_names(), enrolment)
        add(self._operators, enrolled.operator.operator_id, enrolled.operator)
        add(self._operator_certificates, enrolled.certificate.fingerprint, enrolled.certificate)
        self._invitations[used.token_digest] = used
        self._audit(rules.told_accepted(enrolled, enrolment.via))
        return enrolled

    @fired
    def renew_operator(self, certificate: OperatorCertificate, now_ms: int) -> OperatorCertificate:
        operator_id = certificate.operator_id
        operator = rules.present(self._operators.get(operator_id), operator_id)
        held = self._of_operator(operator_id)
        for each in held:
            if each.csr_digest == certificate.csr_digest and each.not_after_ms >= now_ms:
                return each
        add(self._operator_certificates, certificate.fingerprint, certificate)
        for each in rules.superfluous(held):
            del self._operator_certificates[each.fingerprint]
        self._audit(rules.told_renewed(operator, certificate, now_ms))
        return certificate

    @fired
    def change_role(self, operator_id: str, role: Role, now_ms: int) -> Operator:
        before = rules.present(self._operators.get(operator_id), operator_id)
        now = rules.with_role(before, role)
        if now != before:
            self._operators[operator_id] = now
            if now.role is not Role.ADMIN:
                self._withdraw(lambda kept: kept.invited_by == now.name)
            self._audit(rules.told_role(before, now, now_ms))
        return now

    @fired
    def revoke_operator(
        self, operator_id: str, by: str, reason: str, now_ms: int
    ) -> list[Operator]:
        before = self._operators.get(operator_id)
        if before is None:
            raise NotFound("operator", operator_id)
        found = [before, *self._programs(operator_id)]
        return [self._end(each, by, reason, now_ms) for each in found]

    def _end(self, before: Operator, by: str, reason: str, now_ms: int) -> Operator:
        self._withdraw(lambda kept: kept.owner == before.operator_id)
        if before.state is OperatorState.REVOKED:
            return before
        now = rules.revoked(before, by, reason, now_ms)
        self._operators[now.operator_id] = now
        self._withdraw(lambda kept: kept.invited_by == now.name)
        self._audit(rules.told_revoked(now, now_ms))
        return now

    def _programs(self, owner: str) -> list[Operator]:
        every = [each for _, each in sorted(self._operators.items())]
        active = OperatorState.ACTIVE
        return [each for each in every if each.owner == owner and each.state is active]

    def _withdraw(self, which: Callable[[Invitation], bool]) -> None:
        for kept in list(self._invitations.values()):
            if kept.state is InvitationState.OPEN and which(kept):
                withdrawn = attrs.evolve(kept, state=InvitationState.WITHDRAWN)
                self._invitations[kept.token_digest] = withdrawn

    def _active_names(self) -> frozenset[str]:
        active = OperatorState.ACTIVE
        return frozenset(each.name for each in self._operators.values() if each.state is active)

    def _certified(self) -> list[OperatorCertificate]:
        every = self._operator_certificates.values()
        return sorted(every, key=lambda each: (each.issued_at_ms, each.fingerprint))

    def _of_operator(self, operator_id: str) -> list[OperatorCertificate]:
        return [each for each in self._certified() if each.operator_id == operator_id]
