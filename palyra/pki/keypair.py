"""A key together with its certificate: in one sealed file, so that no crash can part them."""

from __future__ import annotations

import contextlib
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from palyra._files import check_private, write_atomic
from palyra.errors import DiskFull, SealedEntryUnreadable
from palyra.pki.sealing import Sealer
from palyra.pki.storekey import SEALED_PATH, SEALED_PURPOSE

KeyPair = tuple[ec.EllipticCurvePrivateKey, x509.Certificate]


def read_sealed(directory: Path, sealer: Sealer, name: str) -> bytes:
    """What is sealed in the file ``name``; :class:`SealedEntryUnreadable` or
    :class:`KeyFilePermission` otherwise."""
    check_private(directory / name)
    sealed = (directory / name).read_bytes()
    return sealer.open(sealed, path=SEALED_PATH, entry=name, purpose=SEALED_PURPOSE)


def write_sealed(directory: Path, sealer: Sealer, name: str, plain: bytes) -> None:
    """Seal ``plain`` as the file ``name``: after a crash the whole old or the whole new one."""
    sealed = sealer.seal(plain, path=SEALED_PATH, entry=name, purpose=SEALED_PURPOSE)
    write_atomic(directory / name, sealed)


def write_copy(file: Path, pem: bytes) -> None:
    """Keep a readable copy equal to what is sealed, which alone counts.

    So nothing fails for the sake of a copy: one that cannot be written is left for the next time.
    """
    with contextlib.suppress(OSError, DiskFull):
        if not file.exists() or file.read_bytes() != pem:
            write_atomic(file, pem)


def pair_pem(key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> bytes:
    """The pair as it is sealed: the key (PKCS #8 in clear), then its certificate."""
    return key_pem(key) + certificate.public_bytes(Encoding.PEM)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """PKCS #8 in clear: for sealing and for the TLS library, never for a file."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def read_pair(plain: bytes, name: str) -> KeyPair:
    """The pair in ``plain``, which was sealed as ``name``, or :class:`SealedEntryUnreadable`."""
    try:
        key = load_pem_private_key(plain, None)
        certificate = x509.load_pem_x509_certificate(plain)
    except (ValueError, TypeError) as cause:
        raise unreadable(name, "it does not hold a key and its certificate") from cause
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise unreadable(name, "its key is not ECDSA")
    if key.public_key() != certificate.public_key():
        raise unreadable(name, "its key and its certificate do not belong together")
    return key, certificate


def unreadable(name: str, problem: str) -> SealedEntryUnreadable:
    """The refusal of the file ``name`` in the identity directory."""
    return SealedEntryUnreadable(f"{SEALED_PATH}/{name}", problem)
