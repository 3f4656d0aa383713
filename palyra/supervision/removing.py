"""Taking away what a node host kept: known names one by one, and never what is below a name.

A state root may be named by mistake, or hold what somebody else has put there.  A directory is
touched only where it proves to be a node host's and belongs to whom it should; what is unknown in
it stays, and is named.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

import attrs

from palyra._lock import try_lock
from palyra.errors import NotANodeHost, StateRootLocked
from palyra.supervision.directories import Directory, opened

MAX_PROOF = 1024 * 1024
_TEMPORARY = re.compile(r"\.(?P<name>.+)\.[a-z0-9_]{8}")
"""What a crash in writing the file of that name leaves."""
_NUMBERED = re.compile(r"(?P<name>.+)\.\d{1,4}")
"""A log that was rotated."""


@attrs.frozen(kw_only=True)
class Belongings:
    """What may be in a directory, and is removed: ``names`` of files, with the temporaries of each
    of them, those of ``logs`` with a number behind them too, and ``directories``.

    ``last`` are removed after all others, in their order: by those that are ``proofs`` (name, and
    whether its bytes prove it) the directory is known again where a removal was interrupted.
    ``lock`` goes after them.
    """

    names: frozenset[str]
    logs: frozenset[str] = frozenset()
    directories: Mapping[str, Belongings] = attrs.field(factory=dict)
    proofs: Mapping[str, Callable[[bytes], bool]] = attrs.field(factory=dict)
    last: tuple[str, ...] = ()
    lock: str = ""

    def knows(self, name: str) -> bool:
        """Whether a file of that name is one of them."""
        known = self.names.union(self.last, self.logs, [self.lock] if self.lock else [])
        temporary, numbered = _TEMPORARY.fullmatch(name), _NUMBERED.fullmatch(name)
        if name in known or (temporary is not None and temporary["name"] in known):
            return True
        return numbered is not None and numbered["name"] in self.logs


@attrs.frozen
class Removed:
    """What became of a directory: how many ``files`` were removed, whether it is ``gone`` itself,
    and what was ``left`` in it, below it by its path."""

    path: Path
    files: int
    gone: bool
    left: tuple[str, ...] = ()


def remove(
    path: Path, belongings: Belongings, owners: Collection[int], *, alone: bool = False
) -> Removed:
    """Remove what belongs to a node host at ``path``, and the directory where nothing else is in
    it.  ``owners`` are the uids that it, and all that is removed, may belong to.  ``alone``: in the
    care of :func:`kept_alone`.

    Again after an interruption: it goes on.  Blocks for as long as the disk takes.

    :raises NotANodeHost: it does not prove to be one, or is somebody else's; nothing was touched.
    :raises StateRootLocked: a node host runs there; nothing was touched.
    """
    with contextlib.ExitStack() as open_ones:
        try:
            parent, held = open_ones.enter_context(_held(path))
        except FileNotFoundError:
            return Removed(path, 0, gone=True)
        _check(held, path, belongings, owners)
        with _locked(held, path, "" if alone else belongings.lock):
            emptied = _emptied(held, belongings, owners)
        return Removed(path, emptied.files, _is_removed(parent, path.name), emptied.left)


@contextlib.contextmanager
def kept_alone(path: Path, belongings: Belongings) -> Iterator[None]:
    """No node host starts there meanwhile, on systems that can lock a file that is removed.

    :raises StateRootLocked: one runs.
    :raises NotANodeHost: it is no directory of ours.
    """
    with _there(path) as held, _locked(held, path, belongings.lock):
        yield


def check(path: Path, belongings: Belongings, owners: Collection[int], *, runs: bool) -> None:
    """Whether :func:`remove` would begin; ``runs``: a node host runs there, and will be stopped.

    :raises NotANodeHost, StateRootLocked: it would not.
    """
    with _there(path) as held:
        _check(held, path, belongings, owners)
        with _locked(held, path, "" if runs else belongings.lock):
            pass


@contextlib.contextmanager
def _held(path: Path) -> Iterator[tuple[Directory, Directory]]:
    """What it is in, and itself.  A state root may be reached by a link: whoever made that owns the
    place where it is.

    :raises FileNotFoundError: it is not in there.
    :raises NotANodeHost: it is a link itself, or cannot be opened.
    """
    try:
        parent = opened(Path(os.path.realpath(path.parent)))
    except OSError as error:
        raise NotANodeHost(str(path), _said(error)) from error
    with contextlib.closing(parent):
        try:
            held = parent.child(path.name)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise NotANodeHost(str(path), _said(error)) from error
        with contextlib.closing(held):
            yield parent, held


@contextlib.contextmanager
def _there(path: Path) -> Iterator[Directory]:
    with contextlib.ExitStack() as open_ones:
        try:
            _, held = open_ones.enter_context(_held(path))
        except FileNotFoundError as error:
            raise NotANodeHost(str(path), _said(error)) from error
        yield held


def is_private(path: Path, owners: Collection[int]) -> bool:
    """Whether it is as a node host makes its state root.  ``/srv`` that was named as one was there
    before it, and so was a home.

    :raises OSError: it cannot be looked at.
    """
    status = path.lstat()
    if os.name != "posix":
        return True
    return status.st_uid in owners and not stat.S_IMODE(status.st_mode) & 0o077


def _check(held: Directory, path: Path, belongings: Belongings, owners: Collection[int]) -> None:
    if held.owner() not in owners:
        raise NotANodeHost(str(path), "it belongs to another user")
    names = held.names()
    rest = set(names) - {belongings.lock}
    if rest and not any(_proves(held, name, owners, belongings) for name in belongings.proofs):
        wanted = " or ".join(belongings.proofs)
        raise NotANodeHost(str(path), f"it has no {wanted} that can be read")


def _proves(held: Directory, name: str, owners: Collection[int], belongings: Belongings) -> bool:
    with contextlib.suppress(OSError):
        entry = held.entry(name)
        if entry.is_file and entry.owner in owners:
            return belongings.proofs[name](held.read(name, MAX_PROOF))
    return False


@contextlib.contextmanager
def _locked(held: Directory, path: Path, lock: str) -> Iterator[None]:
    """Keep node hosts from starting there meanwhile; on Windows a file that is open stays, so
    there it is only looked at whether one runs."""
    try:
        descriptor = held.open(lock, os.O_RDWR) if lock else -1
    except FileNotFoundError:
        descriptor = -1
    except OSError as error:
        raise NotANodeHost(str(path), f"its {lock} cannot be opened") from error
    if descriptor < 0:
        yield
        return
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NotANodeHost(str(path), f"its {lock} is no file")
        try_lock(descriptor)
    except OSError as error:
        holder = os.read(descriptor, 32).strip()
        os.close(descriptor)
        pid = int(holder) if holder.isdigit() else 0
        raise StateRootLocked(str(path.parent), pid, "A node host") from error
    except NotANodeHost:
        os.close(descriptor)
        raise
    if sys.platform == "win32":
        os.close(descriptor)
        yield
        return
    try:
        yield
    finally:
        os.close(descriptor)


@attrs.frozen
class _Emptied:
    files: int
    left: tuple[str, ...]
    stuck: bool = False


def _emptied(held: Directory, belongings: Belongings, owners: Collection[int]) -> _Emptied:
    """Remove what is known, and tell what is left.  Where the system keeps something that is known,
    the last ones stay as well: it can be tried again."""
    files, stuck = 0, False
    left: list[str] = []
    for name in _ordered(held.names(), [*belongings.last, belongings.lock]):
        removed: bool | None = False
        if name in belongings.directories:
            below = _child_emptied(held, name, belongings.directories[name], owners)
            files += below.files
            left += below.left
            stuck = stuck or below.stuck
            continue
        if belongings.knows(name) and not (stuck and name in belongings.last):
            removed = _unlinked(held, name, owners)
        files += bool(removed)
        stuck = stuck or removed is None
        if not removed:
            left.append(name)
    return _Emptied(files, tuple(left), stuck)


def _ordered(names: Collection[str], late: list[str]) -> list[str]:
    first = [name for name in names if name not in late]
    return first + [name for name in late if name in names]


def _child_emptied(
    held: Directory, name: str, belongings: Belongings, owners: Collection[int]
) -> _Emptied:
    try:
        child = held.child(name)
    except OSError as error:
        return _Emptied(0, (name,), stuck=error.errno not in (errno.ELOOP, errno.ENOTDIR))
    with contextlib.closing(child):
        if child.owner() not in owners:
            return _Emptied(0, (name,))
        below = _emptied(child, belongings, owners)
    if _is_removed(held, name):
        return _Emptied(below.files, ())
    left = tuple(f"{name}/{each}" for each in below.left) or (name,)
    return _Emptied(below.files, left, below.stuck)


def _unlinked(held: Directory, name: str, owners: Collection[int]) -> bool | None:
    """Whether it is removed; False where it is no file of ours, None where the system keeps it.
    Whatever takes its place after that look, only a name in this directory ends, and never what a
    link leads to."""
    try:
        entry = held.entry(name)
        if not entry.is_file or entry.owner not in owners:
            return False
        held.unlink(name)
    except FileNotFoundError:
        return True
    except OSError:
        return None
    return True


def _is_removed(parent: Directory, name: str) -> bool:
    try:
        parent.rmdir(name)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _said(error: OSError) -> str:
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return "it is a link, or no directory"
    if error.errno == errno.ENOENT:
        return "it is not there"
    return (error.strerror or str(error)).lower()
