"""JSON files of a state root that outlive the version which wrote them.

Each has a ``schema_version``.  One of an older version is upgraded step by step in memory, and so
written at the next write.  One of a newer version is refused and left as it is: what it
means is not known here.  Keys that are unknown within a version
are kept when the file is written again, so that going back to an older program and forward again
loses nothing; whatever narrows the meaning of a known key therefore needs a new version.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import attrs
import msgspec

from palyra._files import sweep_temporaries, write_atomic
from palyra._ownersocket import account_of, own_account
from palyra.errors import (
    FileTooNew,
    KeyFilePermission,
    PalyraError,
    StateOfAnother,
    StoreCorrupt,
    StoreUnavailable,
)

MAX_BYTES = 1024 * 1024
_POSIX = os.name == "posix"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
# No link is followed, and a FIFO in the file's place does not block.
_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_READ |= getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)

Raw = dict[str, Any]
Step = Callable[[Raw], Raw]
S = TypeVar("S", bound=msgspec.Struct)


@attrs.frozen
class VersionedFile(Generic[S]):
    """One file, of a struct that has a field ``schema_version``.

    ``steps`` make a file of version n one of version n + 1, by n; they may change their argument.
    A ``secret`` file that others may read is refused, any other is closed to them.
    """

    path: Path
    kind: type[S]
    version: int = 1
    steps: Mapping[int, Step] = MappingProxyType({})
    secret: bool = False
    max_bytes: int = MAX_BYTES

    def read(self) -> S | None:
        """What the file has, upgraded; None where there is none.

        :raises StoreCorrupt: it is damaged, a link, or no file; it is left as it is.
        :raises FileTooNew: it was written by a newer version; likewise.
        :raises KeyFilePermission: others may read this secret.
        :raises StateOfAnother, StoreUnavailable: it cannot be read.
        """
        found = self.read_owned()
        return None if found is None else found[0]

    def read_owned(self) -> tuple[S, int] | None:
        """The same, and the uid that the file belongs to (0 where there are none)."""
        opened = self._open(refusing=True)
        if opened is None:
            return None
        raw = self._upgraded(opened[0])
        try:
            return msgspec.convert(raw, type=self.kind), opened[1]
        except msgspec.ValidationError as error:
            raise StoreCorrupt(str(self.path), str(error)) from error

    def write(self, value: S) -> None:
        """Put ``value`` in its place, and keep what this version does not know of the file.

        :raises FileTooNew: a newer version has written it meanwhile; it is left as it is.
        :raises DiskFull, OSError: it is as it was.
        """
        self._put(_with_unknown(self._encoded(value), self._before()))

    def replace(self, value: S) -> None:
        """Put ``value`` in the place of whatever is there, of any version.

        :raises DiskFull, OSError: it is as it was.
        """
        self._put(self._encoded(value))

    def sweep(self) -> None:
        """Remove what a crash in :meth:`write` left.  Nobody may be writing it meanwhile."""
        with contextlib.suppress(OSError):
            sweep_temporaries(self.path)

    def _encoded(self, value: S) -> Raw:
        encoded = msgspec.json.decode(msgspec.json.encode(value), type=Raw)
        return encoded | {"schema_version": self.version}

    def _put(self, raw: Raw) -> None:
        write_atomic(self.path, msgspec.json.format(msgspec.json.encode(raw), indent=2))

    def _before(self) -> Raw:
        """What is in its place now; nothing of it counts where it is damaged."""
        try:
            opened = self._open(refusing=False)
            return {} if opened is None else self._upgraded(opened[0])
        except FileTooNew:
            raise
        except PalyraError:
            return {}

    def _upgraded(self, data: bytes) -> Raw:
        try:
            raw = msgspec.json.decode(data, type=Raw)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            problem = str(error) if data else "it is empty"
            raise StoreCorrupt(str(self.path), problem) from error
        found = raw.get("schema_version")
        if type(found) is not int or found < 1:
            raise StoreCorrupt(str(self.path), "it has no schema_version")
        if found > self.version:
            raise FileTooNew(str(self.path), found)
        for number in range(found, self.version):
            raw = self.steps[number](raw) | {"schema_version": number + 1}
        return raw

    def _open(self, *, refusing: bool) -> tuple[bytes, int] | None:
        """Its bytes and its owner; with ``refusing`` only where no other user may have it."""
        try:
            descriptor = os.open(self.path, _READ)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unopened(error) from error
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise StoreCorrupt(str(self.path), "it is no file")
            if refusing and _POSIX:
                self._check(descriptor, status)
            return self._all(descriptor), status.st_uid
        except OSError as error:
            raise self._unopened(error) from error
        finally:
            os.close(descriptor)

    def _all(self, descriptor: int) -> bytes:
        data = bytearray()
        while piece := os.read(descriptor, self.max_bytes + 1 - len(data)):
            data += piece
        if len(data) > self.max_bytes:
            raise StoreCorrupt(str(self.path), f"it is longer than {self.max_bytes} bytes")
        return bytes(data)

    def _check(self, descriptor: int, status: os.stat_result) -> None:
        me, mode = os.geteuid(), stat.S_IMODE(status.st_mode)
        if me not in (0, status.st_uid):
            raise state_of_another(self.path)
        if not mode & _OTHERS:
            return
        if self.secret:
            raise KeyFilePermission(str(self.path), mode)
        if status.st_nlink > 1:
            return  # a second name of a file that is somewhere else, which root must not close
        with contextlib.suppress(OSError):  # a disk that is read-only
            os.fchmod(descriptor, 0o600)

    def _unopened(self, error: OSError) -> PalyraError:
        if error.errno == errno.ELOOP:
            return StoreCorrupt(str(self.path), "it is a link")
        if isinstance(error, IsADirectoryError | NotADirectoryError):
            return StoreCorrupt(str(self.path), "it is no file")
        if isinstance(error, PermissionError):
            return _closed(self.path)
        return StoreUnavailable(str(self.path), (error.strerror or str(error)).lower())


def state_of_another(path: Path) -> StateOfAnother:
    """The refusal to use ``path``, which belongs to another user, or is in a directory of his."""
    for each in (path, *path.parents) if _POSIX else ():
        with contextlib.suppress(OSError):
            uid = each.lstat().st_uid
            if uid != os.geteuid():
                return StateOfAnother(str(each), account_of(uid), own_account())
    return StateOfAnother(str(path), "another user", own_account())


def _closed(path: Path) -> PalyraError:
    """Why ``path`` cannot be opened: what can be looked at next to it is this user's own and its
    mode does not let him, or it is another user's."""
    for each in (path, *path.parents) if _POSIX else ():
        with contextlib.suppress(OSError):
            if each.lstat().st_uid == os.geteuid():
                return StoreUnavailable(str(each), "permission denied")
            break
    return state_of_another(path)


def _with_unknown(new: Raw, old: Raw) -> Raw:
    """``new`` and the keys that only ``old`` has; of objects within it where they are the same."""
    kept = {name: _nested(value, old.get(name)) for name, value in new.items()}
    return kept | {name: value for name, value in old.items() if name not in new}


def _nested(new: Any, old: Any) -> Any:
    if isinstance(new, dict) and isinstance(old, dict) and _is_within(new, old):
        return _with_unknown(new, old)
    if isinstance(new, list) and isinstance(old, list):
        known = {name for each in new if isinstance(each, dict) for name in each}
        more = [each for each in old if isinstance(each, dict) and not each.keys() <= known]
        return [_found(each, more) if isinstance(each, dict) else each for each in new]
    return new


def _found(new: Raw, candidates: list[Raw]) -> Raw:
    return next((old for old in candidates if _is_within(new, old)), new)


def _is_within(new: Raw, old: Raw) -> bool:
    """Whether ``old`` says all that ``new`` says."""
    return all(name in old and old[name] == value for name, value in new.items())
