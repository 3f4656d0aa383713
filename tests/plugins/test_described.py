"""Tests of :mod:`palyra.plugins.described`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from palyra.core.descriptors import Descriptor
from palyra.errors import DiskFull
from palyra.plugins.described import DescriptorCache
from palyra.plugins.installed import Installed

ONE = Installed("Acme.Scan", "1.0", (), "ab" * 32)


def descriptor(name: str = "acme.scan", **changes: Any) -> Descriptor:
    facts: dict[str, Any] = {
        "api": 1,
        "name": name,
        "version": "1.0",
        "distribution": "acme-scan",
        "description": "Made for a test.",
        "risk": "medium",
        "needs_mediation": False,
        "idempotent": False,
        "timeout_ms": 30_000,
        "max_concurrency": 4,
        "input_schema": {},
        "output_schema": {},
    }
    return Descriptor(**facts | changes)


def kept(path: Path) -> DescriptorCache:
    cache = DescriptorCache(path)
    cache.load()
    return cache


@pytest.fixture
def path(tmp_path: Path) -> Path:
    cache = kept(tmp_path / "cache.json")
    assert cache.get(ONE) is None
    cache.put(ONE, [descriptor()])
    cache.save([ONE])
    return tmp_path / "cache.json"


def test_what_was_described_is_known_later(path: Path) -> None:
    """By the distribution, its version and its files; private to the owner."""
    assert kept(path).get(ONE) == (descriptor(),)
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "other",
    [
        Installed("acme-scan", "1.1", (), "ab" * 32),
        Installed("acme-scan", "1.0", (), "cd" * 32),
        Installed("acme-scan", "1.0", (), ""),
        Installed("acme-fax", "1.0", (), "ab" * 32),
    ],
)
def test_what_has_changed_is_not_known(path: Path, other: Installed) -> None:
    """Another version, other files, files that nobody can tell, another distribution."""
    assert kept(path).get(other) is None


def test_what_is_not_stable_is_not_kept(tmp_path: Path) -> None:
    """An editable install may be another one with every edit."""
    cache = kept(tmp_path / "cache.json")
    loose = Installed("acme-scan", "1.0", ())
    cache.put(loose, [descriptor()])
    cache.save([loose])
    assert not (tmp_path / "cache.json").exists()


def test_what_was_uninstalled_is_forgotten(path: Path) -> None:
    """The file does not grow with the history of a machine."""
    cache = kept(path)
    cache.save([])
    assert kept(path).get(ONE) is None


def test_nothing_new_is_not_written(path: Path) -> None:
    """A start of the node host costs no write."""
    before = path.stat().st_mtime_ns, path.stat().st_ino
    cache = kept(path)
    cache.put(ONE, [descriptor()])
    cache.save([ONE])
    after = path.stat().st_mtime_ns, path.stat().st_ino
    assert before != after
    cache.save([ONE])
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == after


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"schema_version": 2, "made_by": "", "entries": {}}',
        b"[" * 9999,
    ],
)
def test_a_file_that_makes_no_sense_is_nothing(path: Path, data: bytes) -> None:
    """It is written anew."""
    path.write_bytes(data)
    cache = kept(path)
    assert cache.get(ONE) is None
    cache.put(ONE, [descriptor()])
    cache.save([ONE])
    assert kept(path).get(ONE) == (descriptor(),)


def test_another_interpreters_file_is_nothing(path: Path) -> None:
    """It may find another file under the same name."""
    document = msgspec.json.decode(path.read_bytes())
    document["made_by"] = "0.0.1 (3, 9) /usr"
    path.write_bytes(msgspec.json.encode(document))
    assert kept(path).get(ONE) is None


def test_a_full_disk_is_no_reason_to_stop(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The descriptors are known all the same, until the process ends."""

    def full(*_: object) -> None:
        raise DiskFull("/here")

    monkeypatch.setattr("palyra.plugins.described.write_atomic", full)
    cache = kept(path)
    cache.put(ONE, [descriptor("acme.fax")])
    cache.save([ONE])
    assert cache.get(ONE) == (descriptor("acme.fax"),)


def test_without_a_path_nothing_is_kept() -> None:
    """For whoever has no directory of its own."""
    cache = DescriptorCache()
    cache.load()
    cache.put(ONE, [descriptor()])
    cache.save([ONE])
    assert cache.get(ONE) == (descriptor(),)
