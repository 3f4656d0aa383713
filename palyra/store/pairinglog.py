"""Codes, pairing requests and approvals in SQL (:class:`palyra.core.interfaces.IPairingLog`).

Every function works in the transaction of the connection it is given.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, delete, exists, insert, select, update

from palyra.core.approval import Approval
from palyra.core.devices import Approved, CertificateRecord, Device, Revocation
from palyra.core.identifiers import DeviceId, RequestId
from palyra.core.interfaces import RequestQuery
from palyra.core.pairing import CodeState, PairingCode, PairingRequest, RequestState
from palyra.errors import PairingFailed
from palyra.store import audit, audited, directory, facts, journal, revocation, rules
from palyra.store.rows import (
    Row,
    approval_row,
    code_of,
    code_row,
    decision_row,
    request_of,
    request_row,
)
from palyra.store.tables import approvals, pairing_codes, pairing_requests

_ACTIVE = pairing_codes.c.state == CodeState.ACTIVE.value


def add_code(connection: Connection, code: PairingCode) -> None:
    """Keep a new code."""
    connection.execute(insert(pairing_codes).values(code_row(code)))
    audit.append(connection, audited.minted(code))


def save_code(connection: Connection, code: PairingCode) -> None:
    """Keep a code's counters and state; one that is over already stays over."""
    same = pairing_codes.c.code_id == code.code_id
    values: Row = {"state": code.state.value, "reserved": code.reserved, "failed": code.failed}
    if code.state is not CodeState.ACTIVE:
        values["sealed_pin"] = None
    connection.execute(update(pairing_codes).where(same, _ACTIVE).values(values))


def withdraw_code(connection: Connection, code_id: str, now_ms: int) -> bool:
    """Take an active code back."""
    same = pairing_codes.c.code_id == code_id
    values: Row = {"state": CodeState.WITHDRAWN.value, "sealed_pin": None}
    done = connection.execute(update(pairing_codes).where(same, _ACTIVE).values(values))
    if done.rowcount == 0:
        return False
    audit.append(connection, audited.withdrawn(code_id, now_ms))
    return True


def code_by_digest(connection: Connection, digest: str) -> PairingCode | None:
    """The code whose token has this SHA-256; a PIN has none and is not found by it."""
    if not digest:
        return None
    found = _codes(connection, pairing_codes.c.digest == digest)
    return found[0] if found else None


def active_codes(connection: Connection, now_ms: int) -> list[PairingCode]:
    """Codes that a device could still use."""
    return _codes(connection, _ACTIVE & (pairing_codes.c.expires_at_ms > now_ms))


def open_request(connection: Connection, request: PairingRequest, approval: Approval) -> None:
    """Use up the request's code, if it has one, and keep request and approval."""
    if request.code_id:
        _use_code(connection, request.code_id)
    connection.execute(insert(pairing_requests).values(request_row(request)))
    connection.execute(insert(approvals).values(approval_row(approval)))


def request(connection: Connection, request_id: RequestId) -> PairingRequest | None:
    """One pairing request."""
    return _request(connection, pairing_requests.c.request_id == request_id)


def request_by_session(connection: Connection, session_digest: str) -> PairingRequest | None:
    """The pairing request that a pairing session opened."""
    return _request(connection, pairing_requests.c.session_digest == session_digest)


def list_requests(connection: Connection, query: RequestQuery) -> list[PairingRequest]:
    """Pairing requests, newest first."""
    column = pairing_requests.c
    statement = select(pairing_requests).order_by(column.request_id.desc()).limit(query.limit)
    if query.states is not None:
        statement = statement.where(column.state.in_([state.value for state in query.states]))
    if query.before is not None:
        statement = statement.where(column.request_id < query.before)
    if query.with_key:
        statement = statement.where(column.sealed_key != b"")  # nor NULL
    if query.device_id is not None:
        statement = statement.where(column.device_id == query.device_id)
    return [request_of(row) for row in connection.execute(statement).mappings()]


def close_request(connection: Connection, closed: PairingRequest) -> None:
    """Keep a request that was rejected or expired, and its approval."""
    kept = request(connection, closed.request_id)
    rules.require_state(kept, closed.request_id, RequestState.PENDING)
    _decide(connection, closed)
    audit.append(connection, audited.closed(closed))
    forget_key(connection, closed.request_id)


def forget_key(connection: Connection, request_id: RequestId) -> None:
    """Erase the private key that was made for a version-1 device."""
    same = pairing_requests.c.request_id == request_id
    connection.execute(update(pairing_requests).where(same).values(sealed_key=None))


def approve_request(connection: Connection, approved: PairingRequest, device: Device) -> Approved:
    """Keep the approved request, its approval and the device; revoke another key it had."""
    kept_request = request(connection, approved.request_id)
    rules.require_state(kept_request, approved.request_id, RequestState.PENDING)
    kept = directory.device(connection, device.device_id)
    if kept is not None:
        revocation.refuse_revoked_device(kept)
    key = device.identity_fingerprint
    revocation.refuse_revoked_key(device, directory.revocations_of_key(connection, key))
    directory.allow(connection, device)
    replaced = _revoke_other_key(connection, kept, device, approved)
    taken = directory.names_of_others(connection, device.device_id)
    now = rules.paired(kept, device, approved, taken)
    directory.keep_device(connection, now)
    _decide(connection, approved)
    journal.append(connection, facts.approved(approved, now))
    audit.append(connection, audited.approved(approved, now))
    return Approved(now, replaced)


def complete_request(
    connection: Connection, request_id: RequestId, certificate: CertificateRecord
) -> CertificateRecord:
    """Complete a request, consume its approval, keep its certificate; once."""
    kept = request(connection, request_id)
    issued = directory.certificate_of_request(connection, request_id)
    if issued is not None:
        return issued
    kept = rules.require_state(kept, request_id, RequestState.APPROVED)
    rules.refuse_pick_up(kept, directory.device(connection, kept.device_id))
    directory.add_certificate(connection, certificate, request_id)
    audit.append(connection, audited.issued(certificate, kept.name))
    kept.state = RequestState.COMPLETED
    _decide(connection, kept)
    return certificate


def delete_requests(connection: Connection, device_id: DeviceId) -> int:
    """Delete the pairing requests of a device, their approvals, and codes that nothing else used;
    how many requests there were."""
    column, theirs = pairing_requests.c, pairing_requests.c.device_id == device_id
    codes = connection.scalars(select(column.code_id).where(theirs, column.code_id.is_not(None)))
    code_ids = sorted(set(codes))
    subjects = approvals.c.subject_id.in_(select(column.request_id).where(theirs))
    connection.execute(delete(approvals).where(subjects))
    count = connection.execute(delete(pairing_requests).where(theirs)).rowcount
    for code_id in code_ids:
        others = exists().where(column.code_id == code_id)
        its = pairing_codes.c.code_id == code_id
        connection.execute(delete(pairing_codes).where(its, ~others))
    return count


def _revoke_other_key(
    connection: Connection, kept: Device | None, device: Device, approved: PairingRequest
) -> Revocation | None:
    if kept is None or kept.identity_fingerprint == device.identity_fingerprint:
        return None
    by, now_ms = approved.decided_by, device.paired_at_ms
    code, sentence = rules.identity_changed(kept)
    replaced = directory.revoke_key(connection, kept, by, code, now_ms)
    journal.append(connection, facts.identity_replaced(replaced))
    audit.append(connection, audited.identity_replaced(replaced))
    directory.end_jobs(connection, kept.device_id, code, sentence, now_ms)
    return replaced


def _use_code(connection: Connection, code_id: str) -> None:
    used = update(pairing_codes).where(pairing_codes.c.code_id == code_id, _ACTIVE)
    values = {"state": CodeState.USED.value, "sealed_pin": None}
    if connection.execute(used.values(values)).rowcount == 0:
        raise PairingFailed()


def _decide(connection: Connection, decided: PairingRequest) -> None:
    same = pairing_requests.c.request_id == decided.request_id
    connection.execute(update(pairing_requests).where(same).values(decision_row(decided)))
    approval = {
        "state": rules.APPROVAL_STATES[decided.state].value,
        "decided_by": decided.decided_by,
        "decided_at_ms": decided.decided_at_ms,
        "reason": decided.reason,
    }
    its = approvals.c.approval_id == decided.approval_id
    connection.execute(update(approvals).where(its).values(approval))


def _request(connection: Connection, which: ColumnElement[bool]) -> PairingRequest | None:
    row = connection.execute(select(pairing_requests).where(which)).mappings().first()
    return None if row is None else request_of(row)


def _codes(connection: Connection, which: ColumnElement[bool]) -> list[PairingCode]:
    statement = select(pairing_codes).where(which).order_by(pairing_codes.c.code_id)
    return [code_of(row) for row in connection.execute(statement).mappings()]
