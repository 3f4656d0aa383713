"""Promises of backups: what is in them, and that nothing else is ever restored."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import sqlite3
import stat
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from palyra.errors import (
    BackupInvalid,
    DiskFull,
    NoGatewayState,
    PalyraError,
    StoreCorrupt,
    StoreUnavailable,
)
from palyra.store import archive as archives
from palyra.store import gathering
from palyra.store.archive import Archive, Manifest, Member
from palyra.store.restore import restore_backup
from tests.store.reactorless import Calls
from tests.store.samples import NOW_MS, a_code
from tests.store.stateroot import CHEAP_N, KEY, PASSPHRASE, filled, made, restored


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


def refused(data: bytes, directory: Path) -> str:
    """Restore these bytes: they are refused and nothing is written; why."""
    file, target = directory / "hostile.tar", directory / "restored"
    file.write_bytes(data)
    with pytest.raises(BackupInvalid) as caught:
        restored(file, target)
    assert not target.exists()
    assert str(file) in caught.value.sentence
    return caught.value.problem


def test_a_backup_is_a_plain_tar(root: Path, backup: Path) -> None:
    """The manifest first, then the files in a known order; what belongs to others is not in it."""
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    with tarfile.open(backup) as tar:
        members = tar.getmembers()
    assert [(each.name, each.isfile(), each.mode) for each in members] == [
        ("manifest.json", True, 0o600),
        ("identity/ca.key.sealed", True, 0o600),
        ("identity/ca.pem", True, 0o600),
        ("palyra.toml", True, 0o600),
        ("store_epoch", True, 0o600),
        ("palyra.sqlite3", True, 0o600),
    ]
    with Archive.open(backup) as archive:
        manifest = archive.manifest
    assert (manifest.palyra, manifest.created_unix_ms) == ("1.2", NOW_MS)
    assert len(manifest.gateway_id) == 26 and manifest.schema
    assert KEY not in backup.read_bytes()
    assert list(backup.parent.iterdir()) == [backup]


def test_a_backup_leaves_the_root_as_it_was(root: Path, tmp_path: Path) -> None:
    """No file is made, changed or removed in it."""
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    made(root, tmp_path / "b.tar")
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_equal_states_make_equal_backups(root: Path, tmp_path: Path) -> None:
    """But for what is drawn: with one entropy every byte is the same."""
    for name in ("a.tar", "b.tar"):
        made(root, tmp_path / name, entropy=bytes)
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


def test_a_live_store_is_backed_up(tmp_path: Path) -> None:
    """What is committed is in the backup although it is still in the WAL; writers go on."""
    root = filled(tmp_path / "root")
    calls = Calls()
    store = calls.open(root / "palyra.sqlite3")
    calls.wait(store.add_code(a_code("before")))
    assert (root / "palyra.sqlite3-wal").stat().st_size > 0
    made(root, tmp_path / "b.tar")
    calls.wait(store.add_code(a_code("after")))
    calls.wait(store.close())
    restored(tmp_path / "b.tar", tmp_path / "other")
    with closing(sqlite3.connect(tmp_path / "other" / "palyra.sqlite3")) as raw:
        found = {code_id for (code_id,) in raw.execute("SELECT code_id FROM pairing_codes")}
    assert a_code("before").code_id in found
    assert a_code("after").code_id not in found


def test_an_identity_that_changes_is_read_again(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of one moment are kept together, or the last ones seen; one that goes is no fault."""
    found = [{"ca.pem": b"old"}, {"ca.pem": b"new"}, {"ca.pem": b"new"}]
    monkeypatch.setattr(gathering, "_read", lambda _: found.pop(0))
    gathered = gathering.gather(root, tmp_path / "tree", database=False, seal_config=bytes)
    assert gathered.names == ("identity/ca.pem", "palyra.toml")
    assert (tmp_path / "tree" / "identity" / "ca.pem").read_bytes() == b"new"
    count = iter(range(1000))
    monkeypatch.setattr(gathering, "_read", lambda _: {"ca.pem": b"%d" % next(count)})
    gathering.gather(root, tmp_path / "restless", database=False, seal_config=bytes)
    assert (tmp_path / "restless" / "identity" / "ca.pem").read_bytes() == b"10"


def test_a_file_that_goes_while_it_is_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not there."""

    def gone(path: Path) -> bytes:
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "read_bytes", gone)
    assert gathering._read(root / "identity") == {}


def test_without_the_database(root: Path, tmp_path: Path) -> None:
    """Where the record is in PostgreSQL, identity and configuration are what there is."""
    manifest = made(root, tmp_path / "b.tar", database=False)
    assert (manifest.schema, manifest.gateway_id) == (None, "")
    names = [member.name for member in manifest.files]
    assert names == ["identity/ca.key.sealed", "identity/ca.pem", "palyra.toml"]
    target = tmp_path / "restored"
    restored(tmp_path / "b.tar", target)
    assert (target / "identity" / "store.key").read_bytes() == KEY
    assert sorted(path.name for path in target.iterdir()) == [
        "identity",
        "palyra.lock",
        "palyra.toml",
    ]


@pytest.mark.parametrize("missing", ["identity", "palyra.sqlite3"])
def test_a_directory_that_is_no_state_root(tmp_path: Path, missing: str) -> None:
    """Nothing is written."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "identity").mkdir()
    (root / "palyra.sqlite3").touch()
    path = root / missing
    path.rmdir() if path.is_dir() else path.unlink()
    with pytest.raises(NoGatewayState) as caught:
        made(root, tmp_path / "b.tar")
    assert str(root) in caught.value.sentence
    assert list(tmp_path.iterdir()) == [root]


def damaged_page(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[4096 * 3 : 4096 * 4] = b"\xff" * 4096
    file.write_bytes(data)


def no_database(file: Path) -> None:
    file.write_bytes(b"this is not a database" * 100)


def another_database(file: Path) -> None:
    file.unlink()
    with closing(sqlite3.connect(file)) as raw:
        raw.execute("CREATE TABLE t (x)")


def unfinished(file: Path) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as raw:
        raw.execute("DELETE FROM meta")


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (damaged_page, StoreCorrupt),
        (no_database, StoreCorrupt),
        (another_database, StoreUnavailable),
        (unfinished, NoGatewayState),
    ],
)
def test_damage_is_not_backed_up(
    tmp_path: Path, damage: Callable[[Path], None], error: type[PalyraError]
) -> None:
    """The database is named, and there is no backup that looks like one."""
    root = filled(tmp_path / "root")
    damage(root / "palyra.sqlite3")
    with pytest.raises(error) as caught:
        made(root, tmp_path / "b.tar")
    assert str(root) in caught.value.sentence
    assert list(tmp_path.iterdir()) == [root]


def test_no_room_for_the_copy(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory of the backup is named, whether SQLite or the system says it."""

    class Full(sqlite3.OperationalError):
        sqlite_errorcode = sqlite3.SQLITE_FULL

    def full(*_: object) -> None:
        raise Full("database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(gathering, "_looked_through", full)
        with pytest.raises(DiskFull) as caught:
            made(root, tmp_path / "b.tar")
    assert str(tmp_path) in caught.value.sentence

    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(DiskFull) as caught:
        made(root, tmp_path / "b.tar")
    assert str(tmp_path) in caught.value.sentence
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some systems cannot make a directory durable; there it is left to them."""

    def denied(*_: object) -> int:
        raise PermissionError

    monkeypatch.setattr(os, "open", denied)
    archives.sync_directory(tmp_path)


# -- what is refused ----------------------------------------------------------------------------


def test_another_passphrase(backup: Path, tmp_path: Path) -> None:
    """It opens nothing, and nothing is written."""
    with pytest.raises(BackupInvalid) as caught:
        restored(backup, tmp_path / "restored", b"correct horse")
    assert "passphrase" in caught.value.problem
    assert list(tmp_path.iterdir()) == []


_slow = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@_slow
@given(data=st.data())
def test_a_flipped_bit_is_refused(backup: Path, tmp_path: Path, data: st.DataObject) -> None:
    """Wherever it is: in a header, in the manifest, in a file, in what fills a block."""
    whole = bytearray(backup.read_bytes())
    near = st.integers(0, 4096)
    whole[data.draw(near | st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    refused(bytes(whole), tmp_path)


@_slow
@given(data=st.data())
def test_a_cut_backup_is_refused(backup: Path, tmp_path: Path, data: st.DataObject) -> None:
    """Wherever it ends early."""
    whole = backup.read_bytes()
    refused(whole[: data.draw(st.integers(0, 4096) | st.integers(0, len(whole) - 1))], tmp_path)


@_slow
@given(noise=st.binary(max_size=4096))
def test_noise_is_refused(tmp_path: Path, noise: bytes) -> None:
    """Any bytes at all."""
    refused(noise, tmp_path)


def test_more_than_a_backup_is_refused(backup: Path, tmp_path: Path) -> None:
    """Nothing may follow its end, and nothing may stand before its manifest."""
    whole = backup.read_bytes()
    assert refused(whole + bytes(10240), tmp_path) == "something follows its end"
    refused(whole[:-10240] + bytes(20480), tmp_path)
    refused(header("palyra.toml", 0) + whole, tmp_path)


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    """The header of a tar member."""
    member = tarfile.TarInfo(name)
    member.size, member.type, member.linkname, member.mode = size, kind, link, 0o600
    return member.tobuf(tarfile.GNU_FORMAT)


def signed(manifest: Manifest, key: bytes = KEY) -> bytes:
    """A manifest as its member, proven by whoever knows the passphrase."""
    return member_of(msgspec.json.encode(manifest), key)


def member_of(raw: bytes, key: bytes = KEY) -> bytes:
    document = b'{"mac":"%s","manifest":%s}' % (archives._mac(key, raw).encode(), raw)
    return header("manifest.json", len(document)) + padded(document)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def a_manifest(*files: Member, **changes: Any) -> Manifest:
    """A manifest of somebody who knows the passphrase."""
    given = {
        "format": 1,
        "palyra": "1.2",
        "gateway_id": "",
        "schema": None,
        "created_unix_ms": NOW_MS,
        "key": archives._wrapped(KEY, PASSPHRASE, os.urandom, CHEAP_N),
        "files": list(files),
    }
    return Manifest(**{**given, **changes})


EMPTY = Member("palyra.toml", 0, hashlib.sha256().hexdigest())


@pytest.mark.parametrize(
    ("name", "kind", "link"),
    [
        ("palyra.toml", tarfile.SYMTYPE, "/etc/passwd"),
        ("palyra.toml", tarfile.LNKTYPE, "manifest.json"),
        ("palyra.toml", tarfile.CHRTYPE, ""),
        ("palyra.toml", tarfile.BLKTYPE, ""),
        ("palyra.toml", tarfile.FIFOTYPE, ""),
        ("palyra.toml", tarfile.DIRTYPE, ""),
        ("palyra.toml", tarfile.CONTTYPE, ""),
        ("palyra.toml", tarfile.GNUTYPE_SPARSE, ""),
        ("palyra.toml", tarfile.GNUTYPE_LONGNAME, ""),
        ("palyra.toml", tarfile.XHDTYPE, ""),
        ("palyra.toml", tarfile.XGLTYPE, ""),
        ("../palyra.toml", tarfile.REGTYPE, ""),
        ("/etc/palyra.toml", tarfile.REGTYPE, ""),
        ("store_epoch", tarfile.REGTYPE, ""),
    ],
)
def test_a_member_of_another_kind(tmp_path: Path, name: str, kind: bytes, link: str) -> None:
    """Only the regular file that the manifest names, under exactly that name."""
    begin = signed(a_manifest(EMPTY))
    end = bytes(10240)
    assert refused(begin + header(name, 0, kind, link) + end, tmp_path) == "it is damaged"


def test_a_member_of_another_size(tmp_path: Path) -> None:
    """A header that promises more than the manifest, or a manifest more than there is."""
    begin = signed(a_manifest(EMPTY))
    assert refused(begin + header("palyra.toml", 2**40), tmp_path) == "it is damaged"
    huge = Member("palyra.sqlite3", 2**50, EMPTY.sha256)
    bomb = signed(a_manifest(huge, schema="0001")) + header(huge.name, huge.size)
    assert refused(bomb, tmp_path) == "it is cut off"


def changed(**changes: Any) -> Manifest:
    return a_manifest(EMPTY, **changes)


def with_key(**changes: Any) -> Manifest:
    wrapped = archives._wrapped(KEY, PASSPHRASE, os.urandom, CHEAP_N)
    return a_manifest(EMPTY, key=msgspec.structs.replace(wrapped, **changes))


@pytest.mark.parametrize(
    "manifest",
    [
        changed(files=[]),
        changed(files=[EMPTY, EMPTY]),
        changed(files=[msgspec.structs.replace(EMPTY, size=2**30)]),
        changed(files=[msgspec.structs.replace(EMPTY, size=-1)]),
        changed(files=[msgspec.structs.replace(EMPTY, sha256="A" * 64)]),
        *(
            changed(files=[msgspec.structs.replace(EMPTY, name=name)])
            for name in (
                "",
                "..",
                "../palyra.toml",
                "/palyra.toml",
                "palyra.toml\n",
                "palyra.lock",
                "node-runtime.v1.json",
                "identity",
                "identity/",
                "identity/..",
                "identity/../palyra.toml",
                "identity/.ca.pem",
                "identity/a/b",
                "identity/store.key",
                "identity/CA.pem",
                "identity/ca.pem\n",
                "identity/" + "a" * 65,
                "node-host/identity.json",
            )
        ),
        changed(schema="0003"),
        changed(files=[msgspec.structs.replace(EMPTY, name="palyra.sqlite3")]),
        changed(format=2),
        changed(created_unix_ms=-1),
        with_key(n=2**30),
        with_key(n=1),
        with_key(n=1000),
        with_key(r=2**20),
        with_key(p=2),
        with_key(salt=b""),
        with_key(nonce=b""),
        with_key(sealed=b"x" * 10_000),
    ],
)
def test_a_manifest_that_no_backup_has(tmp_path: Path, manifest: Manifest) -> None:
    """Also from somebody who knows the passphrase: names, sizes and costs are bounded."""
    assert "manifest" in refused(signed(manifest) + header("palyra.toml", 0), tmp_path)


def test_a_manifest_that_is_not_one(tmp_path: Path) -> None:
    """Not JSON, not text, something more in it, or written in another way."""
    good = msgspec.json.encode(a_manifest(EMPTY))
    for raw in (b"", b"[]", b"{", b'{"\xff":1}', good[:-1] + b',"more":1}'):
        refused(member_of(raw), tmp_path)
    for document in (b"\xff", b"null", b"{}"):
        refused(header("manifest.json", len(document)) + padded(document), tmp_path)
    spaced = b'{ "mac":"%s","manifest":%s}' % (archives._mac(KEY, good).encode(), good)
    refused(header("manifest.json", len(spaced)) + padded(spaced), tmp_path)
    refused(header("manifest.json", 0), tmp_path)
    refused(header("manifest.json", 2**40) + bytes(10), tmp_path)
    refused(header("palyra.toml", 10) + bytes(512), tmp_path)


def test_a_manifest_of_somebody_else(tmp_path: Path) -> None:
    """Without the store key nobody can change what is in a backup."""
    forged = signed(a_manifest(EMPTY), bytes(32)) + header("palyra.toml", 0)
    assert refused(forged, tmp_path) == "its manifest was changed"


def test_a_backup_that_changes_while_it_is_restored(tmp_path: Path) -> None:
    """What is written is looked at once more, and taken back."""
    whole = signed(a_manifest(EMPTY)) + header("palyra.toml", 0)
    whole += bytes(1024 + -(len(whole) + 1024) % 10240)
    file = io.BytesIO(whole)
    archive = Archive(file, "b.tar")
    archive.verify()
    file.seek(len(whole) - 1)
    file.write(b"!")
    with pytest.raises(BackupInvalid):
        restore_backup(archive, tmp_path / "restored", store_key=KEY, now_ms=NOW_MS)
    assert list(tmp_path.iterdir()) == []
