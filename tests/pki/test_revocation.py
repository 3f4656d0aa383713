"""What is revoked or superseded, and for how long it is remembered."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from palyra.core.identifiers import Fingerprint
from palyra.errors import CertificateSuperseded, DeviceRevoked
from palyra.pki.revocation import Revocation, RevocationIndex

from .conftest import DEVICE, NOW_MS

OTHER = "01JC0000000000000000000BBB"
KEY_FP = Fingerprint("k" * 64)
CERTS = {Fingerprint("a" * 64): NOW_MS + 10, Fingerprint("b" * 64): NOW_MS + 20}
A, B = CERTS


def test_empty() -> None:
    """Nothing is refused at first."""
    index = RevocationIndex()
    index.check_device(DEVICE)
    index.check_key(KEY_FP)
    index.check_certificate(A)


def test_revoke() -> None:
    """Revocation covers the device, its identity key and all its certificates."""
    index = RevocationIndex()
    index.revoke(DEVICE, KEY_FP, CERTS, NOW_MS, "stolen")
    asked: list[Callable[[], None]] = [
        lambda: index.check_device(DEVICE),
        lambda: index.check_key(KEY_FP),
        lambda: index.check_certificate(A),
        lambda: index.check_certificate(B),
    ]
    for ask in asked:
        with pytest.raises(DeviceRevoked, match="2026-09-21: stolen"):
            ask()
    index.check_device(OTHER)


def test_revoke_without_key() -> None:
    """A device that has no recorded identity key can be revoked."""
    index = RevocationIndex()
    index.revoke(DEVICE, None, {}, NOW_MS, "lost")
    with pytest.raises(DeviceRevoked):
        index.check_device(DEVICE)


def test_retired_identity() -> None:
    """Retiring an old identity refuses its key and certificates, not the device."""
    index = RevocationIndex()
    index.retire_identity(DEVICE, KEY_FP, CERTS, NOW_MS, "identity changed")
    index.check_device(DEVICE)
    with pytest.raises(DeviceRevoked):
        index.check_key(KEY_FP)
    with pytest.raises(DeviceRevoked):
        index.check_certificate(A)


def test_supersede() -> None:
    """A superseded certificate is told apart from a revoked one."""
    index = RevocationIndex()
    index.supersede(A, NOW_MS)
    with pytest.raises(CertificateSuperseded):
        index.check_certificate(A)
    index.revoke(DEVICE, None, {A: NOW_MS}, NOW_MS, "lost")
    with pytest.raises(DeviceRevoked):
        index.check_certificate(A)


def test_readmit() -> None:
    """A removed device may ask again; its key only when allowed; its certificates never."""
    index = RevocationIndex()
    index.revoke(DEVICE, KEY_FP, CERTS, NOW_MS, "lost")
    index.readmit_device(DEVICE)
    index.check_device(DEVICE)
    with pytest.raises(DeviceRevoked):
        index.check_key(KEY_FP)
    index.readmit_key(KEY_FP)
    index.check_key(KEY_FP)
    with pytest.raises(DeviceRevoked):
        index.check_certificate(A)


def test_forget_expired() -> None:
    """Fingerprints are forgotten after their notAfter; devices and keys never are."""
    index = RevocationIndex()
    index.revoke(DEVICE, KEY_FP, CERTS, NOW_MS, "lost")
    index.supersede(Fingerprint("c" * 64), NOW_MS + 10)
    index.forget_expired(NOW_MS + 11)
    index.check_certificate(A)
    index.check_certificate(Fingerprint("c" * 64))
    with pytest.raises(DeviceRevoked):
        index.check_certificate(B)
    with pytest.raises(DeviceRevoked):
        index.check_device(DEVICE)


def test_load() -> None:
    """Loading replaces everything by what the store remembers."""
    index = RevocationIndex()
    index.revoke(OTHER, None, {}, NOW_MS, "lost")
    kept = Revocation(DEVICE, KEY_FP, CERTS, NOW_MS, "lost", blocks_key=False)
    index.load([kept], {Fingerprint("c" * 64): NOW_MS})
    index.check_device(OTHER)
    index.check_key(KEY_FP)
    with pytest.raises(DeviceRevoked):
        index.check_device(DEVICE)
    with pytest.raises(CertificateSuperseded):
        index.check_certificate(Fingerprint("c" * 64))


def test_generation() -> None:
    """The generation rises with every change, and with nothing else."""
    index = RevocationIndex()
    seen = [index.generation]
    changes: list[Callable[[], object]] = [
        lambda: index.revoke(DEVICE, KEY_FP, CERTS, NOW_MS, "lost"),
        lambda: index.retire_identity(OTHER, None, {}, NOW_MS, "lost"),
        lambda: index.supersede(A, NOW_MS),
        lambda: index.readmit_device(DEVICE),
        lambda: index.readmit_key(KEY_FP),
        lambda: index.forget_expired(NOW_MS + 100),
        lambda: index.load([], {}),
    ]
    for change in changes:
        change()
        seen.append(index.generation)
    assert seen == sorted(set(seen))
    index.readmit_device(DEVICE)
    index.readmit_key(KEY_FP)
    index.forget_expired(NOW_MS + 100)
    assert index.generation == seen[-1]
