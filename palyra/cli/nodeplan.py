"""What ``palyra node install`` will do: all that can be refused is refused before anything is done,
and what was done is undone where the rest fails."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import attrs
import click

from palyra import __version__
from palyra._ownersocket import account_of
from palyra.cli.noderoot import check_scope, owner_uid
from palyra.cli.nodestarting import is_kept, running
from palyra.errors import (
    AccountUnknown,
    PalyraError,
    StateRootLocked,
    StoreUnavailable,
)
from palyra.node.files import NodeFiles
from palyra.supervision.acting import acting_as
from palyra.supervision.installed import SCHEMA_VERSION, InstalledFile, mark_at
from palyra.supervision.interfaces import IServiceManager
from palyra.supervision.service import (
    SYSTEM_ACCOUNT,
    Account,
    Manager,
    Profile,
    Scope,
    Service,
    runs_as_root,
)

NOBODY = 65534
"""Whose rights are those of a user that is not made yet: neither is anybody's owner or group."""
MAX_CREDENTIAL = 1024 * 1024
_CREDENTIAL = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@attrs.frozen(kw_only=True)
class Wishes:
    """What was asked of the service itself."""

    manager: Manager | None = None
    profile: Profile | None = None
    run_as: str | None = None
    credentials: Mapping[str, Path] = attrs.field(factory=dict)
    start: bool = False


@attrs.frozen(kw_only=True)
class Plan:
    """A service that can be installed, as far as can be told beforehand.

    ``before`` is the mark of one that is there, ``replaced`` who kept it where that is somebody
    else.  ``account`` is whom a system service runs as, ``makes_account`` where that user is still
    to be made.  ``runs``: the service runs already.
    """

    files: NodeFiles
    manager: IServiceManager
    scope: Scope
    wishes: Wishes
    account: Account | None = None
    makes_account: bool = False
    before: InstalledFile | None = None
    replaced: IServiceManager | None = None
    runs: bool = False

    @property
    def worker(self) -> Account | None:
        """Who works in the state tree: the service's user, where any directory on the way to it is
        that user's already, whose links root would follow."""
        if self.account is None or not _is_in_hands_of(self.account, self.files.root):
            return None
        return self.account


@attrs.frozen
class Made:
    """What came of it: the mark, and whether it or a file of the manager is another one now."""

    mark: InstalledFile
    changed: bool


def plan(root: Path, wishes: Wishes) -> Plan:
    """Look at everything that may be in the way.

    :raises PalyraError: it is.
    """
    scope = Scope.SYSTEM if runs_as_root() else Scope.USER
    if scope is Scope.USER and wishes.run_as is not None:
        raise click.UsageError("Only root installs a service that runs as another user")
    files = NodeFiles(root)
    owner_uid(files.root)  # which refuses a link: root would follow it
    before = _kept_mark(files)
    if before is not None:
        check_scope(root, before.scope, "install")
    manager, replaced = _manager(wishes.manager, scope, root, before)
    if wishes.profile is not None and manager.kind is not Manager.SYSTEMD:
        raise click.UsageError(f"--profile is for a unit of systemd, not for a {manager.described}")
    account, makes = _account(scope, wishes.run_as, before)
    _prove(root, account)
    made = Plan(
        files=files,
        manager=manager,
        scope=scope,
        wishes=_completed(wishes, manager),
        account=account,
        makes_account=makes,
        before=before,
        replaced=replaced,
        runs=before is not None and replaced is None and is_kept(manager, files),
    )
    _refuse_elsewhere(made)
    with acting_as(made.worker):
        files.make()
    return made


def _kept_mark(files: NodeFiles) -> InstalledFile | None:
    """The mark of what is installed; that of a state root which was copied is none."""
    mark = mark_at(files.installed).read()
    if mark is None or os.path.realpath(mark.state_root) != os.path.realpath(files.state_root):
        return None
    return mark


def _manager(
    asked: Manager | None, scope: Scope, root: Path, before: InstalledFile | None
) -> tuple[IServiceManager, IServiceManager | None]:
    """Who will keep it, and who kept it so far where that is another one."""
    from palyra.supervision import choosing

    if before is None:
        return choosing.choose(asked, scope, root), None
    if asked is None or asked == before.manager:
        return choosing.of(before), None
    return choosing.choose(asked, scope, root), choosing.of(before)


def _completed(wishes: Wishes, manager: IServiceManager) -> Wishes:
    """With what nobody asked for anew as the unit has it that is there."""
    if manager.kind is not Manager.SYSTEMD:
        return wishes
    from palyra.supervision.systemdunit import credentials_of, profile_of

    text = b"".join(_contents(manager.files).values()).decode("utf-8", "replace")
    return attrs.evolve(
        wishes,
        profile=wishes.profile or profile_of(text),
        credentials=wishes.credentials or credentials_of(text),
    )


def _account(
    scope: Scope, asked: str | None, before: InstalledFile | None
) -> tuple[Account | None, bool]:
    """Whom it runs as, and whether that user is still to be made: one with the rights of nobody
    stands in for it until then."""
    if scope is Scope.USER:
        return None, False
    from palyra.supervision import accounts

    name = asked or (before.account if before is not None else "") or SYSTEM_ACCOUNT
    try:
        return accounts.find(name), False
    except AccountUnknown:
        if asked is not None or name != SYSTEM_ACCOUNT or not accounts.can_make():
            raise
    return Account(name, NOBODY, NOBODY), True


def _prove(root: Path, account: Account | None) -> None:
    """That the service's user can run this installation, and reach its state."""
    from palyra.supervision import interpreter

    interpreter.prove(sys.executable, account)
    if account is None:
        return
    from palyra.supervision import accounts

    owner = owner_uid(root / "node-host")
    if owner not in (None, 0, account.uid):
        problem = f"{root / 'node-host'} belongs to {account_of(owner or 0)}"
        raise AccountUnknown(account.name, problem)
    accounts.check_place(root, account)
    with acting_as(account):
        closed = [each for each in reversed(root.parents) if not os.access(each, os.X_OK)]
    if closed:
        problem = "is closed to it" if closed[0].exists() else "does not exist"
        raise AccountUnknown(account.name, f"{closed[0]} {problem}")
    if root.is_dir() and account.uid:
        accounts.check_contents(root, account)


def _is_in_hands_of(account: Account, path: Path) -> bool:
    for place in (path.absolute(), Path(os.path.realpath(path))):
        for each in (place, *place.parents):
            with contextlib.suppress(OSError):
                if each.lstat().st_uid == account.uid:
                    return True
    return False


def _refuse_elsewhere(made: Plan) -> None:
    """What would keep a service from running here: one that runs already, and is none."""
    made.manager.check(service_of(made))
    if made.runs or made.replaced is not None or not made.wishes.start:
        return
    host = running(made.files.state_root)
    if host is not None:
        raise StateRootLocked(str(made.files.root), host.pid, "A node host")


def service_of(made: Plan) -> Service:
    """The service as its manager is told of it."""
    usual = Profile.STRICT if made.scope is Scope.SYSTEM else Profile.STANDARD
    return Service(
        state_root=made.files.state_root,
        scope=made.scope,
        profile=made.wishes.profile or usual,
        account=made.account,
        credentials=dict(made.wishes.credentials),
    )


def carry_out(made: Plan) -> Made:
    """Make the user, define the service, hand over the state and keep the mark.

    :raises PalyraError: it is not possible, and what was done of it is undone.
    """
    try:
        return _carried_out(made)
    except OSError as error:
        where = str(error.filename or made.files.root)
        raise StoreUnavailable(where, (error.strerror or str(error)).lower()) from error


def _carried_out(made: Plan) -> Made:
    with contextlib.ExitStack() as undo:
        made = _with_account(made, undo)
        contents = _contents(made.manager.files)
        written = made.manager.install(service_of(made))
        if not contents and (made.before is None or made.replaced is not None):
            undo.callback(_try, made.manager.uninstall)
        if made.replaced is not None:
            made.replaced.uninstall()
        if made.account is not None and not made.runs:
            from palyra.supervision import accounts

            accounts.give(made.files.state_root, made.account)
        mark = _mark(made, written)
        same = mark == made.before
        if not same:
            with acting_as(made.worker):
                mark_at(made.files.installed).write(mark)
        undo.pop_all()
    return Made(mark, not same or _contents(made.manager.files) != contents)


def _with_account(made: Plan, undo: contextlib.ExitStack) -> Plan:
    if not made.makes_account or made.account is None:
        return made
    from palyra.supervision import accounts

    name = made.account.name
    account = accounts.make(name, made.files.state_root)

    def remove() -> None:
        if owner_uid(made.files.root) != account.uid:  # else the state would be nobody's
            accounts.remove(name)

    undo.callback(_try, remove)
    return attrs.evolve(made, account=account)


def _mark(made: Plan, files: Sequence[Path]) -> InstalledFile:
    before, account = made.before, made.account
    ours = account is not None and (
        made.makes_account
        or (before is not None and before.account_made and before.account == account.name)
    )
    return InstalledFile(
        schema_version=SCHEMA_VERSION,
        manager=made.manager.kind,
        scope=made.scope,
        state_root=str(made.files.state_root),
        python=sys.executable,
        version=__version__,
        installed_at_unix_ms=before.installed_at_unix_ms if before else int(time.time() * 1000),
        files=tuple(str(each) for each in files),
        account=account.name if account is not None else "",
        account_made=ours,
    )


def _contents(files: Sequence[Path]) -> dict[Path, bytes]:
    """Of the manager's own files.  What the mark names is no place to look: it may be in the
    keeping of the service's user."""
    found = {}
    for each in files:
        with contextlib.suppress(OSError):
            found[each] = each.read_bytes()
    return found


def _try(act: Callable[[], object]) -> None:
    """Undo something; why all of it is undone is what is told."""
    with contextlib.suppress(PalyraError, OSError):
        act()


def credentials(given: Sequence[str]) -> dict[str, Path]:
    """``NAME=FILE``, each a file that can be read.

    :raises click.UsageError: it is none.
    """
    found: dict[str, Path] = {}
    for each in given:
        name, equals, file = each.partition("=")
        if not equals or not _CREDENTIAL.fullmatch(name) or name in (".", ".."):
            raise click.UsageError("--credential must be NAME=FILE, NAME of A-Z a-z 0-9 _ . -")
        if name in found:
            raise click.UsageError(f"--credential: {name} is given twice")
        found[name] = _readable(name, Path(file).expanduser().absolute())
    return found


def _readable(name: str, file: Path) -> Path:
    try:
        if not file.is_file() or file.stat().st_size > MAX_CREDENTIAL:
            raise click.UsageError(f"--credential {name}: {file} is no file of at most 1 MiB")
        file.open("rb").close()
    except OSError as error:
        raise click.UsageError(f"--credential {name}: {file} cannot be read") from error
    return file
