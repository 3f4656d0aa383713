"""Files that survive a crash and that others cannot read."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from palyra import _files
from palyra._files import check_private, make_private_dir, sweep_temporaries, write_atomic
from palyra.errors import DirectoryNotPrivate, DiskFull, KeyFilePermission

POSIX_ONLY = pytest.mark.skipif(os.name != "posix", reason="modes mean nothing here")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_written(tmp_path: Path) -> None:
    """The file has the new contents and nothing else is left beside it."""
    file = tmp_path / "a"
    write_atomic(file, b"one")
    write_atomic(file, b"two")
    assert file.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [file]


@POSIX_ONLY
def test_mode(tmp_path: Path) -> None:
    """The mode is what was asked, whatever it was before and whatever the umask is."""
    file = tmp_path / "a"
    file.write_bytes(b"old")
    file.chmod(0o644)
    write_atomic(file, b"new")
    assert mode(file) == 0o600
    write_atomic(file, b"new", mode=0o644)
    assert mode(file) == 0o644


@POSIX_ONLY
def test_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Contents are synced before the rename, and the directory after it."""
    done: list[str] = []
    sync, replace = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        done.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        sync(descriptor)

    def rename(source: str, target: Path) -> None:
        done.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", rename)
    write_atomic(tmp_path / "a", b"x")
    assert done == ["file", "rename", "directory"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.EIO, "broken"), KeyboardInterrupt()])
def test_failed_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, error: BaseException
) -> None:
    """A write that fails leaves the old contents and no temporary file, and says why."""
    file = tmp_path / "a"
    write_atomic(file, b"old")

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(type(error)):
        write_atomic(file, b"new")
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_disk_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No room is a typed error that names the place."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFull) as refused:
        write_atomic(tmp_path / "a", b"x")
    assert refused.value.where == str(tmp_path)
    monkeypatch.setattr("tempfile.mkstemp", full)
    with pytest.raises(DiskFull):
        write_atomic(tmp_path / "a", b"x")


def test_what_a_crash_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is removed; other files, directories and links, and what others own, are not."""
    file = tmp_path / "a.json"
    write_atomic(file, b"x")
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", lambda _: None)
        patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            write_atomic(file, b"a private key")
    (left,) = {*tmp_path.iterdir()} - {file}
    kept = {".a.json.backup", ".a.json.12345678.bak", ".b.json.abcdefgh", "a.json.abcdefgh"}
    for name in kept:
        (tmp_path / name).touch()
    (tmp_path / ".a.json.abcdefgh").mkdir()
    (tmp_path / ".a.json.abcdefgi").symlink_to(file)
    with monkeypatch.context() as patch:
        patch.setattr(_files, "_is_mine", lambda _: False)
        sweep_temporaries(file)
    assert left.exists()
    sweep_temporaries(file)
    assert {each.name for each in tmp_path.iterdir()} == kept | {
        "a.json",
        ".a.json.abcdefgh",
        ".a.json.abcdefgi",
    }


def test_what_cannot_be_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stays: a disk that is read-only is no reason not to start."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    left = tmp_path / ".a.abcdefgh"
    left.touch()
    monkeypatch.setattr(os, "unlink", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    sweep_temporaries(tmp_path / "a")
    assert left.exists()


def test_no_directory(tmp_path: Path) -> None:
    """A missing directory is the system's own error."""
    with pytest.raises(FileNotFoundError):
        write_atomic(tmp_path / "none" / "a", b"x")


@POSIX_ONLY
def test_private_directory(tmp_path: Path) -> None:
    """A new directory and its missing parents are 0700; asking again changes nothing."""
    path = tmp_path / "a" / "b"
    make_private_dir(path)
    make_private_dir(path)
    assert (mode(path), mode(path.parent)) == (0o700, 0o700)


@POSIX_ONLY
def test_open_directory(tmp_path: Path) -> None:
    """A directory open to others is closed if empty or known as ours, else refused unchanged."""
    path = tmp_path / "a"
    path.mkdir()
    path.chmod(0o755)
    make_private_dir(path)
    assert mode(path) == 0o700
    path.chmod(0o755)
    (path / "palyra.toml").touch()
    with pytest.raises(DirectoryNotPrivate) as refused:
        make_private_dir(path)
    assert refused.value.mode == mode(path) == 0o755
    assert refused.value.hint == f"chmod 700 {path}" and "0755" in str(refused.value)
    make_private_dir(path, marks=("palyra.sqlite3", "palyra.toml"))
    assert mode(path) == 0o700


def test_file_in_the_way(tmp_path: Path) -> None:
    """A file where the directory should be is the system's own error."""
    (tmp_path / "a").touch()
    with pytest.raises(NotADirectoryError):
        make_private_dir(tmp_path / "a")


@POSIX_ONLY
@pytest.mark.parametrize("bits", [0o640, 0o604, 0o620, 0o601])
def test_check_private(tmp_path: Path, bits: int) -> None:
    """A key file is refused as soon as group or others have any right to it."""
    file = tmp_path / "key"
    file.touch()
    file.chmod(0o600)
    check_private(file)
    file.chmod(bits)
    with pytest.raises(KeyFilePermission) as refused:
        check_private(file)
    assert refused.value.mode == bits


def test_without_modes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where modes mean nothing they are not looked at, and files are written all the same."""
    monkeypatch.setattr(_files, "_POSIX", False)
    path = tmp_path / "a"
    make_private_dir(path)
    file = path / "key"
    write_atomic(file, b"x", mode=0o644)
    file.chmod(0o644)
    check_private(file)
    assert file.read_bytes() == b"x"
