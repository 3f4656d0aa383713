"""Sealed entries: AES-256-GCM under the store key, bound to the place where they lie.

Layout: ``PLYS`` | AEAD version (1 byte, 1 = AES-256-GCM) | key id (first 8 bytes of SHA-256 of the
key) | nonce (12 bytes) | ciphertext and tag.  Associated data: everything before the nonce, then
path, entry and purpose, each as 4-byte little-endian length and UTF-8; so a sealed entry that is
moved to another place does not open there.
"""

from __future__ import annotations

import hashlib

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from palyra.core.identifiers import Entropy
from palyra.errors import Malformed, SealedEntryUnreadable

KEY_BYTES = 32

_MAGIC = b"PLYS"
_AES_256_GCM = b"\x01"
_KEY_ID = slice(5, 13)
_NONCE = slice(13, 25)
_NONCE_BYTES = 12
_TAG_BYTES = 16


class Sealer:
    """Seals and opens under one 32-byte ``key``; ``entropy`` draws nonces and must never repeat."""

    def __init__(self, key: bytes, *, entropy: Entropy) -> None:
        if len(key) != KEY_BYTES:
            raise Malformed("store key", f"must be {KEY_BYTES} bytes")
        self.key_id = hashlib.sha256(key).digest()[:8]
        self._key = key
        self._aead = AESGCM(key)
        self._entropy = entropy
        self._head = _MAGIC + _AES_256_GCM + self.key_id

    def seal(self, plain: bytes, *, path: str, entry: str, purpose: str) -> bytes:
        """``plain`` sealed for this ``path`` (relative to the state root), entry and purpose."""
        nonce = self._entropy(_NONCE_BYTES)
        data = _associated(self._head, path, entry, purpose)
        return self._head + nonce + self._aead.encrypt(nonce, plain, data)

    def derived(self, purpose: str) -> bytes:
        """Another secret of 32 bytes, the same for as long as the store key is."""
        return HKDF(SHA256(), 32, salt=None, info=purpose.encode()).derive(self._key)

    def sealed(self, entry: bytes) -> bool:
        """Whether ``entry`` says that this key sealed it; it may be damaged all the same."""
        return entry.startswith(_MAGIC) and entry[_KEY_ID] == self.key_id

    def open(self, sealed: bytes, *, path: str, entry: str, purpose: str) -> bytes:
        """What was sealed for the same place, else :class:`SealedEntryUnreadable`."""
        where = f"{path}:{entry}"
        if len(sealed) < _NONCE.stop + _TAG_BYTES or not sealed.startswith(_MAGIC):
            raise SealedEntryUnreadable(where, "it is not a sealed entry")
        if sealed[4:5] != _AES_256_GCM:
            raise SealedEntryUnreadable(where, f"its sealing version is {sealed[4]}, not 1")
        if sealed[_KEY_ID] != self.key_id:
            raise SealedEntryUnreadable(where, "it was sealed with another store key")
        data = _associated(self._head, path, entry, purpose)
        try:
            return self._aead.decrypt(sealed[_NONCE], sealed[_NONCE.stop :], data)
        except InvalidTag as cause:
            raise SealedEntryUnreadable(where, "it is damaged or out of place") from cause


def _associated(head: bytes, *fields: str) -> bytes:
    """Length-prefixed, so that no two lists of fields give the same bytes."""
    encoded = [field.encode() for field in fields]
    return head + b"".join(len(each).to_bytes(4, "little") + each for each in encoded)
