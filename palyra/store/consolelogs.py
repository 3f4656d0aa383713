"""The logs behind the console on a SQL database: operators, approvals of calls, audit, webhooks,
descriptors."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import attrs
from twisted.internet.defer import Deferred

from palyra.core.approval import ApprovalState
from palyra.core.approvallog import CallQuery
from palyra.core.audit import AuditEntry, AuditPage
from palyra.core.audithead import Head, HeadKind
from palyra.core.auditlog import AuditQuery
from palyra.core.auditverify import Examination
from palyra.core.callapprovals import CallApproval
from palyra.core.operators import (
    Enrolled,
    Invitation,
    Operator,
    OperatorCertificate,
    OperatorEnrolment,
    Role,
)
from palyra.core.webhooks import Message
from palyra.store import audit, auditread, callapprovals, descriptorlog, operators, webhooks
from palyra.store.sqlcalls import SqlCalls


class ConsoleLogs(SqlCalls):
    """A part of :class:`palyra.store.sql.SqlStore`."""

    # -- ICallApprovalLog -------------------------------------------------------------------------

    def call_approval(self, approval_id: str) -> Deferred[CallApproval | None]:
        return self._read(callapprovals.call_approval, approval_id)

    def call_approvals(self, query: CallQuery) -> Deferred[list[CallApproval]]:
        return self._read(callapprovals.list_calls, query)

    def open_calls(self, now_ms: int) -> Deferred[list[CallApproval]]:
        return self._read(callapprovals.open_calls, now_ms)

    def find_calls(self, prefix: str) -> Deferred[Sequence[str]]:
        return self._read(callapprovals.find_calls, prefix)

    def decide_call(self, approval: CallApproval) -> Deferred[None]:
        return self._write(callapprovals.decide_call, attrs.evolve(approval))

    def close_call(
        self, approval_id: str, state: ApprovalState, reason: str, now_ms: int
    ) -> Deferred[None]:
        return self._write(callapprovals.close_call, approval_id, state, reason, now_ms)

    def forget_calls(self, before_ms: int, limit: int) -> Deferred[int]:
        found = self._read(callapprovals.forgettable_calls, before_ms, limit)
        return self._forget(found, callapprovals.forget_calls)

    # -- IOperatorLog -----------------------------------------------------------------------------

    def operators(self) -> Deferred[list[Operator]]:
        return self._read(operators.list_operators)

    def operator_certificates(self) -> Deferred[list[OperatorCertificate]]:
        return self._read(operators.list_certificates, self._now_ms())

    def invitations(self) -> Deferred[list[Invitation]]:
        return self._read(operators.list_invitations, self._now_ms())

    def invitation(self, token_digest: str) -> Deferred[Invitation | None]:
        return self._read(operators.invitation, token_digest)

    def invite(self, invitation: Invitation) -> Deferred[None]:
        return self._write(operators.invite, invitation)

    def enrol_operator(self, enrolment: OperatorEnrolment) -> Deferred[Enrolled]:
        return self._write(operators.enrol, enrolment)

    def renew_operator(
        self, certificate: OperatorCertificate, now_ms: int
    ) -> Deferred[OperatorCertificate]:
        return self._write(operators.renew, certificate, now_ms)

    def change_role(self, operator_id: str, role: Role, now_ms: int) -> Deferred[Operator]:
        return self._write(operators.change_role, operator_id, role, now_ms)

    def revoke_operator(
        self, operator_id: str, by: str, reason: str, now_ms: int
    ) -> Deferred[list[Operator]]:
        return self._write(operators.revoke, operator_id, by, reason, now_ms)

    # -- IAuditLog --------------------------------------------------------------------------------

    def record(self, entries: Sequence[AuditEntry]) -> Deferred[None]:
        return self._writer.submit_item(audit.note, audit.lines(entries))

    def audit_rows(self, query: AuditQuery) -> Deferred[AuditPage]:
        return self._read(auditread.rows, query)

    def examine_audit(self, examination: Examination, limit: int) -> Deferred[bool]:
        return self._read(auditread.examine, examination, limit)

    def audit_head(self) -> Deferred[Head]:
        return self._read(auditread.head)

    def keep_head(self, head: Head, keep: int) -> Deferred[None]:
        return self._write(auditread.keep_head, head, keep)

    def audit_heads(
        self, limit: int, before: tuple[str, int] | None, kinds: Collection[HeadKind] | None
    ) -> Deferred[list[Head]]:
        return self._read(auditread.heads, limit, before, kinds)

    def cut_audit(self, segment: Head, limit: int) -> Deferred[int]:
        return self._write(auditread.cut, segment, limit)

    def forgettable_audit(self, before_ms: int, keep: int) -> Deferred[Head | None]:
        return self._read(auditread.forgettable, before_ms, keep)

    # -- IWebhookLog ------------------------------------------------------------------------------

    def queue_webhooks(self, messages: Sequence[Message], most: int) -> Deferred[int]:
        return self._write(webhooks.queue, tuple(messages), most)

    def due_webhooks(self, limit: int) -> Deferred[list[Message]]:
        return self._read(webhooks.due, limit)

    def put_off_webhook(self, message: Message) -> Deferred[None]:
        return self._write(webhooks.put_off, message)

    def forget_webhook(self, webhook_id: str) -> Deferred[None]:
        return self._write(webhooks.forget, webhook_id)

    # -- IDescriptorLog ---------------------------------------------------------------------------

    def keep_descriptors(self, descriptors: Mapping[str, bytes], now_ms: int) -> Deferred[None]:
        return self._write(descriptorlog.keep, dict(descriptors), now_ms)

    def descriptors(self) -> Deferred[dict[str, bytes]]:
        return self._read(descriptorlog.every)

    def forget_descriptors(self, before_ms: int) -> Deferred[tuple[str, ...]]:
        return Deferred.fromCoroutine(self._forget_descriptors(before_ms))

    async def _forget_descriptors(self, before_ms: int) -> tuple[str, ...]:
        unused, used = await self._read(descriptorlog.forgettable, before_ms)
        if not unused and not used:
            return ()
        now_ms = self._now_ms()
        return await self._write(descriptorlog.forget, unused, used, before_ms, now_ms)
