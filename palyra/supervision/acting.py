"""Root as another user of this machine, for a while."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from palyra.supervision.service import Account, groups_of


@contextlib.contextmanager
def acting_as(account: Account | None) -> Iterator[None]:
    """Do something as that user, with all threads of this process; None: as who we are.

    Only root can be somebody else.  What an account's own tree holds must not decide what root
    reads or writes.
    """
    if account is None or os.name != "posix" or account.uid == os.geteuid():
        yield
        return
    groups, gid = os.getgroups(), os.getegid()
    try:  # Ctrl-C comes between any two of these
        os.setgroups(groups_of(account))
        _set_ids("gid", account.gid)
        _set_ids("uid", account.uid)
        yield
    finally:
        _set_ids("uid", 0, back=True)
        _set_ids("gid", gid, back=True)
        os.setgroups(groups)


def _set_ids(kind: str, number: int, *, back: bool = False) -> None:
    """All ids but the saved one, by which there is a way back; programs that are run lose it.
    macOS can change the effective id alone."""
    change = getattr(os, f"setres{kind}", None)
    if change is None:
        getattr(os, f"sete{kind}")(number)
    else:
        change(number, number, number if back else 0)
