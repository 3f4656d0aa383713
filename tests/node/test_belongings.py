"""Tests of :mod:`palyra.node.belongings`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from palyra.errors import NotANodeHost
from palyra.node.attempts import AttemptMemory
from palyra.node.belongings import belongings
from palyra.node.files import HostFile, NodeFiles
from palyra.node.identity import PairingFile
from palyra.supervision.installed import InstalledFile, mark_at
from palyra.supervision.removing import remove
from tests.node.fakes import DEVICE_ID, NOW_MS, PairedDevice, Turns, new_authority

ME = frozenset({os.geteuid()})


def test_every_file_is_known(tmp_path: Path) -> None:
    """Whatever :class:`NodeFiles` names would be removed, and nothing is missing from it."""
    files = NodeFiles(tmp_path)
    known = belongings(files)
    named = [value for value in vars(files).values() if isinstance(value, Path)]
    inside = [each for each in named if each.parent == files.root]
    assert len(inside) > 10
    assert all(known.knows(each.name) for each in inside), [each.name for each in inside]


def test_what_a_node_host_wrote(tmp_path: Path) -> None:
    """By its own rooms; all of it is removed."""
    files = NodeFiles(tmp_path)
    files.make()
    device = PairedDevice(files.identity.path, new_authority())
    device.store.keep_waiting(PairingFile(1, "s", "r", "gw:7443", "ca"))
    files.keep_host(HostFile(1, "gw:7444", DEVICE_ID, 500, "", 1, 1))
    memory = AttemptMemory.open(files.attempts, reactor=Turns(), entropy=os.urandom, now_ms=NOW_MS)
    memory.start()
    memory.stop()
    mark = InstalledFile(1, "process", "user", str(tmp_path), "python", "1", 1)
    mark_at(files.installed).write(mark)
    assert remove(files.root, belongings(files), ME).gone


@pytest.mark.parametrize("name", ["node-host.json", "installed.json"])
@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b"\xff", b"[" * 9_000])
def test_what_proves_nothing(tmp_path: Path, name: str, data: bytes) -> None:
    """A file of the right name that is no file of ours."""
    files = NodeFiles(tmp_path)
    files.make()
    (files.root / name).write_bytes(data)
    with pytest.raises(NotANodeHost):
        remove(files.root, belongings(files), ME)
