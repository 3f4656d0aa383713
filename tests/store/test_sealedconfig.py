"""Promises of the configuration in a backup: nobody reads it without the passphrase."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.errors import BackupInvalid
from palyra.store.archive import Archive
from palyra.store.restore import restore_backup
from palyra.store.sealedconfig import open_config, seal_config
from tests.store.samples import NOW_MS
from tests.store.stateroot import KEY, filled, made, restored

PASSWORD = "a-password-of-postgres"
CONFIG = f'[store]\nurl = "postgresql://palyra:{PASSWORD}@db.example/palyra"\n'


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state root whose record is in PostgreSQL."""
    root = filled(tmp_path_factory.mktemp("gateway") / "root")
    (root / "palyra.toml").write_text(CONFIG)
    return root


@pytest.mark.parametrize("database", [False, True])
def test_a_password_is_nowhere_in_a_backup(root: Path, tmp_path: Path, database: bool) -> None:
    """Neither it nor anything else of the configuration; restoring gives the same file back."""
    backup = tmp_path / "b.tar"
    made(root, backup, database=database)
    whole = backup.read_bytes()
    for part in (PASSWORD, "postgresql", "db.example", "[store]"):
        assert part.encode() not in whole
    restored(backup, tmp_path / "restored")
    assert (tmp_path / "restored" / "palyra.toml").read_text() == CONFIG


def test_a_password_is_never_written_in_clear(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even into the directory that the backup is made in, which a crash would leave behind."""
    seen: list[bytes] = []
    fsync = os.fsync

    def look(descriptor: int) -> None:
        seen.extend(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", look)
    made(root, tmp_path / "b.tar", database=False)
    assert len(seen) > 3
    assert not any(PASSWORD.encode() in each for each in seen)


def test_two_backups_do_not_tell_whether_it_changed(root: Path, tmp_path: Path) -> None:
    """Each is sealed anew."""
    kept = []
    for name in ("a.tar", "b.tar"):
        made(root, tmp_path / name, database=False)
        with tarfile.open(tmp_path / name) as tar:
            member = tar.extractfile("palyra.toml")
            assert member is not None
            kept.append(member.read())
    assert kept[0] != kept[1]


def test_a_store_key_of_another_backup(root: Path, tmp_path: Path) -> None:
    """What it does not open is not restored, and nothing is left behind."""
    made(root, tmp_path / "b.tar", database=False)
    target = tmp_path / "restored"
    with Archive.open(tmp_path / "b.tar") as archive, pytest.raises(BackupInvalid) as caught:
        restore_backup(archive, target, store_key=bytes(32), now_ms=NOW_MS)
    assert caught.value.sentence == (
        f"{tmp_path / 'b.tar'} cannot be restored: palyra.toml in it does not open."
    )
    assert not target.exists()


@settings(max_examples=50)
@given(plain=st.binary(max_size=200), data=st.data())
def test_one_other_bit_opens_nothing(plain: bytes, data: st.DataObject) -> None:
    """Nor does a shorter one."""
    sealed = seal_config(KEY, plain, os.urandom)
    assert open_config(KEY, sealed, file="b.tar") == plain
    at = data.draw(st.integers(0, len(sealed) - 1))
    other = bytearray(sealed)
    other[at] ^= 1 << data.draw(st.integers(0, 7))
    for broken in (bytes(other), sealed[:at]):
        with pytest.raises(BackupInvalid):
            open_config(KEY, broken, file="b.tar")
