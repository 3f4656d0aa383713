"""Devices, certificates and revocations in SQL (:class:`palyra.core.interfaces.IDeviceDirectory`).

Every function works in the transaction of the connection it is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, delete, insert, or_, select, update

from palyra.core.devices import (
    CertificateRecord,
    CertificateState,
    Device,
    DeviceChange,
    DeviceState,
    Offering,
    Registration,
    Renewal,
    Revocation,
    RotationOrder,
)
from palyra.core.identifiers import DeviceId, Fingerprint
from palyra.errors import DeviceRevoked
from palyra.store import audit, audited, facts, joblog, journal, renewal, revocation, rules
from palyra.store.rows import (
    certificate_of,
    certificate_row,
    device_of,
    device_row,
    revocation_of,
    revocation_row,
)
from palyra.store.tables import certificates, devices, revocations

IDS_AT_ONCE = 500
"""Device ids in one statement: well below what SQLite and PostgreSQL take."""


def list_devices(connection: Connection) -> list[Device]:
    """Every device."""
    return _devices(connection, None)


def device(connection: Connection, device_id: DeviceId) -> Device | None:
    """One device."""
    found = _devices(connection, devices.c.device_id == device_id)
    return found[0] if found else None


def names_of_others(connection: Connection, device_id: DeviceId) -> frozenset[str]:
    """The names that other devices have."""
    statement = select(devices.c.name).where(devices.c.device_id != device_id)
    return frozenset(connection.scalars(statement))


def keep_device(connection: Connection, kept: Device) -> None:
    """Insert or overwrite a device."""
    row = device_row(kept)
    same = devices.c.device_id == kept.device_id
    if connection.execute(update(devices).where(same).values(row)).rowcount == 0:
        connection.execute(insert(devices).values(row))


def change(connection: Connection, wanted: DeviceChange, now_ms: int) -> Device:
    """Change name, labels and grants."""
    kept = revocation.present(device(connection, wanted.device_id), wanted.device_id)
    taken = names_of_others(connection, wanted.device_id) if wanted.name else frozenset()
    now = rules.changed(kept, wanted, taken)
    keep_device(connection, now)
    journal.append(connection, facts.changed(kept, now, now_ms))
    audit.append(connection, audited.changed(kept, now, now_ms))
    return now


def register(connection: Connection, registration: Registration) -> Device:
    """Raise the session epoch, keep the facts, make the certificate current."""
    kept = device(connection, registration.device_id)
    over = certificate(connection, registration.fingerprint)
    now = rules.registered(kept, over, registration)
    keep_device(connection, now)
    if over is not None and over.state is CertificateState.PENDING:
        _supersede(connection, now.device_id, CertificateState.CURRENT)
        this = certificates.c.fingerprint == over.fingerprint
        _set_state(connection, this, CertificateState.CURRENT)
    journal.append(connection, facts.registered(registration))
    _note_turns(connection, kept, now, registration.at_ms)
    return now


def offer(connection: Connection, offering: Offering) -> Device:
    """Keep what a device offers from now on."""
    kept = device(connection, offering.device_id)
    now = rules.offered(kept, offering)
    keep_device(connection, now)
    _note_turns(connection, kept, now, offering.at_ms)
    return now


def order_rotation(connection: Connection, order: RotationOrder) -> list[Device]:
    """Note the order with each of these devices that is paired; they as they are now."""
    ids = sorted(order.device_ids)
    ordered: list[Device] = []
    for start in range(0, len(ids), IDS_AT_ONCE):
        some = devices.c.device_id.in_(ids[start : start + IDS_AT_ONCE])
        paired = some & (devices.c.state == DeviceState.PAIRED.value)
        noted = {"rotate_asked_at_ms": order.at_ms, "rotate_asked_by": order.by}
        connection.execute(update(devices).where(paired).values(noted))
        ordered += _devices(connection, paired)
    entries = (facts.renewal_ordered(each.device_id, order) for each in ordered)
    journal.append(connection, *entries)
    audit.append(connection, audited.rotation_ordered(order, ordered))
    return ordered


def heard(connection: Connection, times: Mapping[DeviceId, int]) -> None:
    """When devices were last heard; never goes back."""
    if not times:
        return
    before = or_(devices.c.last_heard_ms.is_(None), devices.c.last_heard_ms < bindparam("at"))
    statement = (
        update(devices)
        .where(devices.c.device_id == bindparam("id"), before)
        .values(last_heard_ms=bindparam("at"))
    )
    connection.execute(statement, [{"id": key, "at": at} for key, at in times.items()])


def add_certificate(connection: Connection, kept: CertificateRecord, request_id: str) -> None:
    """Keep a certificate that was issued for a pairing request; an older pending one is over."""
    if kept.state is CertificateState.PENDING:
        _supersede(connection, kept.device_id, CertificateState.PENDING)
    _keep_certificate(connection, kept, request_id)
    journal.append(connection, facts.issued(kept))


def renew(connection: Connection, wanted: Renewal) -> CertificateRecord:
    """Keep a certificate as the device's pending one, or find the one its CSR got before."""
    device_id = wanted.certificate.device_id
    held = certificates_of(connection, device_id)
    over = None if wanted.over is None else certificate(connection, wanted.over)
    renewed = renewal.renewed(device(connection, device_id), held, over, wanted)
    if not renewed.is_new:
        return renewed.answer
    for fingerprint, state in renewed.states.items():
        _set_state(connection, certificates.c.fingerprint == fingerprint, state)
    _keep_certificate(connection, renewed.answer, None)
    journal.append(connection, facts.issued(renewed.answer))
    return renewed.answer


def certificate(connection: Connection, fingerprint: Fingerprint) -> CertificateRecord | None:
    """One certificate."""
    found = _certificates(connection, certificates.c.fingerprint == fingerprint)
    return found[0] if found else None


def certificates_of(connection: Connection, device_id: DeviceId) -> list[CertificateRecord]:
    """Every certificate of a device that is still kept."""
    return _certificates(connection, certificates.c.device_id == device_id)


def certificate_of_request(connection: Connection, request_id: str) -> CertificateRecord | None:
    """The certificate that was issued for a pairing request."""
    found = _certificates(connection, certificates.c.request_id == request_id)
    return found[0] if found else None


def live_certificates(connection: Connection, now_ms: int) -> list[CertificateRecord]:
    """Every certificate that is current, pending or superseded, and not past its notAfter."""
    recognised = _in_state(renewal.RECOGNISED)
    return _certificates(connection, recognised & (certificates.c.not_after_ms > now_ms))


def usable_certificates(connection: Connection) -> list[CertificateRecord]:
    """The current and the pending certificate of every device, whatever their dates."""
    return _certificates(connection, _in_state(renewal.LIVE))


def revoke(
    connection: Connection, device_id: DeviceId, by: str, reason: str, now_ms: int
) -> Revocation:
    """Revoke the device, its key and certificates, end its jobs; once."""
    kept = revocation.present(device(connection, device_id), device_id)
    first = _revocation(connection, device_id, kept.identity_fingerprint)
    if first is not None and kept.state is DeviceState.REVOKED:
        return first
    made = revoke_key(connection, kept, by, reason, now_ms)
    keep_device(connection, revocation.revoked(kept, made))
    journal.append(connection, facts.revoked(made))
    audit.append(connection, audited.revoked(made))
    refusal = revocation.device_revoked(kept.name, made)
    end_jobs(connection, device_id, DeviceRevoked.code, refusal.sentence, now_ms)
    return made


def revoke_key(
    connection: Connection, kept: Device, by: str, reason: str, now_ms: int
) -> Revocation:
    """Revoke a device's identity key and certificates; the device itself stays as it is."""
    held = certificates_of(connection, kept.device_id)
    earlier = _revocation(connection, kept.device_id, kept.identity_fingerprint)
    made = revocation.revocation_of(kept, held, earlier, by, reason, now_ms)
    theirs = certificates.c.device_id == kept.device_id
    _set_state(connection, theirs, CertificateState.REVOKED)
    keep_revocation(connection, made)
    return made


def keep_revocation(connection: Connection, kept: Revocation) -> None:
    """Insert or overwrite a revocation."""
    row = revocation_row(kept)
    same = _of_identity(kept.device_id, kept.identity_fingerprint)
    if connection.execute(update(revocations).where(same).values(row)).rowcount == 0:
        connection.execute(insert(revocations).values(row))


def allow(connection: Connection, approved: Device) -> None:
    """Note with the tombstones of a device's id, and of its key, that it was approved again."""
    its = revocations.c.device_id == approved.device_id
    same_key = revocations.c.identity_fingerprint == approved.identity_fingerprint
    for each in revocation.allowed(_revocations(connection, its | same_key), approved):
        keep_revocation(connection, each)


def bury(connection: Connection, device_id: DeviceId, by: str, now_ms: int) -> list[Revocation]:
    """Make tombstones of the revocations of a device."""
    those = _revocations(connection, revocations.c.device_id == device_id)
    tombstones = [revocation.tombstone(each, by, now_ms) for each in those]
    for each in tombstones:
        keep_revocation(connection, each)
    return tombstones


def delete_device(connection: Connection, device_id: DeviceId) -> int:
    """Delete a device with its certificates and its journal; how many certificates these were."""
    theirs = certificates.c.device_id == device_id
    count = connection.execute(delete(certificates).where(theirs)).rowcount
    journal.forget(connection, device_id)
    connection.execute(delete(devices).where(devices.c.device_id == device_id))
    return count


def end_jobs(
    connection: Connection, device_id: DeviceId, code: str, sentence: str, now_ms: int
) -> None:
    """End every unfinished job of a device."""
    running = joblog.unfinished(connection, device_id)
    ended = [rules.end_job(job, code, sentence, now_ms) for job in running]
    joblog.keep_ended(connection, ended)


def list_revocations(connection: Connection) -> list[Revocation]:
    """Every revocation that still stands."""
    return _revocations(connection, None)


def revocations_of_key(connection: Connection, fingerprint: Fingerprint) -> list[Revocation]:
    """The revocations of an identity key."""
    return _revocations(connection, revocations.c.identity_fingerprint == fingerprint)


def keep_imported(
    connection: Connection,
    kept: Iterable[Device],
    issued: Iterable[CertificateRecord],
    revoked: Iterable[Revocation],
) -> None:
    """Keep what a snapshot knows of devices."""
    _insert_all(connection, devices, [device_row(each) for each in kept])
    unknown = {"request_id": None}
    _insert_all(connection, certificates, [certificate_row(each) | unknown for each in issued])
    _insert_all(connection, revocations, [revocation_row(each) for each in revoked])


def _insert_all(connection: Connection, table: Any, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(insert(table), rows)


def _devices(connection: Connection, which: ColumnElement[bool] | None) -> list[Device]:
    statement = select(devices).order_by(devices.c.device_id)
    statement = statement if which is None else statement.where(which)
    return [device_of(row) for row in connection.execute(statement).mappings()]


def _note_turns(connection: Connection, kept: Device | None, now: Device, at_ms: int) -> None:
    """Note which grants are suspended from now on, and which are not any more."""
    if kept is not None:
        journal.append(connection, *facts.reoffered(kept, now, at_ms))
        audit.append(connection, *audited.reoffered(kept, now, at_ms))


def _keep_certificate(
    connection: Connection, kept: CertificateRecord, request_id: str | None
) -> None:
    row = certificate_row(kept) | {"request_id": request_id}
    connection.execute(insert(certificates).values(row))


def _revocation(
    connection: Connection, device_id: DeviceId, fingerprint: Fingerprint
) -> Revocation | None:
    found = _revocations(connection, _of_identity(device_id, fingerprint))
    return found[0] if found else None


def _revocations(connection: Connection, which: ColumnElement[bool] | None) -> list[Revocation]:
    statement = select(revocations).order_by(revocations.c.device_id, revocations.c.at_ms)
    statement = statement if which is None else statement.where(which)
    return [revocation_of(row) for row in connection.execute(statement).mappings()]


def _of_identity(device_id: DeviceId, fingerprint: Fingerprint) -> ColumnElement[bool]:
    column = revocations.c
    return (column.device_id == device_id) & (column.identity_fingerprint == fingerprint)


def _certificates(connection: Connection, which: ColumnElement[bool]) -> list[CertificateRecord]:
    statement = select(certificates).where(which).order_by(certificates.c.fingerprint)
    return [certificate_of(row) for row in connection.execute(statement).mappings()]


def _in_state(states: Iterable[CertificateState]) -> ColumnElement[bool]:
    return certificates.c.state.in_(sorted(state.value for state in states))


def _supersede(connection: Connection, device_id: DeviceId, state: CertificateState) -> None:
    those = (certificates.c.device_id == device_id) & (certificates.c.state == state.value)
    _set_state(connection, those, CertificateState.SUPERSEDED)


def _set_state(connection: Connection, which: ColumnElement[bool], state: CertificateState) -> None:
    connection.execute(update(certificates).where(which).values(state=state.value))
