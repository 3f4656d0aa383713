"""A key and its certificate, sealed in one file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)

from palyra.errors import DiskFull, SealedEntryUnreadable
from palyra.pki.authority import Authority
from palyra.pki.keypair import pair_pem, read_pair, read_sealed, write_copy, write_sealed
from palyra.pki.sealing import Sealer

from .crashing import CrashingWrites

SEALER = Sealer(b"k" * 32, entropy=os.urandom)


def test_round_trip(tmp_path: Path, authority: Authority) -> None:
    """What was sealed as a pair is that pair again, and nothing of it is readable."""
    plain = pair_pem(authority.ca_key, authority.ca_certificate)
    write_sealed(tmp_path, SEALER, "ca.key.sealed", plain)
    assert b"BEGIN" not in (tmp_path / "ca.key.sealed").read_bytes()
    key, certificate = read_pair(read_sealed(tmp_path, SEALER, "ca.key.sealed"), "ca.key.sealed")
    assert certificate == authority.ca_certificate
    assert key.private_numbers() == authority.ca_key.private_numbers()


def test_under_another_name(tmp_path: Path) -> None:
    """A sealed file opens under its own name only."""
    write_sealed(tmp_path, SEALER, "a.sealed", b"x")
    (tmp_path / "a.sealed").rename(tmp_path / "b.sealed")
    with pytest.raises(SealedEntryUnreadable, match=r"identity:b\.sealed .*out of place"):
        read_sealed(tmp_path, SEALER, "b.sealed")


@pytest.mark.parametrize("plain", [b"", b"nonsense", b"{}"])
def test_no_pair(plain: bytes) -> None:
    """What is no pair is refused by the name of its file."""
    with pytest.raises(SealedEntryUnreadable, match=r"identity/x\.sealed .*a key and its"):
        read_pair(plain, "x.sealed")


def test_encrypted_key(authority: Authority) -> None:
    """A key that would ask for a passphrase is refused, not asked for."""
    lock = BestAvailableEncryption(b"x")
    locked = authority.ca_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock)
    with pytest.raises(SealedEntryUnreadable, match="a key and its"):
        read_pair(locked + authority.ca_pem, "x.sealed")


def test_copy(tmp_path: Path) -> None:
    """A copy is written when it differs, and otherwise left alone."""
    file = tmp_path / "ca.pem"
    write_copy(file, b"one")
    before = file.stat().st_ino
    write_copy(file, b"one")
    assert file.stat().st_ino == before
    write_copy(file, b"two")
    assert file.read_bytes() == b"two"


def test_copy_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy is no reason to fail: the old one stays, and a later call writes it."""
    file = tmp_path / "ca.pem"
    write_copy(file, b"one")
    for error in (DiskFull("/"), PermissionError()):
        with CrashingWrites(0, error=error).in_place(monkeypatch):
            write_copy(file, b"two")
        assert file.read_bytes() == b"one"
    write_copy(file, b"two")
    assert file.read_bytes() == b"two"
