"""A backup: one file that holds a gateway's state and opens with a passphrase.

It is a plain tar.  ``manifest.json`` comes first and names every other member with size and
SHA-256; it carries the store key, sealed with AES-256-GCM under a key that scrypt (RFC 7914) makes
of the passphrase, and it is authenticated with a key that comes from the store key.  What is
sealed in the state root is sealed in the backup, and so is the configuration
(:mod:`palyra.store.sealedconfig`).

A backup is read strictly: every byte of it must be the one that :func:`write_backup` would have
written for that manifest, so there are no links, devices, holes, or members that nobody named.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Annotated, Literal

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from palyra.core.identifiers import Entropy
from palyra.errors import BackupInvalid
from palyra.store.faults import translated
from palyra.store.gathering import DATABASE, OF_IDENTITY, gather
from palyra.store.sealedconfig import seal_config

MANIFEST = "manifest.json"
SCRYPT_N = 2**17
"""128 MiB of memory and about half a second for every passphrase that is tried."""
KEY_BYTES = 32
MAX_MANIFEST = 1024 * 1024
MAX_SMALL = 16 * 1024 * 1024
"""The largest member but the database: certificates and a configuration are far below."""
_PIECE = 1024 * 1024
_OF_KEY = b"palyra-backup-v1 store key"
_OF_MANIFEST = b"palyra-backup-v1 manifest"
_NAME = rf"\A(?:palyra\.sqlite3\Z|palyra\.toml\Z|store_epoch\Z|identity/{OF_IDENTITY})"
_SHA256 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]


class WrappedKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The store key under a passphrase: parameters of scrypt, nonce, and what AES-GCM made."""

    n: Annotated[int, msgspec.Meta(ge=2, le=2**18)]
    r: Literal[8]
    p: Literal[1]
    salt: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    nonce: Annotated[bytes, msgspec.Meta(min_length=12, max_length=12)]
    sealed: Annotated[bytes, msgspec.Meta(min_length=KEY_BYTES + 16, max_length=KEY_BYTES + 16)]


class Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of the state root: its path there, its size in bytes and its SHA-256."""

    name: Annotated[str, msgspec.Meta(pattern=_NAME)]
    size: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    sha256: _SHA256


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a backup is.  ``schema`` is None where it has no database (PostgreSQL has that)."""

    format: Literal[1]
    palyra: str
    gateway_id: str
    schema: str | None
    created_unix_ms: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    key: WrappedKey
    files: Annotated[list[Member], msgspec.Meta(min_length=1, max_length=1000)]


class _Signed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``manifest.json``: HMAC-SHA256 over the bytes of the manifest, and those bytes."""

    mac: _SHA256
    manifest: msgspec.Raw


def write_backup(
    root: Path,
    file: Path,
    *,
    store_key: bytes,
    passphrase: bytes,
    version: str,
    now_ms: int,
    database: bool = True,
    entropy: Entropy = os.urandom,
    scrypt_n: int = SCRYPT_N,
) -> Manifest:
    """Write a backup of ``root`` to ``file`` (0600), whole or not at all; what it holds.

    The gateway may run meanwhile.  The database is copied beside ``file``: there must be room for
    it twice.  The copy is gone afterwards, unless the process is killed by SIGKILL.

    :param store_key: the 32 bytes that sealed entries of the root are sealed with.
    :param version: of this package; a restore tells it.
    :param database: False where the record is in PostgreSQL.
    :raises palyra.errors.NoGatewayState: the root has nothing to back up.
    :raises palyra.errors.StoreCorrupt: the database is damaged.
    :raises palyra.errors.StoreUnavailable: it cannot be read.
    :raises palyra.errors.DiskFull: there is no room for the backup.
    :raises FileExistsError: something is there, also where it came only now; it is kept.
    """
    try:
        with tempfile.TemporaryDirectory(dir=file.parent, prefix=f".{file.name}.") as scratch:
            tree = Path(scratch, "tree")
            gathered = gather(
                root,
                tree,
                database=database,
                seal_config=lambda plain: seal_config(store_key, plain, entropy),
            )
            manifest = Manifest(
                format=1,
                palyra=version,
                gateway_id=gathered.gateway_id,
                schema=gathered.schema,
                created_unix_ms=now_ms,
                key=_wrapped(store_key, passphrase, entropy, scrypt_n),
                files=[_member(tree, name) for name in gathered.names],
            )
            made = Path(scratch, "backup")
            _write(made, tree, manifest, store_key)
            with Archive.open(made) as archive:
                archive.verify()
            put_new(made, file)
    except OSError as error:
        raise translated(error, str(file)) from error
    return manifest


class Archive:
    """A backup that is being read.  Nothing of it is trusted before :meth:`unlock`."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file = file
        self.name = name
        signed = self._read_manifest()
        self._mac, self._raw = signed.mac, bytes(signed.manifest)
        self.manifest = self._decoded(self._raw)
        """Believed only after :meth:`unlock`."""
        self._begin = file.tell()

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: Path) -> Iterator[Archive]:
        """Open a backup; :class:`BackupInvalid` where it cannot be one."""
        with path.open("rb") as file:
            yield cls(file, str(path))

    def unlock(self, passphrase: bytes) -> bytes:
        """The store key, with which the manifest is proven.

        :raises BackupInvalid: another passphrase, or the backup was changed.
        """
        wrapped = self.manifest.key
        try:
            aead = AESGCM(_stretched(passphrase, wrapped.salt, wrapped.n))
            store_key = aead.decrypt(wrapped.nonce, wrapped.sealed, _OF_KEY)
        except ValueError as error:
            raise self._invalid("its manifest is damaged") from error
        except InvalidTag as error:
            raise self._invalid("the passphrase is another one, or it is damaged") from error
        if not hmac.compare_digest(_mac(store_key, self._raw), self._mac):
            raise self._invalid("its manifest was changed")
        return store_key

    def verify(self) -> None:
        """Read all of it, and refuse it (:class:`BackupInvalid`) for a single other byte."""
        for _, pieces in self._members():
            for _ in pieces:
                pass

    def extract(self, directory: Path) -> None:
        """Write every member below an empty ``directory``, 0600, and make it durable; what is
        sealed stays sealed.

        :raises BackupInvalid: as :meth:`verify`; files may be there then.
        :raises OSError: it cannot be written.
        """
        for member, pieces in self._members():
            path = directory / member.name
            path.parent.mkdir(mode=0o700, exist_ok=True)
            with private_file(path) as made:
                for piece in pieces:
                    made.write(piece)
        for parent in {(directory / member.name).parent for member in self.manifest.files}:
            sync_directory(parent)

    def _members(self) -> Iterator[tuple[Member, Iterator[bytes]]]:
        """Each member with its contents, which must be taken before the next one."""
        self._file.seek(self._begin)
        for member in self.manifest.files:
            self._expect(_header(member.name, member.size))
            yield member, self._contents(member)
            self._expect(_padding(member.size))
        self._expect(_end(self._file.tell()))
        if self._file.read(1):
            raise self._invalid("something follows its end")

    def _contents(self, member: Member) -> Iterator[bytes]:
        digest, left = hashlib.sha256(), member.size
        while left:
            piece = self._file.read(min(left, _PIECE))
            if not piece:
                raise self._invalid("it is cut off")
            digest.update(piece)
            left -= len(piece)
            yield piece
        if digest.hexdigest() != member.sha256:
            raise self._invalid(f"{member.name} in it is damaged")

    def _expect(self, wanted: bytes) -> None:
        if self._file.read(len(wanted)) != wanted:
            raise self._invalid("it is damaged")

    def _read_manifest(self) -> _Signed:
        block = self._file.read(tarfile.BLOCKSIZE)
        try:
            size = tarfile.TarInfo.frombuf(block, "ascii", "strict").size
        except (tarfile.TarError, ValueError) as error:
            raise self._invalid("it is not a backup") from error
        if not 0 < size <= MAX_MANIFEST or block != _header(MANIFEST, size):
            raise self._invalid("it is not a backup")
        document = self._file.read(size)
        self._expect(_padding(size))
        try:
            signed = msgspec.json.decode(document, type=_Signed)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise self._invalid("its manifest is damaged") from error
        if msgspec.json.encode(signed) != document:
            raise self._invalid("its manifest is damaged")
        return signed

    def _decoded(self, raw: bytes) -> Manifest:
        try:
            manifest = msgspec.json.decode(raw, type=Manifest)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise self._invalid("its manifest is damaged, or of a newer version") from error
        names = [member.name for member in manifest.files]
        small = [member for member in manifest.files if member.name != DATABASE]
        if len(set(names)) < len(names) or any(member.size > MAX_SMALL for member in small):
            raise self._invalid("its manifest is not one of a backup")
        if (DATABASE in names) != (manifest.schema is not None):
            raise self._invalid("its manifest is not one of a backup")
        return manifest

    def _invalid(self, problem: str) -> BackupInvalid:
        return BackupInvalid(self.name, problem)


def sync_directory(path: Path) -> None:
    """Make new names in a directory durable, where the system can."""
    with contextlib.suppress(PermissionError):  # Windows opens no directory
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def private_file(path: Path) -> Iterator[IO[bytes]]:
    """A new file, 0600, that is durable when the block ends."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def put_new(made: Path, file: Path) -> None:
    """Give a finished file its name, durably; ``FileExistsError`` where something has that name.

    ``made`` has to be on the same file system, and may be there afterwards.
    """
    try:
        os.link(made, file)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links, as sticks have it
        with private_file(file):
            pass
        os.replace(made, file)
    sync_directory(file.parent)


def _member(tree: Path, name: str) -> Member:
    path = tree / name
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Member(name, path.stat().st_size, digest)


def _write(path: Path, tree: Path, manifest: Manifest, store_key: bytes) -> None:
    raw = msgspec.json.encode(manifest)
    document = msgspec.json.encode(_Signed(_mac(store_key, raw), msgspec.Raw(raw)))
    with private_file(path) as made:
        made.write(_header(MANIFEST, len(document)) + document + _padding(len(document)))
        for member in manifest.files:
            made.write(_header(member.name, member.size))
            with (tree / member.name).open("rb") as file:
                while piece := file.read(_PIECE):
                    made.write(piece)
            made.write(_padding(member.size))
        made.write(_end(made.tell()))


def _header(name: str, size: int) -> bytes:
    """The one header that a member of this name and size may have."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o600
    return member.tobuf(tarfile.GNU_FORMAT, "ascii", "strict")


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)


def _end(size: int) -> bytes:
    """Two empty blocks and what fills the last record of a tar that is ``size`` bytes long."""
    end = 2 * tarfile.BLOCKSIZE
    return bytes(end + -(size + end) % tarfile.RECORDSIZE)


def _wrapped(store_key: bytes, passphrase: bytes, entropy: Entropy, n: int) -> WrappedKey:
    salt, nonce = entropy(16), entropy(12)
    sealed = AESGCM(_stretched(passphrase, salt, n)).encrypt(nonce, store_key, _OF_KEY)
    return WrappedKey(n=n, r=8, p=1, salt=salt, nonce=nonce, sealed=sealed)


def _stretched(passphrase: bytes, salt: bytes, n: int) -> bytes:
    return Scrypt(salt=salt, length=KEY_BYTES, n=n, r=8, p=1).derive(passphrase)


def _mac(store_key: bytes, manifest: bytes) -> str:
    key = HKDF(algorithm=SHA256(), length=32, salt=None, info=_OF_MANIFEST).derive(store_key)
    return hmac.new(key, manifest, "sha256").hexdigest()
