"""What a state root serves, read beside a running gateway: no lock is taken, nothing is written."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import attrs
from cryptography.hazmat.primitives.serialization import Encoding

from palyra._files import check_private
from palyra.pki.keypair import key_pem, read_pair, read_sealed
from palyra.pki.sealing import Sealer
from palyra.pki.storekey import load_store_key

_GATEWAY_SEALED = "gateway.key.sealed"
_ROOTS = "ca.pem"

Mark = tuple[tuple[int, int, int], ...]


@attrs.frozen
class Served:
    """A key, its certificate chain and the CAs that clients may be issued by, all PEM."""

    key_pem: bytes = attrs.field(repr=False)
    chain_pem: bytes
    roots_pem: bytes


class ServedIdentity:
    """The gateway's certificate in the identity directory ``path``; a renewed one is noticed.

    Its owner replaces each file whole, so what is read is never half a certificate.
    """

    def __init__(
        self,
        path: Path,
        *,
        store_key_file: Path | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._path = path
        self._store_key_file = store_key_file
        self._environ = environ
        self._read: tuple[Mark, Served] | None = None

    def served(self) -> Served:
        """What the gateway serves now.

        :raises SealedEntryUnreadable, StoreKeyUnusable, KeyFilePermission, OSError: it cannot be
            read.
        """
        files = (self._path / _GATEWAY_SEALED, self._path / _ROOTS)
        mark = marks(*files)
        if self._read is None or self._read[0] != mark:
            self._read = mark, self._load()
        return self._read[1]

    def _load(self) -> Served:
        key = load_store_key(self._path, store_key_file=self._store_key_file, environ=self._environ)
        sealer = Sealer(key, entropy=os.urandom)
        plain = read_sealed(self._path, sealer, _GATEWAY_SEALED)
        private, certificate = read_pair(plain, _GATEWAY_SEALED)
        roots = (self._path / _ROOTS).read_bytes()
        # The CA that signed it stands first in the copy of the roots.
        chain = certificate.public_bytes(Encoding.PEM) + _first(roots)
        return Served(key_pem(private), chain, roots)


class CertificateFiles:
    """A certificate chain and its key in two files (PEM) of the operator's own.

    They are read again when they change.
    """

    def __init__(self, certificate: Path, private_key: Path) -> None:
        self.certificate = certificate
        self.private_key = private_key
        self._read: tuple[Mark, tuple[bytes, bytes]] | None = None

    def served(self) -> tuple[bytes, bytes]:
        """Key and chain as they stand there now.

        :raises KeyFilePermission: others may read the key; OSError: a file cannot be read.
        """
        mark = marks(self.certificate, self.private_key)
        if self._read is None or self._read[0] != mark:
            check_private(self.private_key, group_may_read=True)
            pair = self.private_key.read_bytes(), self.certificate.read_bytes()
            self._read = mark, pair
        return self._read[1]


def marks(*files: Path) -> Mark:
    """What changes when one of the files is written anew."""
    found = [file.stat() for file in files]
    return tuple((each.st_ino, each.st_mtime_ns, each.st_size) for each in found)


def _first(pem: bytes) -> bytes:
    end = b"-----END CERTIFICATE-----\n"
    return pem[: pem.index(end) + len(end)] if end in pem else pem
