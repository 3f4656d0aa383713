"""Where the store key comes from: the key that seals every secret at rest.

In this order: the systemd credential ``palyra.store-key``, the operator's key file, ``store.key``
in the identity directory, which is drawn (0600) where nothing was ever sealed.  A provided key is
32 raw bytes or 64 hex digits.  It takes over what ``store.key`` had sealed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from palyra._files import check_private, write_atomic
from palyra.core.identifiers import Entropy
from palyra.errors import SealedEntryUnreadable, StoreKeyUnusable
from palyra.pki.sealing import KEY_BYTES, Sealer

CREDENTIAL = "palyra.store-key"
"""The name in ``LoadCredential=`` or ``LoadCredentialEncrypted=`` of the unit."""

SEALED_PATH = "identity"
SEALED_PURPOSE = "key-and-certificate"
"""The place, as :class:`Sealer` knows it, of every ``*.sealed`` file in the identity directory."""

_STORE_KEY = "store.key"
_SEALED = "*.sealed"
_CREDENTIALS_DIRECTORY = "CREDENTIALS_DIRECTORY"
_HEX = re.compile(rb"[0-9A-Fa-f]+\r?\n?\Z")
_MAX_FILE_BYTES = 4096


def open_sealer(
    path: Path,
    *,
    entropy: Entropy,
    store_key_file: Path | None,
    environ: Mapping[str, str],
    traces: Iterable[str] = (),
    sealed_elsewhere: bool = False,
) -> Sealer:
    """The sealer of the identity directory ``path``.

    No key is ever drawn while something was sealed: a ``*.sealed`` file or one of ``traces`` is in
    ``path``, or ``sealed_elsewhere``.  Entries sealed elsewhere with ``store.key`` cannot be read
    any more after a provided key took over.  Raises as :func:`load_store_key`.
    """
    provided = _provided(store_key_file, environ)
    if provided is None:
        if not (path / _STORE_KEY).exists():
            _require_nothing_sealed(path, traces, sealed_elsewhere)
            write_atomic(path / _STORE_KEY, entropy(KEY_BYTES))
        return Sealer(_generated_key(path), entropy=entropy)
    sealer = Sealer(_provided_key(*provided), entropy=entropy)
    if (path / _STORE_KEY).exists():
        _take_over(path, Sealer(_generated_key(path), entropy=entropy), sealer)
    return sealer


def load_store_key(
    path: Path,
    *,
    store_key_file: Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> bytes:
    """The 32 bytes of the store key in use for the identity directory ``path``; changes nothing.

    :class:`StoreKeyUnusable` for a provided key that is missing or malformed,
    :class:`KeyFilePermission`, and :class:`SealedEntryUnreadable` when there is no key at all.
    """
    provided = _provided(store_key_file, environ)
    return _provided_key(*provided) if provided is not None else _generated_key(path)


def _provided(store_key_file: Path | None, environ: Mapping[str, str]) -> tuple[Path, bool] | None:
    """The operator's key and whether systemd hands it over; None where store.key is meant."""
    if directory := environ.get(_CREDENTIALS_DIRECTORY):
        credential = Path(directory, CREDENTIAL)
        # The unit may have other credentials without this one.
        if _is_listed(credential):
            return credential, True
    return (store_key_file, False) if store_key_file is not None else None


def _is_listed(file: Path) -> bool:
    """Whether there is such a name; where that cannot be told, reading it says why."""
    try:
        file.lstat()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


def _provided_key(file: Path, credential: bool) -> bytes:
    try:
        # For a service with a User= systemd grants by an access list, whose mask shows as 0440.
        check_private(file, group_may_read=credential)
        with file.open("rb") as stream:
            text = stream.read(_MAX_FILE_BYTES)
    except FileNotFoundError as cause:
        raise StoreKeyUnusable(str(file), "it is missing") from cause
    except OSError as cause:
        raise StoreKeyUnusable(str(file), cause.strerror or "it cannot be read") from cause
    return _parsed(file, text)


def _parsed(file: Path, text: bytes) -> bytes:
    """32 raw bytes or 64 hex digits; 32 hex digits are half a key and not raw bytes."""
    if _HEX.match(text):
        digits = text.strip()
        if len(digits) != 2 * KEY_BYTES:
            problem = f"it has {len(digits)} hex digits, not {2 * KEY_BYTES}"
            raise StoreKeyUnusable(str(file), problem)
        return bytes.fromhex(digits.decode("ascii"))
    if len(text) != KEY_BYTES:
        problem = f"it is neither {KEY_BYTES} bytes nor {2 * KEY_BYTES} hex digits"
        raise StoreKeyUnusable(str(file), problem)
    return text


def _generated_key(path: Path) -> bytes:
    file = path / _STORE_KEY
    if not file.exists():
        raise _unreadable("it is missing although entries were sealed with it")
    check_private(file)
    key = file.read_bytes()
    if len(key) != KEY_BYTES:
        raise _unreadable(f"it is not {KEY_BYTES} bytes long")
    return key


def _require_nothing_sealed(path: Path, traces: Iterable[str], sealed_elsewhere: bool) -> None:
    # A fresh key would make what is sealed unreadable for ever, and look like a fresh start.
    sealed = any(path.glob(_SEALED)) or any((path / trace).exists() for trace in traces)
    if sealed or sealed_elsewhere:
        raise _unreadable("it is missing although entries were sealed with it")


def _take_over(path: Path, old: Sealer, new: Sealer) -> None:
    """Seal anew what ``store.key`` sealed, then remove that.

    Each file is replaced whole and both keys stay until the last one is, so a crash anywhere
    leaves a directory that opens and goes on here.
    """
    for file in sorted(path.glob(_SEALED)):
        check_private(file)
        entry = file.read_bytes()
        if not new.sealed(entry):
            plain = old.open(entry, path=SEALED_PATH, entry=file.name, purpose=SEALED_PURPOSE)
            again = new.seal(plain, path=SEALED_PATH, entry=file.name, purpose=SEALED_PURPOSE)
            write_atomic(file, again)
    (path / _STORE_KEY).unlink()


def _unreadable(problem: str) -> SealedEntryUnreadable:
    return SealedEntryUnreadable(f"{SEALED_PATH}/{_STORE_KEY}", problem)
