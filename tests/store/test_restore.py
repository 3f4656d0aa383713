"""Promises of restoring: whole or not at all, and nothing goes on that may have ended since."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from alembic import command

from palyra._lock import RootLock
from palyra.core.approval import ApprovalState
from palyra.core.approvallog import CallQuery
from palyra.core.callapprovals import TIMEBOXED
from palyra.core.journal import JOB_ENDED
from palyra.errors import (
    RESTORE,
    DiskFull,
    NoGatewayState,
    PalyraError,
    StateRootLocked,
    StateRootNotEmpty,
    StoreCorrupt,
    StoreMissing,
    StoreTooNew,
)
from palyra.store import migrations, restore
from palyra.store.auditfile import verified
from palyra.store.restore import Voided, export_document, import_document
from tests.contract.callapprovals import a_call, yes
from tests.store.conftest import engine
from tests.store.reactorless import Calls
from tests.store.samples import NOW_MS, a_code, a_job, a_request
from tests.store.stateroot import KEY, SECRET, filled, made, restored

DATABASE = "palyra.sqlite3"
DOCUMENT = "node-runtime.v1.json"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A filled state root that no test changes."""
    return filled(tmp_path_factory.mktemp("gateway") / "root")


@pytest.fixture(scope="module")
def backup(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of it."""
    file = tmp_path_factory.mktemp("backups") / "one.tar"
    made(root, file)
    return file


def column(database: Path, statement: str) -> list[Any]:
    """What a statement finds, one value a row."""
    with closing(sqlite3.connect(f"file:{database}?immutable=1", uri=True)) as raw:
        return [value for (value,) in raw.execute(statement)]


def rows(database: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table."""
    names = column(database, "SELECT name FROM sqlite_master WHERE type = 'table'")
    with closing(sqlite3.connect(f"file:{database}?immutable=1", uri=True)) as raw:
        return {name: sorted(raw.execute(f"SELECT * FROM {name}"), key=repr) for name in names}


def test_a_root_is_restored(root: Path, backup: Path, tmp_path: Path) -> None:
    """Every file of the state, readable by nobody else, and the store key is in its place."""
    target = tmp_path / "some" / "where"
    restored(backup, target)
    modes = {
        str(path.relative_to(target)): stat.S_IMODE(path.stat().st_mode)
        for path in target.rglob("*")
    }
    assert modes == {
        "identity": 0o700,
        "identity/ca.key.sealed": 0o600,
        "identity/ca.pem": 0o600,
        "identity/store.key": 0o600,
        "palyra.lock": 0o600,
        "palyra.sqlite3": 0o600,
        "palyra.toml": 0o600,
        "store_epoch": 0o600,
    }
    assert stat.S_IMODE(target.stat().st_mode) == 0o700
    assert (target / "identity" / "store.key").read_bytes() == KEY
    assert (target / "identity" / "ca.key.sealed").read_bytes() == SECRET
    assert (target / "palyra.toml").read_bytes() == (root / "palyra.toml").read_bytes()


def test_what_cannot_go_on_is_ended(root: Path, backup: Path, tmp_path: Path) -> None:
    """Jobs that may have run are outcome_unknown, which their device's journal says too, codes and
    open requests expired; no other row is touched."""
    target = tmp_path / "restored"
    assert restored(backup, target) == Voided(unknown=2, queued=1, codes=1, requests=2)
    database = target / DATABASE
    before, after = rows(root / DATABASE), rows(database)
    changed = {"meta", "jobs", "journal", "pairing_codes", "pairing_requests", "approvals"}
    changed |= {"audit"}
    assert {name for name in before if before[name] != after[name]} == changed
    grown = {name: len(after[name]) - len(before[name]) for name in before if name != "meta"}
    assert {name: count for name, count in grown.items() if count} == {"journal": 2, "audit": 3}
    jobs = column(database, "SELECT state FROM jobs ORDER BY state")
    assert jobs == ["outcome_unknown", "outcome_unknown", "queued", "succeeded"]
    codes = column(database, "SELECT DISTINCT state FROM pairing_codes ORDER BY state")
    assert codes == ["expired", "used"]
    requests = column(database, "SELECT state FROM pairing_requests ORDER BY state")
    assert requests == ["completed", "expired", "expired"]
    approvals = column(database, "SELECT state FROM approvals ORDER BY state")
    assert approvals == ["consumed", "expired", "expired"]


def test_a_yes_from_before_the_backup_is_none(tmp_path: Path) -> None:
    """No approval of calls lets anything run again, or stands for repeats."""
    root, target, calls = filled(tmp_path / "root"), tmp_path / "restored", Calls()
    store = calls.open(root / DATABASE)
    device_id = a_request("lab-7", a_code("code of lab-7")).device_id
    for name in ("pending", "given", "used"):
        job = a_job(name, device_id, idempotent=True)
        approval = a_call(job, name=name)
        calls.wait(store.accept(job, None, approval))
        if name != "pending":
            stands = yes(approval, scope=TIMEBOXED, standing_until_ms=NOW_MS + 3_600_000)
            calls.wait(store.decide_call(stands))
        if name == "used":
            used = ApprovalState.CONSUMED
            calls.wait(store.close_call(approval.approval_id, used, "", NOW_MS))
    assert len(calls.wait(store.open_calls(NOW_MS))) == 3
    calls.wait(store.close())
    made(root, tmp_path / "one.tar")
    restored(tmp_path / "one.tar", target)
    store = calls.open(target / DATABASE)
    kept = calls.wait(store.call_approvals(CallQuery()))
    assert sorted(each.state.value for each in kept) == ["consumed", "expired", "expired"]
    assert calls.wait(store.open_calls(NOW_MS)) == []
    calls.wait(store.close())


def test_a_restored_store_begins_another_chain(backup: Path, tmp_path: Path) -> None:
    """Its first row cites the head of the one before, which is kept; both hold."""
    database = tmp_path / "restored" / DATABASE
    restored(backup, tmp_path / "restored")
    chains = column(database, "SELECT DISTINCT chain_id FROM audit ORDER BY chain_id")
    assert len(chains) == 2
    statement = f"SELECT reason FROM audit WHERE chain_id = '{chains[1]}' AND seq = 1"
    (reason,) = column(database, statement)
    assert "restored from a backup of" in reason and "follows row" in reason
    verdict = verified(database, (), None)
    assert verdict is not None
    assert (verdict.chain_id, verdict.rows, verdict.faults) == (chains[1], 3, ())


def test_an_unknown_outcome_is_told(backup: Path, tmp_path: Path) -> None:
    """With the device to look at; as the job machine would leave such a job."""
    restored(backup, tmp_path / "restored")
    calls = Calls()
    store = calls.open(tmp_path / "restored" / DATABASE)
    device_id = a_request("lab-7", a_code("code of lab-7")).device_id
    job = calls.wait(store.job(a_job("sent", device_id).call.job_id))
    waiting = calls.wait(store.unfinished())
    page = calls.wait(store.journal(device_id, 0, 9))
    calls.wait(store.close())
    assert [each.seq for each in page.events] == [1, 2, 3, 4, 5, 6]
    ended = [each.details["state"] for each in page.events if each.kind == JOB_ENDED]
    assert ended == ["succeeded", "outcome_unknown", "outcome_unknown"]
    assert job is not None and job.final and job.effect_possible
    assert (job.error_code, job.finished_at_ms) == ("outcome_unknown", NOW_MS + 1)
    assert "check lab-7 before repeating" in job.error
    assert [each.call.job_id for each in waiting] == [a_job("queued", device_id).call.job_id]


def test_a_restored_store_is_another_one(root: Path, backup: Path, tmp_path: Path) -> None:
    """The same gateway with a new epoch, unconfirmed since the time of the backup."""
    target = tmp_path / "restored"
    restored(backup, target)
    calls = Calls()
    store = calls.open(target / DATABASE)
    assert store.unconfirmed_since_ms == NOW_MS
    assert (target / "store_epoch").read_text() == store.store_epoch
    assert store.store_epoch != (root / "store_epoch").read_text()
    kept = column(root / DATABASE, "SELECT value FROM meta WHERE key = 'gateway_id'")
    assert kept == [store.gateway_id]
    calls.wait(store.confirm())
    calls.wait(store.close())
    assert column(target / DATABASE, "SELECT count(*) FROM meta") == [3]


@pytest.mark.parametrize("older_ms", [NOW_MS - 5, NOW_MS + 5])
def test_the_oldest_unconfirmed_time_counts(tmp_path: Path, older_ms: int) -> None:
    """A backup of a restored state that nobody confirmed is as old as that state."""
    root = filled(tmp_path / "root")
    with closing(sqlite3.connect(root / DATABASE, isolation_level=None)) as raw:
        raw.execute("INSERT INTO meta VALUES ('unconfirmed_since_ms', ?)", (str(older_ms),))
    made(root, tmp_path / "b.tar")
    restored(tmp_path / "b.tar", tmp_path / "restored")
    statement = "SELECT value FROM meta WHERE key = 'unconfirmed_since_ms'"
    assert column(tmp_path / "restored" / DATABASE, statement) == [str(min(older_ms, NOW_MS))]


def test_pairing_secrets_are_gone(tmp_path: Path) -> None:
    """Sealed PINs and keys made for devices are of sessions that are void."""
    root = filled(tmp_path / "root")
    with closing(sqlite3.connect(root / DATABASE, isolation_level=None)) as raw:
        raw.execute("UPDATE pairing_codes SET sealed_pin = x'01'")
        raw.execute("UPDATE pairing_requests SET sealed_key = x'01'")
    made(root, tmp_path / "b.tar")
    restored(tmp_path / "b.tar", tmp_path / "restored")
    database = tmp_path / "restored" / DATABASE
    assert set(column(database, "SELECT sealed_pin FROM pairing_codes")) == {None}
    assert set(column(database, "SELECT sealed_key FROM pairing_requests")) == {None}


def test_open_invitations_are_withdrawn(tmp_path: Path) -> None:
    """One that was accepted since the backup would be open again."""
    root = filled(tmp_path / "root")
    with closing(sqlite3.connect(root / DATABASE, isolation_level=None)) as raw:
        insert = (
            "INSERT INTO operator_invitations VALUES (?, 'bo', 'admin', 'ana', 1, 2, '', ?, '', '')"
        )
        raw.executemany(insert, [("a", "open"), ("b", "accepted")])
    made(root, tmp_path / "b.tar")
    restored(tmp_path / "b.tar", tmp_path / "restored")
    statement = "SELECT state FROM operator_invitations ORDER BY token_digest"
    assert column(tmp_path / "restored" / DATABASE, statement) == ["withdrawn", "accepted"]


def test_an_older_schema_is_brought_up(tmp_path: Path) -> None:
    """A backup of an older version is restored by a newer one."""
    root = filled(tmp_path / "root")
    (root / DATABASE).unlink()
    with engine(f"sqlite:///{root / DATABASE}").begin() as connection:
        command.upgrade(migrations.configuration(connection), "0001")
        insert = "INSERT INTO meta VALUES ('gateway_id', 'G'), ('store_epoch', 'E')"
        connection.exec_driver_sql(insert)
    assert made(root, tmp_path / "b.tar").schema == "0001"
    assert restored(tmp_path / "b.tar", tmp_path / "restored") == Voided()
    found = column(tmp_path / "restored" / DATABASE, "SELECT version_num FROM alembic_version")
    assert found == [migrations.HEAD]


def test_a_root_without_a_configuration(tmp_path: Path) -> None:
    """All defaults, also after a restore."""
    root = filled(tmp_path / "root")
    (root / "palyra.toml").unlink()
    made(root, tmp_path / "b.tar")
    restored(tmp_path / "b.tar", tmp_path / "restored")
    assert not (tmp_path / "restored" / "palyra.toml").exists()
    assert (tmp_path / "restored" / DATABASE).exists()


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    """The backup is named, and nothing is there afterwards."""
    root = filled(tmp_path / "root")
    with closing(sqlite3.connect(root / DATABASE, isolation_level=None)) as raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
    made(root, tmp_path / "b.tar")
    with pytest.raises(StoreTooNew) as caught:
        restored(tmp_path / "b.tar", tmp_path / "restored")
    assert str(tmp_path / "b.tar") in caught.value.sentence
    assert not (tmp_path / "restored").exists()


# -- where a backup is put ----------------------------------------------------------------------


def no_links(*_: object) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


@pytest.mark.parametrize("links", [True, False])
def test_a_backup_is_put_beside_nothing(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    """Also on a file system without hard links it is whole and private, and what came there
    meanwhile is kept; nothing else is left."""
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    file = tmp_path / "b.tar"
    made(root, file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    kept = file.read_bytes()
    with pytest.raises(FileExistsError):
        made(root, file)
    assert file.read_bytes() == kept
    assert list(tmp_path.iterdir()) == [file]
    restored(file, tmp_path / "restored")


# -- where it is put ----------------------------------------------------------------------------


def test_only_an_empty_root(backup: Path, tmp_path: Path) -> None:
    """Whatever is there is left as it is; a lock that nobody holds is nothing."""
    (tmp_path / "palyra.lock").touch()
    (tmp_path / "node-host").mkdir()
    (tmp_path / "palyra.toml").write_text("")
    with pytest.raises(StateRootNotEmpty) as caught:
        restored(backup, tmp_path)
    assert "(node-host and 1 more)" in caught.value.sentence
    (tmp_path / "node-host").rmdir()
    with pytest.raises(StateRootNotEmpty):
        restored(backup, tmp_path)
    (tmp_path / "palyra.toml").unlink()
    restored(backup, tmp_path)
    assert (tmp_path / DATABASE).exists()


def test_a_gateway_that_starts_there(backup: Path, tmp_path: Path) -> None:
    """It has the lock: nothing is restored under it."""
    lock = RootLock.take(tmp_path / "palyra.lock", who="A gateway")
    with pytest.raises(StateRootLocked):
        restored(backup, tmp_path)
    lock.release()
    assert [path.name for path in tmp_path.iterdir()] == ["palyra.lock"]


def test_no_room(backup: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told before anything is written, or when the system says it; all is taken back."""
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=4096))
        with pytest.raises(DiskFull):
            restored(backup, tmp_path / "restored")
    assert list(tmp_path.iterdir()) == []

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(DiskFull):
        restored(backup, tmp_path / "restored")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DiskFull):
        restored(backup, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["palyra.lock"]


class Cut(BaseException):
    """The process is killed."""


@pytest.mark.parametrize("database", [True, False])
def test_a_crash_leaves_nothing_to_start(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: bool
) -> None:
    """Wherever it is cut, a start refuses; only the last step makes it a state."""
    made(root, tmp_path / "b.tar", database=database)
    steps = 0
    for step in range(100):
        target, left = tmp_path / f"restored-{step}", step

        def once(path: Path) -> None:
            nonlocal left
            if left == 0:
                raise Cut
            left -= 1

        with monkeypatch.context() as patched:
            patched.setattr(restore, "_clear", lambda _: None)
            patched.setattr(shutil, "rmtree", lambda *_, **__: None)
            patched.setattr(restore, "sync_directory", once)
            cut_rename(patched, once)
            try:
                restored(tmp_path / "b.tar", target)
            except Cut:
                steps += 1
            else:
                break
        if (target / DATABASE).exists() or (not database and not (target / "store_epoch").exists()):
            continue  # everything is in its place
        with pytest.raises(StoreMissing) as caught:
            Calls().open(target / DATABASE)
        # Without store_epoch an empty database would be made under the restored CA.
        assert caught.value.hint == RESTORE
    assert steps >= 5
    assert (target / "identity" / "ca.pem").exists()
    assert (target / DATABASE).exists() == database


def cut_rename(patched: pytest.MonkeyPatch, once: Any) -> None:
    renamed = os.rename

    def rename(old: Path, new: Path) -> None:
        once(old)
        renamed(old, new)

    patched.setattr(os, "rename", rename)


# -- the readable document ----------------------------------------------------------------------


def test_export_and_import(root: Path, tmp_path: Path) -> None:
    """What one gateway wrote is what another one starts with, unconfirmed."""
    document = export_document(root, now_ms=NOW_MS)
    assert document == (root / DOCUMENT).read_bytes()
    target = tmp_path / "other"
    state = import_document(document, target, file="d.json", now_ms=NOW_MS)
    assert len(state.devices) == 2
    assert stat.S_IMODE((target / DOCUMENT).stat().st_mode) == 0o600
    calls = Calls()
    store = calls.open(target / DATABASE)
    assert store.gateway_id == state.gateway_id
    assert store.unconfirmed_since_ms is not None
    assert len(calls.wait(store.devices())) == 2
    calls.wait(store.close())


def test_an_import_beside_an_identity(root: Path, tmp_path: Path) -> None:
    """The CA stays: devices need not be paired again.  Others may not look in from then on."""
    (tmp_path / "identity").mkdir()
    tmp_path.chmod(0o755)
    import_document((root / DOCUMENT).read_bytes(), tmp_path, file="d.json", now_ms=NOW_MS)
    assert (tmp_path / DOCUMENT).exists()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


@pytest.mark.parametrize("name", [DATABASE, "store_epoch", DOCUMENT])
def test_no_import_over_another_state(root: Path, tmp_path: Path, name: str) -> None:
    """A database that was there, or another document, is never hidden."""
    (tmp_path / name).write_text("kept")
    (tmp_path / "palyra.lock").touch()
    with pytest.raises(StateRootNotEmpty) as caught:
        import_document((root / DOCUMENT).read_bytes(), tmp_path, file="d.json", now_ms=NOW_MS)
    assert name in caught.value.sentence
    assert (tmp_path / name).read_text() == "kept"


def test_a_damaged_document(tmp_path: Path) -> None:
    """Neither imported nor exported, and the file is named."""
    with pytest.raises(StoreCorrupt) as caught:
        import_document(b"{}", tmp_path / "root", file="d.json", now_ms=NOW_MS)
    assert "d.json" in caught.value.sentence
    assert list(tmp_path.iterdir()) == []
    (tmp_path / DOCUMENT).write_bytes(b"{}")
    with pytest.raises(StoreCorrupt) as caught:
        export_document(tmp_path, now_ms=NOW_MS)
    assert str(tmp_path / DOCUMENT) in caught.value.sentence


def test_nothing_to_export(tmp_path: Path) -> None:
    """A directory without a document is no state root."""
    with pytest.raises(NoGatewayState):
        export_document(tmp_path, now_ms=NOW_MS)
    with pytest.raises(PalyraError):
        export_document(tmp_path / "none", now_ms=NOW_MS)
