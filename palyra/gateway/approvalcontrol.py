"""What operators ask about approvals: pairing requests and calls, in one list."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from twisted.internet.defer import Deferred
from zope.interface import implementer

from palyra.console import models
from palyra.console.control import IApprovalControl
from palyra.core.approval import ApprovalState
from palyra.core.approvallog import CallQuery
from palyra.core.callapprovals import KIND, ONCE, SCOPES, CallApproval, CallTarget, may_decide
from palyra.core.identifiers import RequestId, as_prefix, has_prefix, is_ulid, short_id
from palyra.core.interfaces import IStore, RequestQuery
from palyra.core.operators import Caller
from palyra.core.pairing import PairingRequest, RequestState
from palyra.errors import AmbiguousTarget, Malformed, NotFound
from palyra.gateway.callanswers import Answer
from palyra.gateway.callapprovals import CallApprovals
from palyra.gateway.pairingcontrol import PairingControl
from palyra.gateway.queries import state_named, ulid_cursor
from palyra.gateway.views import CONTRACT
from palyra.store.rules import APPROVAL_STATES

PAIRING = "pairing"
LOOKED_THROUGH = 1_000
"""The newest pairing requests, among which an approval is searched."""
_DECISIONS = ("approve", "reject")
_REQUEST_STATES = {approval: request for request, approval in APPROVAL_STATES.items()}


@implementer(IApprovalControl)
class ApprovalControl:
    """Everything that waits for an operator.  ``pairings_waiting`` counts the pairing requests."""

    def __init__(
        self,
        *,
        store: IStore,
        calls: CallApprovals,
        pairing: PairingControl,
        pairings_waiting: Callable[[], int],
    ) -> None:
        self._store = store
        self._calls = calls
        self._pairing = pairing
        self._pairings_waiting = pairings_waiting

    # -- look -------------------------------------------------------------------------------

    def approvals(
        self, state: str | None, kind: str | None, limit: int, cursor: str | None, by: Caller
    ) -> Deferred[models.ApprovalList]:
        return Deferred.fromCoroutine(self._list(state, kind, limit, cursor, by))

    async def _list(
        self, state: str | None, kind: str | None, limit: int, cursor: str | None, by: Caller
    ) -> models.ApprovalList:
        wanted = None if not state else state_named(ApprovalState, state)
        before = ulid_cursor(cursor) if cursor is not None else None
        requests = await self._requests(wanted, limit + 1, before) if kind != KIND else []
        calls = await self._call_list(wanted, limit + 1, before) if kind != PAIRING else []
        # Of pairing requests the page goes by the id of the request: it is what the store sorts by.
        found: list[tuple[str, PairingRequest | CallApproval]] = [
            *((each.request_id, each) for each in requests),
            *((each.approval_id, each) for each in calls),
        ]
        found.sort(key=lambda each: each[0], reverse=True)
        shown = found[:limit]
        more = len(found) > limit
        return models.ApprovalList(
            contract=CONTRACT,
            page=models.Page(limit, len(shown), more, shown[-1][0] if more and shown else None),
            approvals=[await self._item(each, by) for _, each in shown],
            pending=self._calls.pending + self._pairings_waiting(),
        )

    async def _requests(
        self, state: ApprovalState | None, limit: int, before: str | None
    ) -> Sequence[PairingRequest]:
        states = None if state is None else frozenset({_REQUEST_STATES[state]})
        cursor = None if before is None else RequestId(before)
        return await self._store.requests(RequestQuery(states, limit, cursor))

    async def _call_list(
        self, state: ApprovalState | None, limit: int, before: str | None
    ) -> Sequence[CallApproval]:
        states = None if state is None else frozenset({state})
        return await self._store.call_approvals(CallQuery(states, limit, before))

    def approval(self, target: str, by: Caller) -> Deferred[models.ApprovalAnswer]:
        return Deferred.fromCoroutine(self._show(target, by))

    async def _show(self, target: str, by: Caller) -> models.ApprovalAnswer:
        return models.ApprovalAnswer(CONTRACT, await self._item(await self._found(target), by))

    # -- decide -----------------------------------------------------------------------------

    def decide(
        self, target: str, body: models.ApprovalDecision, by: Caller
    ) -> Deferred[models.ApprovalAnswer]:
        return Deferred.fromCoroutine(self._decide(target, body, by))

    async def _decide(
        self, target: str, body: models.ApprovalDecision, by: Caller
    ) -> models.ApprovalAnswer:
        if body.decision not in _DECISIONS:
            raise Malformed("decision", "must be approve or reject")
        if body.scope not in SCOPES:
            raise Malformed("scope", f"must be one of {', '.join(SCOPES)}")
        approved, found = body.decision == "approve", await self._found(target)
        if isinstance(found, CallApproval):
            answer = Answer(by, approved, body.digest, body.reason, body.scope, body.scope_ttl_ms)
            decided = await self._calls.decide(found.approval_id, answer)
            return models.ApprovalAnswer(CONTRACT, await self._item(decided, by))
        decision = models.Decision(
            reason=body.reason,
            decision_scope=body.scope,
            grants=body.grants,
            grant_risk=body.grant_risk,
            accept_new_identity=body.accept_new_identity,
        )
        await self._pairing.decide(found.request_id, approved, decision, by)
        return await self._show(found.approval_id, by)

    # -- which ------------------------------------------------------------------------------

    async def _found(self, target: str) -> PairingRequest | CallApproval:
        """An approval by its id, or the beginning of the random part of it; of a pairing request
        also by the id of that.

        :raises NotFound, AmbiguousTarget: there is none, or there are several.
        """
        whole, prefix = target.upper(), as_prefix(target)
        calls = [whole] if is_ulid(whole) else []
        if prefix is not None and not calls:
            calls = list(await self._store.find_calls(prefix))
        found: list[PairingRequest | CallApproval] = [
            call for each in calls if (call := await self._store.call_approval(each)) is not None
        ]
        if not (found and is_ulid(whole)):
            recent = await self._store.requests(RequestQuery(limit=LOOKED_THROUGH))
            found += [each for each in recent if _is_meant(each, whole, prefix)]
        if not found:
            raise NotFound("approval", target[:64])
        if len(found) > 1:
            ids = sorted(short_id(each.approval_id, 10) for each in found)
            raise AmbiguousTarget("approval", target[:64], tuple(ids))
        return found[0]

    async def _item(self, found: PairingRequest | CallApproval, by: Caller) -> models.ApprovalItem:
        if isinstance(found, CallApproval):
            return call_item(found, by)
        return models.ApprovalItem(
            approval_id=found.approval_id,
            kind=PAIRING,
            state=APPROVAL_STATES[found.state].value,
            digest=found.digest,
            created_at_unix_ms=found.created_at_ms,
            expires_at_unix_ms=found.expires_at_ms,
            decided_by=found.decided_by,
            decided_at_unix_ms=found.decided_at_ms,
            reason=found.reason,
            scope=ONCE,
            standing_until_unix_ms=None,
            pairing=await self._pairing.pairing_item(found),
        )


def call_item(approval: CallApproval, by: Caller) -> models.ApprovalItem:
    """An approval of a call, whole: who decides must see everything."""
    return models.ApprovalItem(
        approval_id=approval.approval_id,
        kind=KIND,
        state=approval.state.value,
        digest=approval.digest,
        created_at_unix_ms=approval.created_at_ms,
        expires_at_unix_ms=approval.expires_at_ms,
        decided_by=approval.decided_by,
        decided_at_unix_ms=approval.decided_at_ms,
        reason=approval.reason,
        scope=approval.scope,
        standing_until_unix_ms=approval.standing_until_ms,
        call=models.CallItem(
            capability=approval.capability,
            risk=approval.risk,
            input_json=msgspec.Raw(approval.input_json),
            requested_by=approval.requested_by,
            operator_id=approval.operator_id,
            targets=[_target_item(each) for each in approval.targets],
            max_payload_bytes=approval.max_payload_bytes,
            timeout_ms=approval.run_timeout_ms,
            ttl_ms=approval.queue_ttl_ms,
            idempotency_key=approval.idempotency_key,
            rule=approval.rule_id,
            approvers=list(approval.approvers),
            four_eyes=approval.four_eyes,
            scopes=list(approval.scopes),
            may_decide=may_decide(approval, by),
        ),
    )


def _target_item(target: CallTarget) -> models.CallTargetItem:
    return models.CallTargetItem(
        device_id=target.device_id,
        device_name=target.device_name,
        job_id=target.job_id,
        identity_fingerprint=target.identity_fingerprint,
        descriptor_digest=target.descriptor_digest,
    )


def _is_meant(request: PairingRequest, whole: str, prefix: str | None) -> bool:
    ids = request.approval_id, request.request_id
    waits = request.state is RequestState.PENDING
    by_prefix = prefix is not None and (
        has_prefix(request.approval_id, prefix)
        or (waits and has_prefix(request.request_id, prefix))
    )
    return whole in ids or by_prefix
