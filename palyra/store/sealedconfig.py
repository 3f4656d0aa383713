"""A configuration as a backup holds it: sealed, for its ``store.url`` may name a password.

AES-256-GCM (NIST SP 800-38D) under a key that comes from the store key by HKDF-SHA256 (RFC 5869),
so whoever may read the sealed entries of the state root may read this; layout: nonce (12 bytes),
ciphertext and tag.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from palyra.core.identifiers import Entropy
from palyra.errors import BackupInvalid
from palyra.store.gathering import CONFIG

_OF_CONFIG = b"palyra-backup-v1 palyra.toml"
_NONCE_BYTES = 12


def seal_config(store_key: bytes, plain: bytes, entropy: Entropy) -> bytes:
    """``plain`` as it is kept in a backup; ``entropy`` draws the nonce."""
    nonce = entropy(_NONCE_BYTES)
    return nonce + _aead(store_key).encrypt(nonce, plain, _OF_CONFIG)


def open_config(store_key: bytes, sealed: bytes, *, file: str) -> bytes:
    """What was sealed with the same key; :class:`BackupInvalid`, naming ``file``, otherwise."""
    try:
        nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        return _aead(store_key).decrypt(nonce, rest, _OF_CONFIG)
    except (InvalidTag, ValueError) as cause:
        raise BackupInvalid(file, f"{CONFIG} in it does not open") from cause


def _aead(store_key: bytes) -> AESGCM:
    return AESGCM(HKDF(SHA256(), 32, salt=None, info=_OF_CONFIG).derive(store_key))
