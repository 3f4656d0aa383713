"""Tests of :mod:`palyra.cli.key_checks`."""

from __future__ import annotations

from pathlib import Path

import pytest

from palyra.cli import key_checks
from palyra.config import Config
from palyra.config.gateway import GatewaySection
from palyra.pki.sealing import KEY_BYTES, Sealer
from palyra.pki.storekey import SEALED_PATH, SEALED_PURPOSE

KEY, OTHER = bytes(KEY_BYTES), bytes([1]) * KEY_BYTES


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A state root with one entry that is sealed under ``store.key``."""
    folder = tmp_path / SEALED_PATH
    folder.mkdir(mode=0o700)
    write(folder / "store.key", KEY)
    sealer = Sealer(KEY, entropy=bytes)
    entry = sealer.seal(b"key", path=SEALED_PATH, entry="ca.key.sealed", purpose=SEALED_PURPOSE)
    write(folder / "ca.key.sealed", entry)
    return tmp_path


def write(file: Path, data: bytes) -> None:
    file.touch(0o600)
    file.write_bytes(data)


def test_what_can_be_opened(root: Path, tmp_path: Path) -> None:
    """Nothing is said of keys that open, nor where nothing was sealed yet."""
    assert key_checks.sealed(root, Config()) == []
    assert key_checks.sealed(tmp_path / "new", Config()) == []


def test_another_key(root: Path) -> None:
    """The entry that does not open is named with its cause; the hint is how to get it back."""
    write(root / SEALED_PATH / "store.key", OTHER)
    (found,) = key_checks.sealed(root, Config())
    assert (found.verdict, found.hint) == (
        "FAIL",
        "put the identity directory of a backup in its place",
    )
    assert "ca.key.sealed cannot be read: it was sealed with another store key" in found.finding


def test_a_damaged_entry(root: Path) -> None:
    """So is one that is not what was sealed."""
    write(root / SEALED_PATH / "ca.key.sealed", b"junk")
    (found,) = key_checks.sealed(root, Config())
    assert "it is not a sealed entry" in found.finding


def test_a_key_from_outside(root: Path) -> None:
    """One that palyra.toml names is tried; one from systemd cannot be seen, which is told."""
    (root / SEALED_PATH / "store.key").unlink()
    (found,) = key_checks.sealed(root, Config())
    assert found.verdict == "warn" and "systemd" in found.finding
    config = Config(gateway=GatewaySection(store_key_file=str(root / "key")))
    (found,) = key_checks.sealed(root, config)
    assert found.verdict == "FAIL" and "it is missing" in found.finding
    write(root / "key", KEY)
    assert key_checks.sealed(root, config) == []


def test_a_file_that_cannot_be_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is left to the check of the key files."""

    def refuse(file: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert key_checks.sealed(root, Config()) == []
