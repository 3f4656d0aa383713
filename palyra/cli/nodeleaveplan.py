"""What ``palyra node uninstall`` takes away, found out and refused before anything is done."""

from __future__ import annotations

import os
from pathlib import Path

import attrs

from palyra.cli import nodeservice, words
from palyra.cli.nodefacts import Facts, look
from palyra.cli.noderoot import check_owner, check_scope
from palyra.core.identifiers import short_id
from palyra.errors import (
    AccountUnknown,
    HostOutsideService,
    NotInstalled,
    NotPaired,
    PalyraError,
    ServiceElsewhere,
)
from palyra.node.belongings import belongings
from palyra.node.files import NodeFiles
from palyra.supervision import accounts, removing
from palyra.supervision.installed import InstalledFile
from palyra.supervision.interfaces import IServiceManager
from palyra.supervision.service import Account, Scope


@attrs.frozen(kw_only=True)
class Plan:
    """What there is to take away."""

    facts: Facts
    manager: IServiceManager | None
    account: Account | None
    owners: frozenset[int]
    keep_state: bool

    @property
    def files(self) -> NodeFiles:
        return self.facts.files

    @property
    def mark(self) -> InstalledFile | None:
        return self.facts.mark

    @property
    def device_id(self) -> str:
        """Empty where nothing tells it."""
        if self.facts.host is not None:
            return self.facts.host.device_id
        try:
            return self.files.identity.device_id()
        except (PalyraError, OSError):
            return ""

    @property
    def was_paired(self) -> bool:
        """Whether a gateway knows this device, also where it cannot be read which."""
        there = os.path.lexists(self.files.host_file)
        return there or self.facts.host is not None or self.facts.cert_expires_ms > 0

    @property
    def called(self) -> str:
        """The device, as people know it."""
        name = words.escaped(self.facts.name) or "this device"
        return f"{name}  {short_id(self.device_id)}" if self.device_id else name


def planned(root: Path, keep_state: bool) -> Plan:
    """All that may be refused comes before anything is done.

    :raises NotInstalled: nothing is there.
    :raises NotPaired: a pairing was begun, and no more.
    :raises NotANodeHost, ServiceElsewhere, SocketPermission: it is not to be removed from here.
    :raises HostOutsideService, StateRootLocked: a host runs that nobody here can stop.
    """
    check_owner(root, "uninstall")
    facts = look(root)
    mark, files = facts.mark, facts.files
    if mark is None and not os.path.lexists(files.root):
        raise NotInstalled(str(root))
    if mark is None and os.path.lexists(files.installed):
        raise facts.problems[0] if facts.problems else NotInstalled(str(root))
    manager = None
    if mark is not None:
        check_scope(root, mark.scope, "uninstall")
        manager = nodeservice.manager_of(mark)
        if not _is_same(Path(mark.state_root), root):
            raise ServiceElsewhere(manager.described, mark.state_root)
    elif keep_state:
        raise NotInstalled(str(root))
    elif not os.path.lexists(files.host_file) and files.identity.path.is_dir():
        remedy = f"nothing has to be left; what a pairing has kept is in {files.root}"
        raise NotPaired(str(root), remedy)
    if facts.running and not facts.by_service:
        raise HostOutsideService(str(root), facts.pid)
    owners = _owners(mark, files.root)
    removing.check(files.root, belongings(files), owners, runs=facts.by_service)
    account = _account(mark)
    return Plan(facts=facts, manager=manager, account=account, owners=owners, keep_state=keep_state)


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return one == other


def _account(mark: InstalledFile | None) -> Account | None:
    """Whom the service runs as, where that is somebody else."""
    if mark is None or not mark.account or mark.scope != Scope.SYSTEM:
        return None
    try:
        return accounts.find(mark.account)
    except AccountUnknown:
        return None


def _owners(mark: InstalledFile | None, directory: Path) -> frozenset[int]:
    """Whose files are removed: the caller's; by root, those of the service's user as well, also
    where an earlier uninstall has removed that user already and its number is nobody's."""
    if os.name != "posix":
        return frozenset({0})
    mine = os.geteuid()
    if mine != 0 or mark is None or not mark.account:
        return frozenset({mine})
    account = _account(mark)
    if account is not None:
        return frozenset({mine, account.uid})
    owner = directory.lstat().st_uid
    return frozenset({mine, owner} if _is_nobodys(owner) else {mine})


def _is_nobodys(uid: int) -> bool:
    import pwd

    try:
        pwd.getpwuid(uid)
    except KeyError:
        return True
    return False
