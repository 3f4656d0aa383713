"""Devices, certificates and revocations in SQL (:class:`palyra.core.interfaces.IDeviceDirectory`).

Every function works in the transaction of the connection it is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, insert, or_, select, update

from palyra.core.devices import (
    CertificateRecord,
    CertificateState,
    Device,
    DeviceChange,
    DeviceState,
    Registration,
    Revocation,
)
from palyra.core.identifiers import DeviceId, Fingerprint
from palyra.errors import DeviceRevoked
from palyra.store import joblog, rules
from palyra.store.rows import (
    certificate_of,
    certificate_row,
    device_of,
    device_row,
    revocation_of,
    revocation_row,
)
from palyra.store.tables import certificates, devices, revocations


def list_devices(connection: Connection) -> list[Device]:
    """Every device that was not removed."""
    present = devices.c.state != DeviceState.REMOVED.value
    statement = select(devices).where(present).order_by(devices.c.device_id)
    return [device_of(row) for row in connection.execute(statement).mappings()]


def device(connection: Connection, device_id: DeviceId) -> Device | None:
    """One device, also one that was removed."""
    statement = select(devices).where(devices.c.device_id == device_id)
    row = connection.execute(statement).mappings().first()
    return None if row is None else device_of(row)


def names_of_others(connection: Connection, device_id: DeviceId) -> frozenset[str]:
    """The names that another device has, of those not removed."""
    present = devices.c.state != DeviceState.REMOVED.value
    statement = select(devices.c.name).where(present, devices.c.device_id != device_id)
    return frozenset(connection.scalars(statement))


def keep_device(connection: Connection, kept: Device) -> None:
    """Insert or overwrite a device."""
    row = device_row(kept)
    same = devices.c.device_id == kept.device_id
    if connection.execute(update(devices).where(same).values(row)).rowcount == 0:
        connection.execute(insert(devices).values(row))


def change(connection: Connection, wanted: DeviceChange) -> Device:
    """Change name and labels."""
    kept = device(connection, wanted.device_id)
    taken = names_of_others(connection, wanted.device_id) if wanted.name else frozenset()
    now = rules.changed(kept, wanted, taken)
    keep_device(connection, now)
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
    return now


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
    row = certificate_row(kept)
    connection.execute(insert(certificates).values(row | {"request_id": request_id}))


def certificate(connection: Connection, fingerprint: Fingerprint) -> CertificateRecord | None:
    """One certificate."""
    found = _certificates(connection, certificates.c.fingerprint == fingerprint)
    return found[0] if found else None


def certificate_of_request(connection: Connection, request_id: str) -> CertificateRecord | None:
    """The certificate that was issued for a pairing request."""
    found = _certificates(connection, certificates.c.request_id == request_id)
    return found[0] if found else None


def live_certificates(connection: Connection, now_ms: int) -> list[CertificateRecord]:
    """Every certificate that is current, pending or superseded, and not past its notAfter."""
    recognised = _in_state(rules.RECOGNISED)
    return _certificates(connection, recognised & (certificates.c.not_after_ms > now_ms))


def usable_certificates(connection: Connection) -> list[CertificateRecord]:
    """The current and the pending certificate of every device, whatever their dates."""
    return _certificates(connection, _in_state(rules.LIVE))


def revoke(
    connection: Connection, device_id: DeviceId, by: str, reason: str, now_ms: int
) -> Revocation:
    """Revoke the device, its key and certificates, end its jobs; once."""
    kept = rules.revocable(device(connection, device_id), device_id)
    if kept.state is DeviceState.REVOKED:
        return _of_device(connection, kept)
    revocation = revoke_key(connection, kept, by, reason, now_ms)
    keep_device(connection, rules.revoked(kept, revocation))
    refusal = rules.device_revoked(kept.name, revocation)
    end_jobs(connection, device_id, DeviceRevoked.code, refusal.sentence, now_ms)
    return revocation


def revoke_key(
    connection: Connection, kept: Device, by: str, reason: str, now_ms: int
) -> Revocation:
    """Revoke a device's identity key and certificates; the device itself stays as it is."""
    theirs = certificates.c.device_id == kept.device_id
    revocation = rules.revocation_of(kept, _certificates(connection, theirs), by, reason, now_ms)
    _set_state(connection, theirs, CertificateState.REVOKED)
    connection.execute(insert(revocations).values(revocation_row(revocation)))
    return revocation


def end_jobs(
    connection: Connection, device_id: DeviceId, code: str, sentence: str, now_ms: int
) -> None:
    """End every unfinished job of a device."""
    running = joblog.unfinished(connection, device_id)
    ended = [rules.end_job(job, code, sentence, now_ms) for job in running]
    joblog.keep_ended(connection, ended)


def list_revocations(connection: Connection) -> list[Revocation]:
    """Every revocation that still stands."""
    statement = select(revocations).order_by(revocations.c.device_id, revocations.c.at_ms)
    return [revocation_of(row) for row in connection.execute(statement).mappings()]


def revocations_of_key(connection: Connection, fingerprint: Fingerprint) -> list[Revocation]:
    """The revocations of an identity key."""
    statement = select(revocations).where(revocations.c.identity_fingerprint == fingerprint)
    return [revocation_of(row) for row in connection.execute(statement).mappings()]


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


def _of_device(connection: Connection, kept: Device) -> Revocation:
    return next(
        each
        for each in revocations_of_key(connection, kept.identity_fingerprint)
        if each.device_id == kept.device_id
    )


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
