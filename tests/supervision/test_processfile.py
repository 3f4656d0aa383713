"""Tests of :mod:`palyra.supervision.processfile`."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.errors import FileTooNew, StoreCorrupt
from palyra.supervision.processfile import (
    ProcessFile,
    read,
    read_or_none,
    remove_if_mine,
    write,
)

FILE = ProcessFile(1, 77, "/x/out", "/x/err", 1_790_000_000_000, "boot", "12", "systemd", "0.1.0")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "node-host-process.json"


def test_it_is_kept_under_its_published_names(path: Path) -> None:
    """Private, and read as it was written."""
    assert read(path) is None and read_or_none(path) is None
    write(path, FILE)
    assert read(path) == FILE
    assert path.stat().st_mode & 0o777 == 0o600
    assert set(json.loads(path.read_text())) >= {
        "schema_version",
        "pid",
        "stdout_log_path",
        "stderr_log_path",
        "started_at_unix_ms",
    }


def test_a_file_of_version_one_program(path: Path) -> None:
    """It has the published keys alone, and names no process for sure."""
    old = {"schema_version": 1, "pid": 77, "stdout_log_path": "", "stderr_log_path": ""}
    path.write_text(json.dumps(old | {"started_at_unix_ms": 1}))
    file = read(path)
    assert file is not None and (file.pid, file.start_token) == (77, "")


@pytest.mark.parametrize("pid", [0, -1, 2**31, True, "77", 7.5, None])
def test_a_number_that_no_process_has(path: Path, pid: object) -> None:
    """Least of all one that means every process."""
    path.write_text(json.dumps(msgspec.to_builtins(FILE) | {"pid": pid}))
    with pytest.raises(StoreCorrupt):
        read(path)
    assert read_or_none(path) is None


def test_whatever_was_left_is_replaced(path: Path) -> None:
    """A damaged file, one of a newer version, a link: none of it is about this process."""
    newer = msgspec.to_builtins(FILE) | {"schema_version": 9, "more": 1}
    elsewhere = path.with_name("elsewhere")
    for left in ("{", json.dumps(newer)):
        path.write_text(left)
        assert read_or_none(path) is None
        write(path, FILE)
        assert read(path) == FILE
    assert "more" not in path.read_text()
    path.write_text(json.dumps(newer))
    with pytest.raises(FileTooNew):
        read(path)
    path.unlink()
    elsewhere.write_text("letters")
    path.symlink_to(elsewhere)
    assert read_or_none(path) is None
    write(path, FILE)
    assert read(path) == FILE and elsewhere.read_text() == "letters"


def test_only_its_own_process_takes_it_away(path: Path) -> None:
    """And nothing is said where it is not possible."""
    remove_if_mine(path, 77)
    write(path, FILE)
    remove_if_mine(path, 78)
    assert path.exists()
    remove_if_mine(path, 77)
    assert not path.exists()
    path.mkdir()
    remove_if_mine(path, 77)
    assert path.is_dir()


@given(st.binary(max_size=200))
@settings(max_examples=50)
def test_any_bytes_name_no_process(tmp_path_factory: pytest.TempPathFactory, b: bytes) -> None:
    """Status and start go on whatever is there."""
    path = tmp_path_factory.mktemp("any") / "node-host-process.json"
    path.write_bytes(b)
    assert read_or_none(path) is None
