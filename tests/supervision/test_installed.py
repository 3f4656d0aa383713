"""Tests of :mod:`palyra.supervision.installed`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from palyra.errors import FileTooNew
from palyra.supervision.installed import InstalledFile, mark_at

MARK = InstalledFile(
    1, "systemd", "system", "/srv/pi", "/usr/bin/python3", "0.1.0", 7, ("/x/unit",), "pi", True
)


def test_the_mark_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Before there is none; a newer one is left to the program that wrote it."""
    file = mark_at(tmp_path / "installed.json")
    assert file.read() is None
    file.write(MARK)
    assert file.read() == MARK
    newer = json.loads(file.path.read_text()) | {"schema_version": 2}
    file.path.write_text(json.dumps(newer))
    with pytest.raises(FileTooNew):
        file.read()
