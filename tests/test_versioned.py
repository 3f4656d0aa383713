"""Tests of :mod:`palyra._versioned`."""

from __future__ import annotations

import json
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra import _versioned
from palyra._versioned import Raw, VersionedFile
from palyra.errors import (
    DiskFull,
    FileTooNew,
    KeyFilePermission,
    PalyraError,
    StateOfAnother,
    StoreCorrupt,
    StoreUnavailable,
)

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


class Lamp(msgspec.Struct, frozen=True):
    """One of a house."""

    lamp_id: str
    watts: int


class House(msgspec.Struct, frozen=True):
    """Version 3 of a file."""

    schema_version: int
    street: str
    lamps: tuple[Lamp, ...] = ()
    door: Lamp | None = None


def _to_two(raw: Raw) -> Raw:
    raw["street"] = raw.pop("road")
    return raw


def _to_three(raw: Raw) -> Raw:
    return raw | {"lamps": [{"lamp_id": each, "watts": 60} for each in raw.pop("lights", [])]}


STEPS = {1: _to_two, 2: _to_three}
HOUSE = House(3, "Dlouha", (Lamp("a", 5), Lamp("b", 6)), Lamp("c", 7))


@pytest.fixture
def file(tmp_path: Path) -> VersionedFile[House]:
    return VersionedFile(tmp_path / "house.json", House, 3, STEPS)


def put(file: VersionedFile[House], content: Any) -> None:
    file.path.write_text(json.dumps(content))
    file.path.chmod(0o600)


def test_it_reads_what_it_wrote(file: VersionedFile[House]) -> None:
    """Privately, and nothing is left beside it; before there is nothing."""
    assert file.read() is None and file.read_owned() is None
    file.write(HOUSE)
    assert file.read() == HOUSE and file.read_owned() == (HOUSE, os.geteuid())
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert list(file.path.parent.iterdir()) == [file.path]


def test_a_file_with_two_names(file: VersionedFile[House], tmp_path: Path) -> None:
    """Is read as it is: root must not close what a user has linked into his tree."""
    other = tmp_path / "passwd"
    put(VersionedFile(other, House, 3), {"schema_version": 3, "street": "x"})
    os.link(other, file.path)
    for mode in (0o644, 0o600):
        other.chmod(mode)
        assert file.read() == House(3, "x")
        assert stat.S_IMODE(other.stat().st_mode) == mode
    other.unlink()
    file.path.chmod(0o644)
    file.read()
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600


def test_an_older_file_is_upgraded_step_by_step(file: VersionedFile[House]) -> None:
    """In memory; the file follows at the next write, and what nobody knew stays in it."""
    put(file, {"schema_version": 1, "road": "Dlouha", "lights": ["a"], "cat": "Micka"})
    before = file.path.read_bytes()
    upgraded = file.read()
    assert upgraded == House(3, "Dlouha", (Lamp("a", 60),))
    assert file.path.read_bytes() == before
    file.write(upgraded)
    assert file.read() == upgraded
    written = json.loads(file.path.read_bytes())
    assert written["schema_version"] == 3 and written["cat"] == "Micka"
    assert not {"road", "lights"} & set(written)


def test_a_newer_file_is_left(file: VersionedFile[House]) -> None:
    """It is neither read nor written over; the sentence names it and its version."""
    put(file, {"schema_version": 4, "street": "Dlouha"})
    before = file.path.read_bytes()
    with pytest.raises(FileTooNew) as refused:
        file.read()
    assert str(file.path) in refused.value.sentence and "schema 4" in refused.value.sentence
    with pytest.raises(FileTooNew):
        file.write(HOUSE)
    assert file.path.read_bytes() == before
    file.replace(HOUSE)
    assert file.read() == HOUSE


def test_unknown_keys_survive(file: VersionedFile[House]) -> None:
    """Those of the file, and of each object in it that is still the same; not those of one that is
    another one now."""
    file.write(HOUSE)
    written = json.loads(file.path.read_bytes())
    written["cat"] = "Micka"
    written["door"]["colour"] = "red"
    for lamp in written["lamps"]:
        lamp["shade"] = lamp["lamp_id"] * 3
    put(file, written)
    changed = House(3, "Kratka", (Lamp("b", 6), Lamp("a", 50), Lamp("d", 1)), HOUSE.door)
    file.write(changed)
    assert file.read() == changed
    assert json.loads(file.path.read_bytes()) == {
        "schema_version": 3,
        "street": "Kratka",
        "lamps": [
            {"lamp_id": "b", "watts": 6, "shade": "bbb"},
            {"lamp_id": "a", "watts": 50},
            {"lamp_id": "d", "watts": 1},
        ],
        "door": {"lamp_id": "c", "watts": 7, "colour": "red"},
        "cat": "Micka",
    }
    file.write(msgspec.structs.replace(changed, door=Lamp("c", 8)))
    assert "red" not in file.path.read_text()


DAMAGE = [
    b"",
    b"{",
    b"\xff",
    b"[]",
    b"null",
    b"[" * 100_000,
    b'{"street":"x"}',
    b'{"schema_version":true,"street":"x"}',
    b'{"schema_version":0,"street":"x"}',
    b'{"schema_version":"3","street":"x"}',
    b'{"schema_version":3,"street":7}',
    b'{"schema_version":3,"street":"' + b"x" * _versioned.MAX_BYTES + b'"}',
]


@pytest.mark.parametrize("damage", DAMAGE, ids=range(len(DAMAGE)))
def test_a_damaged_file_is_named_and_left(file: VersionedFile[House], damage: bytes) -> None:
    """Until something is written, which is whole then."""
    file.path.write_bytes(damage)
    with pytest.raises(StoreCorrupt) as refused:
        file.read()
    assert refused.value.file == str(file.path)
    assert file.path.read_bytes() == damage
    file.write(HOUSE)
    assert file.read() == HOUSE


@given(st.binary(max_size=100) | st.text(max_size=50).map(str.encode))
@settings(max_examples=100)
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """Whatever is there, it is refused with a sentence or read."""
    file = VersionedFile(tmp_path_factory.mktemp("any") / "house.json", House, 3, STEPS)
    file.path.write_bytes(data)
    try:
        file.read()
    except PalyraError as error:
        assert str(file.path) in error.sentence


def test_what_is_no_file(file: VersionedFile[House], tmp_path: Path) -> None:
    """A directory, a link and a FIFO are refused at once: nothing is followed or waited for."""
    file.path.mkdir()
    with pytest.raises(StoreCorrupt, match="no file"):
        file.read()
    file.path.rmdir()
    os.mkfifo(file.path, 0o600)
    with pytest.raises(StoreCorrupt, match="no file"):
        file.read()
    file.path.unlink()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text('{"schema_version":3,"street":"x"}')
    file.path.symlink_to(elsewhere)
    with pytest.raises(StoreCorrupt, match="a link"):
        file.read()
    below = VersionedFile(elsewhere / "house.json", House, 3)
    with pytest.raises(StoreCorrupt):
        below.read()


def test_a_file_that_others_may_read(file: VersionedFile[House]) -> None:
    """A secret is refused, with the command that mends it; any other is closed."""
    file.write(HOUSE)
    file.path.chmod(0o640)
    secret = VersionedFile(file.path, House, 3, secret=True)
    with pytest.raises(KeyFilePermission) as refused:
        secret.read()
    assert refused.value.hint == f"chmod 600 {file.path}"
    assert file.read() == HOUSE
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert secret.read() == HOUSE


@pytest.fixture
def entered() -> Iterator[Path]:
    """A directory that every user may enter, which pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="palyra-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@ROOT_ONLY
def test_a_file_of_another_user(entered: Path) -> None:
    """Root reads it, and leaves it his; anybody else is told whose it is."""
    file = VersionedFile(entered / "house.json", House, 3, STEPS)
    file.write(HOUSE)
    os.seteuid(65534)
    try:
        with pytest.raises(StateOfAnother) as refused:
            file.read()
    finally:
        os.seteuid(0)
    assert f"{file.path} belongs to root; you are " in refused.value.sentence
    assert refused.value.hint == "sudo -u root palyra node status"
    os.chown(file.path, 65534, 65534)
    assert file.read_owned() == (HOUSE, 65534)


@ROOT_ONLY
def test_a_file_that_its_owner_may_not_read(entered: Path) -> None:
    """Is not said to be the user's who owns a directory above it; nor is what is in a directory
    that is closed to its owner."""
    file = VersionedFile(entered / "kept" / "house.json", House, 3, STEPS)
    file.path.parent.mkdir()
    for closed in (file.path, file.path.parent):
        file.path.touch()
        for each in (file.path, file.path.parent):
            os.chown(each, 65534, 65534)
        closed.chmod(0)
        os.seteuid(65534)
        try:
            with pytest.raises(StoreUnavailable, match=re.escape(f"{closed} cannot be used")):
                file.read()
        finally:
            os.seteuid(0)


def test_a_disk_that_does_not_do(
    file: VersionedFile[House], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading and writing fail with a sentence; the file is as it was."""
    file.write(HOUSE)

    def full(*_: object) -> None:
        raise DiskFull("/")

    def broken(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(_versioned, "write_atomic", full)
        with pytest.raises(DiskFull):
            file.write(House(3, "Kratka"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "read", broken)
        with pytest.raises(StoreUnavailable, match="input/output error"):
            file.read()
    assert file.read() == HOUSE


def test_what_a_crash_left_is_swept(file: VersionedFile[House]) -> None:
    """Whole and half-written files under temporary names; nothing where there is no directory."""
    file.write(HOUSE)
    left = file.path.with_name(".house.json.ab_12xyz")
    left.write_text("{")
    file.sweep()
    assert not left.exists() and file.read() == HOUSE
    VersionedFile(file.path / "nowhere" / "house.json", House, 3).sweep()
