"""Promises of opening a SQLite store."""

from __future__ import annotations

import sqlite3
import stat
from pathlib import Path

import pytest

from palyra.core.jobs import JobState
from palyra.errors import StoreCorrupt, StoreMissing, StoreTooNew, StoreUnavailable
from palyra.store import opening
from palyra.store.memory import MemoryStore
from palyra.store.sqlite import SqliteStore
from tests.store.reactorless import Calls
from tests.store.samples import (
    NOW_MS,
    a_certificate,
    a_code,
    a_device,
    a_job,
    a_registration,
    a_request,
    an_approval,
    approved,
    dispatch,
    succeed,
)

PAGE = 4096


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "palyra.sqlite3"


def made(calls: Calls, path: Path) -> SqliteStore:
    """A store that was filled and closed."""
    store = calls.open(path)
    for number in range(40):
        code = a_code(f"code {number}")
        request = a_request(f"device-{number}", code)
        calls.wait(store.add_code(code))
        calls.wait(store.open_request(request, an_approval(request)))
        calls.wait(store.approve_request(approved(request), a_device(request)))
    calls.wait(store.close())
    return store


def snapshot_at(path: Path) -> MemoryStore:
    """Write the snapshot of a store with a device, a certificate and three jobs."""
    store = MemoryStore(now_ms=lambda: NOW_MS)
    code = a_code()
    request = a_request("lab-7", code)
    certificate = a_certificate(request)
    store.add_code(code)
    store.open_request(request, an_approval(request))
    store.approve_request(approved(request), a_device(request))
    store.add_certificate(request, certificate)
    store.register(a_registration(request.device_id, certificate.fingerprint))
    device_id = request.device_id
    spare = a_request("spare", a_code("spare"))
    store.add_code(a_code("spare"))
    store.open_request(spare, an_approval(spare))
    store.approve_request(approved(spare), a_device(spare))
    store.accept(a_job("queued", device_id))
    store.accept(dispatch(a_job("sent", device_id)))
    store.accept(succeed(dispatch(a_job("done", device_id))))
    store.revoke(spare.device_id, "ana", "lost", NOW_MS)
    store.remove(spare.device_id, "ana", "sold", NOW_MS)
    store.add_code(a_code("unused"))
    store.write_snapshot(path)
    return store


def test_a_new_store_is_private_and_has_an_epoch(calls: Calls, path: Path) -> None:
    """The database is 0600, and store_epoch beside it says that it was made."""
    store = calls.open(path)
    calls.wait(store.close())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.with_name("store_epoch").read_text() == store.store_epoch
    assert not store.imported


def test_a_missing_epoch_file_is_written_again(calls: Calls, path: Path) -> None:
    """A start that was cut before the file was written is finished by the next."""
    first = made(calls, path)
    path.with_name("store_epoch").unlink()
    calls.wait(calls.open(path).close())
    assert path.with_name("store_epoch").read_text() == first.store_epoch


def test_a_missing_database_is_an_error(calls: Calls, path: Path) -> None:
    """A store that was used before is never made anew, not even from its snapshot."""
    path.with_name("store_epoch").write_text("ab" * 16)
    snapshot_at(path.with_name("node-runtime.v1.json"))
    with pytest.raises(StoreMissing) as caught:
        calls.open(path)
    assert str(path) in caught.value.sentence
    assert not path.exists()


def test_an_emptied_database_is_an_error(calls: Calls, path: Path) -> None:
    """A file of no bytes beside a store_epoch is damage, not a new store."""
    path.with_name("store_epoch").write_text("ab" * 16)
    path.touch()
    with pytest.raises(StoreCorrupt):
        calls.open(path)
    assert path.read_bytes() == b""


def test_a_damaged_header_is_refused(calls: Calls, path: Path) -> None:
    """The error names the file, and the file stays as it is."""
    made(calls, path)
    damaged = b"not a database" + path.read_bytes()[14:]
    path.write_bytes(damaged)
    with pytest.raises(StoreCorrupt) as caught:
        calls.open(path)
    assert str(path) in caught.value.sentence
    assert path.read_bytes() == damaged


def test_a_damaged_page_is_refused(calls: Calls, path: Path) -> None:
    """A page of the device table in the middle of the file is looked at in every start."""
    made(calls, path)
    whole = path.read_bytes()
    damaged = bytearray(whole)
    for number in range(whole.index(b"device-20", PAGE) // PAGE, len(whole) // PAGE):
        page = slice(number * PAGE, (number + 1) * PAGE)
        if b"device-" in whole[page]:
            damaged[page] = b"\xff" * PAGE
    path.write_bytes(damaged)
    with pytest.raises(StoreCorrupt) as caught:
        calls.open(path)
    assert str(path) in caught.value.sentence
    assert path.read_bytes() == damaged
    assert {each.name for each in path.parent.iterdir()} == {path.name, "store_epoch"}


def test_after_an_unclean_stop_the_whole_file_is_looked_through(calls: Calls, path: Path) -> None:
    """A WAL left behind means a crash: then also the history is checked."""
    made(calls, path)
    raw = sqlite3.connect(path)
    (root,) = raw.execute("SELECT rootpage FROM sqlite_master WHERE name = 'approvals'").fetchone()
    raw.close()
    damaged = bytearray(path.read_bytes())
    damaged[(root - 1) * PAGE : root * PAGE] = b"\xff" * PAGE
    path.write_bytes(damaged)
    opening.check(path)
    path.with_name("palyra.sqlite3-wal").write_bytes(b"left behind")
    with pytest.raises(StoreCorrupt):
        opening.check(path)
    assert path.read_bytes() == damaged


def test_a_newer_schema_is_refused(calls: Calls, path: Path) -> None:
    """An older version does not touch what it does not know."""
    made(calls, path)
    raw = sqlite3.connect(path)
    raw.execute("UPDATE alembic_version SET version_num = '9999'")
    raw.commit()
    raw.close()
    with pytest.raises(StoreTooNew, match="9999"):
        calls.open(path)


def test_a_locked_or_absent_place_is_named(calls: Calls, tmp_path: Path) -> None:
    """A directory in its place cannot be used, and that is said."""
    place = tmp_path / "palyra.sqlite3"
    place.mkdir()
    with pytest.raises(StoreUnavailable):
        calls.open(place)
    with pytest.raises(StoreUnavailable):
        opening.connect(tmp_path / "none" / "palyra.sqlite3", "BEGIN")


def test_a_reader_that_cannot_connect_leaves_no_writer(
    calls: Calls, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening gives all or nothing."""
    connect = opening.connect

    def second_fails(place: Path, begin: str) -> object:
        if begin == "BEGIN":
            raise StoreUnavailable(str(place), "no")
        return connect(place, begin)

    monkeypatch.setattr(opening, "connect", second_fails)
    with pytest.raises(StoreUnavailable):
        calls.open(path)


def test_a_pragma_that_does_not_take_is_an_error(path: Path) -> None:
    """In memory there is no WAL: such a database is refused."""
    raw = sqlite3.connect(":memory:")
    with pytest.raises(StoreUnavailable, match="journal_mode"):
        opening.set_pragmas(raw, "memory")
    raw.close()


def test_a_snapshot_is_imported_where_no_database_ever_was(calls: Calls, path: Path) -> None:
    """Devices, certificates and final jobs come back; running jobs are unknown; codes are void."""
    old = snapshot_at(path.with_name("node-runtime.v1.json"))
    store = calls.open(path)
    assert store.imported
    assert store.gateway_id == old.gateway_id
    assert store.store_epoch != old.store_epoch
    (device,) = calls.wait(store.devices())
    assert [device] == calls.wait(old.devices())
    assert len(calls.wait(store.live_certificates())) == 1
    (tombstone,) = calls.wait(store.revocations())
    assert [tombstone] == calls.wait(old.revocations())
    assert tombstone.removed_at_ms == NOW_MS
    assert calls.wait(store.active_codes(NOW_MS)) == []
    assert calls.wait(store.unfinished()) == []
    sent = dispatch(a_job("sent", device.device_id))
    assert sent.attempt is not None
    found = calls.wait(store.job_of_attempt(sent.attempt.attempt_id))
    assert found is not None and found.state is JobState.OUTCOME_UNKNOWN
    done = calls.wait(store.job(a_job("done", device.device_id).call.job_id))
    assert done is not None and done.state is JobState.SUCCEEDED
    calls.wait(store.close())
    again = calls.open(path)
    assert not again.imported
    calls.wait(again.close())


def test_what_was_imported_is_to_be_confirmed(calls: Calls, path: Path) -> None:
    """As of the document's age, over every start, until an operator has confirmed it."""
    snapshot_at(path.with_name("node-runtime.v1.json"))
    calls.now_ms = NOW_MS + 9
    for _ in range(2):
        store = calls.open(path)
        assert store.unconfirmed_since_ms == NOW_MS
        calls.wait(store.close())
    store = calls.open(path)
    calls.wait(store.confirm())
    assert store.unconfirmed_since_ms is None
    calls.wait(store.close())
    store = calls.open(path)
    assert (store.unconfirmed_since_ms, store.imported) == (None, False)
    calls.wait(store.close())


def test_a_start_that_was_cut_imports_all_the_same(calls: Calls, path: Path) -> None:
    """A database file without a schema and without store_epoch was never finished."""
    snapshot_at(path.with_name("node-runtime.v1.json"))
    path.touch()
    store = calls.open(path)
    assert store.imported
    calls.wait(store.close())


def test_a_snapshot_beside_a_database_is_not_imported(calls: Calls, path: Path) -> None:
    """Without the store_epoch file too: the database is what counts."""
    first = made(calls, path)
    snapshot_at(path.with_name("node-runtime.v1.json"))
    path.with_name("store_epoch").unlink()
    store = calls.open(path)
    assert (store.imported, store.gateway_id) == (False, first.gateway_id)
    calls.wait(store.close())


def test_a_damaged_snapshot_is_refused_and_nothing_made(calls: Calls, path: Path) -> None:
    """It is named and left as it is, and no database appears."""
    snapshot = path.with_name("node-runtime.v1.json")
    snapshot.write_bytes(b'{"schema_version": 1, "nodes": [')
    with pytest.raises(StoreCorrupt) as caught:
        calls.open(path)
    assert str(snapshot) in caught.value.sentence
    assert sorted(each.name for each in path.parent.iterdir()) == [snapshot.name]
    assert snapshot.read_bytes() == b'{"schema_version": 1, "nodes": ['
