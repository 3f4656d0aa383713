"""Tests of :mod:`palyra.supervision.directories`."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from palyra.supervision import directories
from palyra.supervision.directories import Entry, HeldDirectory, NamedDirectory, opened


def test_which_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Held where the system can."""
    held = opened(tmp_path)
    assert isinstance(held, HeldDirectory)
    held.close()
    held.close()
    monkeypatch.setattr(directories, "HELD", False)
    assert isinstance(opened(tmp_path), NamedDirectory)


@pytest.mark.parametrize("kind", [HeldDirectory, NamedDirectory])
def test_what_is_in_it(kind: Any, tmp_path: Path) -> None:
    """Names in their order, what they are, whose, and the beginning of a file; never by a link."""
    (tmp_path / "b").write_bytes(b"text")
    (tmp_path / "a").mkdir()
    (tmp_path / "c").symlink_to(tmp_path / "b")
    os.mkfifo(tmp_path / "d")
    held = kind.at(tmp_path)
    try:
        assert held.names() == ["a", "b", "c", "d"]
        seen = [held.entry(name) for name in held.names()]
        assert [(each.is_directory, each.is_file) for each in seen] == [
            (True, False), (False, True), (False, False), (False, False),
        ]  # fmt: skip
        assert held.owner() == seen[0].owner == os.geteuid()
        assert held.read("b", 2) == b"te"
        with pytest.raises(OSError):
            held.read("c", 2)
        with pytest.raises(OSError):
            held.child("c")
        held.child("a").close()
    finally:
        held.close()


def test_junctions_of_windows() -> None:
    """A reparse point is neither a file nor a directory, whatever its mode says."""
    for mode in (stat.S_IFDIR, stat.S_IFREG):
        status: Any = SimpleNamespace(st_mode=mode, st_reparse_tag=0xA0000003, st_uid=0)
        assert Entry.of(status) == Entry(False, False, 0)
