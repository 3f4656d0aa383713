"""Putting a backup or an exported document where the next start finds it.

The state root has to be empty.  While files are put in place a ``store_epoch`` stands there without
a database: a start that finds it so refuses, so nothing half-restored is ever served.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import attrs
from sqlalchemy import Connection, delete, func, insert, literal, or_, select, update

from palyra._files import make_private_dir, write_atomic
from palyra._lock import RootLock
from palyra.core.approval import ApprovalState
from palyra.core.identifiers import Entropy
from palyra.core.jobs import JobState
from palyra.core.operators import InvitationState
from palyra.core.pairing import CodeState, RequestState
from palyra.errors import DiskFull, NoGatewayState, StateRootNotEmpty
from palyra.store import (
    audit,
    audited,
    auditread,
    facts,
    journal,
    migrations,
    opening,
    remembered,
)
from palyra.store.archive import Archive, private_file, sync_directory
from palyra.store.faults import translated
from palyra.store.gathering import CONFIG, DATABASE, IDENTITY, STORE_KEY
from palyra.store.opening import EPOCH_NAME, UNCONFIRMED
from palyra.store.sealedconfig import open_config
from palyra.store.snapshot import SNAPSHOT_NAME, ImportedState, import_snapshot
from palyra.store.tables import (
    approvals,
    call_approvals,
    jobs,
    meta,
    operator_invitations,
    pairing_codes,
    pairing_requests,
)

LOCK = "palyra.lock"
MAX_DOCUMENT = 512 * 1024 * 1024
_MARKS = (CONFIG, IDENTITY, LOCK)


@attrs.frozen
class Voided:
    """What restoring changed: jobs whose outcome is unknown now, and codes and pairing requests
    that are void.  ``queued`` jobs wait on: they begin when devices are served."""

    unknown: int = 0
    queued: int = 0
    codes: int = 0
    requests: int = 0


def restore_backup(
    archive: Archive, root: Path, *, store_key: bytes, now_ms: int, entropy: Entropy = os.urandom
) -> Voided:
    """Make an empty or missing directory the state root that ``archive`` was made of.

    Call :meth:`Archive.unlock`, which gives the store key, and :meth:`Archive.verify` before.  A
    failure leaves the directory as it was, a crash leaves one that no gateway starts on.

    :raises StateRootNotEmpty: something is there already.
    :raises palyra.errors.StateRootLocked: a gateway is starting on it.
    :raises palyra.errors.StoreTooNew: a newer version made the backup.
    :raises palyra.errors.BackupInvalid: it changed since it was verified, or ``store_key`` is
        another one.
    :raises DiskFull: there is no room for it.
    """
    made = not root.exists()
    require_empty(root)
    try:
        make_private_dir(root)
        lock = RootLock.take(root / LOCK, who="A gateway")
        try:
            return _restored(archive, root, store_key, now_ms, entropy)
        finally:
            lock.release()
    except BaseException as error:
        if made:
            shutil.rmtree(root, ignore_errors=True)
        if isinstance(error, OSError):
            raise translated(error, str(root / DATABASE)) from error
        raise


def require_empty(root: Path) -> None:
    """Refuse a directory that holds more than a lock (:class:`StateRootNotEmpty`)."""
    found = sorted(each.name for each in root.iterdir()) if root.exists() else []
    found = [name for name in found if name != LOCK]
    if found:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        raise StateRootNotEmpty(str(root), found[0] + more)


def import_document(document: bytes, root: Path, *, file: str, now_ms: int) -> ImportedState:
    """Put an exported ``node-runtime.v1.json`` where the next start makes a database of it.

    :raises StateRootNotEmpty: a database was there, or another document is.
    :raises palyra.errors.StateRootLocked: a gateway runs there.
    :raises palyra.errors.StoreCorrupt: the document is damaged; names ``file``.
    """
    state = import_snapshot(document, now_ms=now_ms, file=file)
    make_private_dir(root, marks=_MARKS)
    lock = RootLock.take(root / LOCK, who="A gateway")
    try:
        for name in (DATABASE, EPOCH_NAME, SNAPSHOT_NAME):
            if (root / name).exists():
                raise StateRootNotEmpty(str(root), name)
        write_atomic(root / SNAPSHOT_NAME, document)
    finally:
        lock.release()
    return state


def export_document(root: Path, *, now_ms: int) -> bytes:
    """The ``node-runtime.v1.json`` of a state root, whose gateway may run.

    :raises NoGatewayState: there is none.
    :raises palyra.errors.StoreCorrupt: it is damaged.
    """
    path = root / SNAPSHOT_NAME
    try:
        document = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NoGatewayState(str(root)) from error
    import_snapshot(document, now_ms=now_ms, file=str(path))
    return document


def _restored(
    archive: Archive, root: Path, store_key: bytes, now_ms: int, entropy: Entropy
) -> Voided:
    require_empty(root)
    if sum(member.size for member in archive.manifest.files) > shutil.disk_usage(root).free:
        raise DiskFull(str(root))
    epoch = entropy(16).hex()
    write_atomic(root / EPOCH_NAME, epoch.encode())  # from here on no gateway starts here
    try:
        staging = Path(tempfile.mkdtemp(dir=root, prefix=".restore-"))
        archive.extract(staging)
        with private_file(staging / IDENTITY / STORE_KEY) as file:
            file.write(store_key)
        sync_directory(staging / IDENTITY)
        config = staging / CONFIG
        if config.exists():
            write_atomic(config, open_config(store_key, config.read_bytes(), file=archive.name))
        voided = Voided()
        if archive.manifest.schema is not None:
            created_ms = archive.manifest.created_unix_ms
            voided = _void(staging / DATABASE, archive.name, epoch, created_ms, now_ms, entropy)
        _put_in_place(staging, root)
    except BaseException:
        _clear(root)
        raise
    return voided


def _put_in_place(staging: Path, root: Path) -> None:
    """The database last: with it the root is a state; without one it is when the epoch is gone."""
    for name in (IDENTITY, CONFIG):
        if (staging / name).exists():
            os.rename(staging / name, root / name)
    sync_directory(root)
    if (staging / DATABASE).exists():
        os.rename(staging / DATABASE, root / DATABASE)
    else:
        (root / EPOCH_NAME).unlink()
    sync_directory(root)
    shutil.rmtree(staging, ignore_errors=True)


def _clear(root: Path) -> None:
    """Take back what was put into a directory that was empty; the epoch goes last."""
    names = [each.name for each in root.iterdir() if each.name not in (LOCK, EPOCH_NAME)]
    for name in (*names, EPOCH_NAME):
        path = root / name
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _void(
    path: Path, name: str, epoch: str, created_ms: int, now_ms: int, entropy: Entropy
) -> Voided:
    """End what cannot go on in the database of the backup ``name``, in one transaction."""
    connection = opening.connect(path, "BEGIN IMMEDIATE")
    try:
        with connection.begin():
            migrations.upgrade(connection, name)
            _mark(connection, epoch, created_ms)
            _new_chain(connection, created_ms, now_ms, entropy)
            voided = Voided(
                unknown=_end_jobs(connection, now_ms),
                queued=_queued(connection),
                codes=_void_codes(connection),
                requests=_void_requests(connection),
            )
            _void_calls(connection)
            remembered.complete(connection)
            return voided
    except Exception as error:
        raise translated(error, str(path)) from error
    finally:
        connection.close()


def _mark(connection: Connection, epoch: str, created_ms: int) -> None:
    """Another epoch, and the age of this state: the oldest that nobody has confirmed."""
    kept = connection.scalar(select(meta.c.value).where(meta.c.key == UNCONFIRMED))
    since_ms = created_ms if kept is None else min(created_ms, int(kept))
    rows = {UNCONFIRMED: str(since_ms), "store_epoch": epoch}
    connection.execute(delete(meta).where(meta.c.key.in_(rows)))
    connection.execute(insert(meta), [{"key": key, "value": rows[key]} for key in rows])


def _new_chain(connection: Connection, created_ms: int, now_ms: int, entropy: Entropy) -> None:
    """Another chain of audit rows: the one before may have gone on after the backup."""
    before = None if audit.present(connection) is None else auditread.head(connection)
    made = datetime.fromtimestamp(created_ms / 1000, UTC).isoformat(timespec="seconds")
    audit.begin_chain(connection, entropy, now_ms, before, f"restored from a backup of {made}")


def _end_jobs(connection: Connection, now_ms: int) -> int:
    """Whether an attempt took effect is known to a device only, and to a record that is lost.

    A job that was waiting may have been sent after the backup.  It waits on only where running it
    again does no harm.
    """
    sent = jobs.c.state.in_([JobState.DISPATCHED.value, JobState.AWAITING.value])
    once = jobs.c.idempotent.is_(False)
    sentence = (
        literal("Outcome unknown: it was waiting or running when the backup was made, so it may ")
        + literal("have taken effect; check ")
        + jobs.c.device_name
        + literal(" before repeating.")
    )
    ended = {
        "state": JobState.OUTCOME_UNKNOWN.value,
        "finished_at_ms": now_ms,
        "effect_possible": True,
        "waiting_for": "",
        "retry_at_ms": None,
        "error_code": "outcome_unknown",
        "error": sentence,
    }
    those = jobs.c.finished_at_ms.is_(None) & or_(sent, once)
    columns = (jobs.c.device_id, jobs.c.job_id, jobs.c.capability, jobs.c.device_name)
    found = connection.execute(select(*columns).where(those).order_by(jobs.c.job_id)).all()
    unknown = JobState.OUTCOME_UNKNOWN
    journal.append(connection, *(facts.ended(*row[:3], unknown, now_ms) for row in found))
    audit.add(
        connection,
        [audited.ended(row[1], row[3], unknown.value, unknown.value, now_ms) for row in found],
    )
    return connection.execute(update(jobs).where(those).values(ended)).rowcount


def _queued(connection: Connection) -> int:
    statement = select(func.count()).select_from(jobs).where(jobs.c.finished_at_ms.is_(None))
    return connection.scalar(statement) or 0


def _void_codes(connection: Connection) -> int:
    """Invitations too: one that was accepted since the backup would be open again."""
    still_open = operator_invitations.c.state == InvitationState.OPEN.value
    withdrawn = update(operator_invitations).values(state=InvitationState.WITHDRAWN.value)
    connection.execute(withdrawn.where(still_open))
    connection.execute(update(pairing_codes).values(sealed_pin=None))
    active = pairing_codes.c.state == CodeState.ACTIVE.value
    void = update(pairing_codes).where(active).values(state=CodeState.EXPIRED.value)
    return connection.execute(void).rowcount


def _void_requests(connection: Connection) -> int:
    """Also those that were approved: their devices ask again, and an operator again says yes."""
    connection.execute(update(pairing_requests).values(sealed_key=None))
    states = [ApprovalState.PENDING.value, ApprovalState.APPROVED.value]
    expired = update(approvals).values(state=ApprovalState.EXPIRED.value)
    connection.execute(expired.where(approvals.c.state.in_(states)))
    open_ = [RequestState.PENDING.value, RequestState.APPROVED.value]
    void = update(pairing_requests).values(state=RequestState.EXPIRED.value)
    return connection.execute(void.where(pairing_requests.c.state.in_(open_))).rowcount


def _void_calls(connection: Connection) -> None:
    """A yes may have been used since the backup, and whoever asked may have been revoked: none of
    them lets anything run, or stands for repeats."""
    of_calls = call_approvals.c
    states = [ApprovalState.PENDING.value, ApprovalState.APPROVED.value]
    expired = update(call_approvals).values(state=ApprovalState.EXPIRED.value)
    connection.execute(expired.where(of_calls.state.in_(states)))
    stands = of_calls.standing_until_ms.is_not(None)
    connection.execute(update(call_approvals).where(stands).values(standing_until_ms=None))
