"""Approvals of calls in SQL (:class:`palyra.core.approvallog.ICallApprovalLog`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, or_, select, update

from palyra.core.approval import ApprovalState
from palyra.core.approvallog import CallQuery
from palyra.core.callapprovals import TIMEBOXED, CallApproval, CallTarget
from palyra.core.identifiers import DeviceId, Fingerprint, JobId, short_id
from palyra.errors import CallDecided, NotFound
from palyra.store import audit, callfacts
from palyra.store.joblog import beginning_with
from palyra.store.tables import call_approvals, call_targets, jobs

OPEN = (ApprovalState.PENDING.value, ApprovalState.APPROVED.value)
_CHUNK = 500
_SEPARATOR = "\n"
"""Between the entries of a list in one column; no entry of a rule has a line break."""


def values_of(approval: CallApproval) -> dict[str, Any]:
    """The row of an approval."""
    return {
        "approval_id": approval.approval_id,
        "digest": approval.digest,
        "repeat_digest": approval.repeat_digest,
        "operator_id": approval.operator_id,
        "requested_by": approval.requested_by,
        "person": approval.person,
        "browser_session": approval.session,
        "capability": approval.capability,
        "risk": approval.risk,
        "input_json": approval.input_json,
        "max_payload_bytes": approval.max_payload_bytes,
        "run_timeout_ms": approval.run_timeout_ms,
        "queue_ttl_ms": approval.queue_ttl_ms,
        "idempotency_key": approval.idempotency_key,
        "rule_id": approval.rule_id,
        "rule_names": approval.rule_names,
        "approvers": _SEPARATOR.join(approval.approvers),
        "four_eyes": approval.four_eyes,
        "scopes": _SEPARATOR.join(approval.scopes),
        "created_at_ms": approval.created_at_ms,
        "expires_at_ms": approval.expires_at_ms,
        **_decision_of(approval),
    }


def _decision_of(approval: CallApproval) -> dict[str, Any]:
    return {
        "state": approval.state.value,
        "decided_by": approval.decided_by,
        "decided_by_id": approval.decided_by_id,
        "decided_at_ms": approval.decided_at_ms,
        "reason": approval.reason,
        "scope": approval.scope,
        "standing_until_ms": approval.standing_until_ms,
    }


def keep(connection: Connection, approval: CallApproval) -> None:
    """Keep a new approval with its targets, in the transaction of the calls it is for."""
    connection.execute(insert(call_approvals).values(values_of(approval)))
    rows = [
        {
            "job_id": target.job_id,
            "approval_id": approval.approval_id,
            "position": position,
            "device_id": target.device_id,
            "device_name": target.device_name,
            "identity_fingerprint": target.identity_fingerprint,
            "descriptor_digest": target.descriptor_digest,
            "consumed_at_ms": target.consumed_at_ms,
        }
        for position, target in enumerate(approval.targets)
    ]
    for some in _chunks(rows):
        connection.execute(insert(call_targets), some)
    audit.append(connection, callfacts.asked(approval))


def call_approval(connection: Connection, approval_id: str) -> CallApproval | None:
    """One approval."""
    found = _loaded(connection, [approval_id])
    return found[0] if found else None


def list_calls(connection: Connection, query: CallQuery) -> list[CallApproval]:
    """Approvals of calls, newest first."""
    key = call_approvals.c.approval_id
    statement = select(key).order_by(key.desc()).limit(query.limit)
    if query.states is not None:
        states = sorted(state.value for state in query.states)
        statement = statement.where(call_approvals.c.state.in_(states))
    if query.before is not None:
        statement = statement.where(key < query.before)
    return _loaded(connection, connection.scalars(statement).all())[::-1]


def open_calls(connection: Connection, now_ms: int) -> list[CallApproval]:
    """Open ones, and those that stand for repeats."""
    columns = call_approvals.c
    stands = (columns.scope == TIMEBOXED) & (columns.standing_until_ms > now_ms)
    statement = select(columns.approval_id).where(or_(columns.state.in_(OPEN), stands))
    return _loaded(connection, connection.scalars(statement).all())


def find_calls(connection: Connection, prefix: str) -> Sequence[str]:
    """As :func:`palyra.store.joblog.find_jobs`."""
    return beginning_with(connection, call_approvals.c.approval_id, prefix)


def decide_call(connection: Connection, approval: CallApproval) -> None:
    """Keep a yes or a no where it is pending."""
    columns = call_approvals.c
    mine = columns.approval_id == approval.approval_id
    pending = columns.state == ApprovalState.PENDING.value
    changed = connection.execute(
        update(call_approvals).where(mine, pending).values(_decision_of(approval))
    )
    if not changed.rowcount:
        state = connection.scalar(select(columns.state).where(mine))
        raise_decided(approval.approval_id, state)
    audit.append(connection, callfacts.decided(approval))


def raise_decided(approval_id: str, state: str | None) -> None:
    """Why an approval cannot be decided: NotFound, CallDecided."""
    if state is None:
        raise NotFound("approval", short_id(approval_id))
    raise CallDecided(short_id(approval_id), state)


def close_call(
    connection: Connection, approval_id: str, state: ApprovalState, reason: str, now_ms: int
) -> None:
    """Keep that an open one is over."""
    columns = call_approvals.c
    still_open = columns.state.in_(OPEN)
    change: dict[str, Any] = {"state": state.value}
    if reason:
        change["reason"] = reason
    changed = connection.execute(
        update(call_approvals).where(columns.approval_id == approval_id, still_open).values(change)
    )
    if changed.rowcount and state is ApprovalState.EXPIRED:
        found = call_approval(connection, approval_id)
        audit.append(connection, None if found is None else callfacts.expired(found, now_ms))


def forgettable_calls(connection: Connection, before_ms: int, limit: int) -> list[str]:
    """Approvals that ended, were made before ``before_ms``, and have no job left."""
    columns = call_approvals.c
    of_job = select(jobs.c.job_id).join(call_targets, call_targets.c.job_id == jobs.c.job_id)
    left = of_job.where(call_targets.c.approval_id == columns.approval_id).exists()
    ended = columns.state.not_in(OPEN), columns.created_at_ms < before_ms
    statement = select(columns.approval_id).where(*ended, ~left)
    return list(connection.scalars(statement.order_by(columns.approval_id).limit(limit)))


def forget_calls(connection: Connection, approval_ids: Sequence[str]) -> int:
    """Delete approvals with their targets."""
    for some in _chunks(approval_ids):
        connection.execute(delete(call_targets).where(call_targets.c.approval_id.in_(some)))
        connection.execute(delete(call_approvals).where(call_approvals.c.approval_id.in_(some)))
    return len(approval_ids)


consuming = (
    update(call_targets)
    .where(
        call_targets.c.job_id == bindparam("of_job"),
        call_targets.c.consumed_at_ms.is_(None),
        call_targets.c.approval_id.in_(
            select(call_approvals.c.approval_id).where(
                call_approvals.c.state == ApprovalState.APPROVED.value,
                call_approvals.c.expires_at_ms > bindparam("at_ms"),
            )
        ),
    )
    .values(consumed_at_ms=bindparam("at_ms"))
)
"""Use up a target's share of an approval that was given and has not expired."""


def consume(connection: Connection, job_id: str, at_ms: int) -> bool:
    """Whether a job has a yes that was not used; from now on it is used."""
    values = {"of_job": job_id, "at_ms": at_ms}
    return connection.execute(consuming, values).rowcount > 0


def _loaded(connection: Connection, approval_ids: Sequence[str]) -> list[CallApproval]:
    """Approvals with their targets, oldest first."""
    found: list[CallApproval] = []
    for some in _chunks(sorted(approval_ids)):
        targets: dict[str, list[CallTarget]] = {each: [] for each in some}
        statement = select(call_targets).where(call_targets.c.approval_id.in_(some))
        for row in connection.execute(statement.order_by(call_targets.c.position)):
            targets[row.approval_id].append(_target_of(row))
        statement = select(call_approvals).where(call_approvals.c.approval_id.in_(some))
        for row in connection.execute(statement.order_by(call_approvals.c.approval_id)):
            found.append(_approval_of(row, tuple(targets[row.approval_id])))
    return found


def _target_of(row: Any) -> CallTarget:
    return CallTarget(
        device_id=DeviceId(row.device_id),
        device_name=row.device_name,
        job_id=JobId(row.job_id),
        identity_fingerprint=Fingerprint(row.identity_fingerprint),
        descriptor_digest=row.descriptor_digest,
        consumed_at_ms=row.consumed_at_ms,
    )


def _approval_of(row: Any, targets: tuple[CallTarget, ...]) -> CallApproval:
    values = dict(row._mapping)
    values["session"] = values.pop("browser_session")
    values["state"] = ApprovalState(values["state"])
    for name in ("approvers", "scopes"):
        values[name] = tuple(filter(None, values[name].split(_SEPARATOR)))
    return CallApproval(**values, targets=targets)


def _chunks(items: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK))
