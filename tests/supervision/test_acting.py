"""Tests of :mod:`palyra.supervision.acting`."""

from __future__ import annotations

import os
import subprocess

import pytest

from palyra.supervision.acting import acting_as
from palyra.supervision.service import Account


def test_acting_as_oneself() -> None:
    """Changes nothing, also for those who can change nothing."""
    me = Account("me", os.geteuid(), os.getegid())
    for account in (None, me):
        with acting_as(account):
            assert os.geteuid() == me.uid


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as somebody else")
def test_acting_as_somebody_else() -> None:
    """Programs that are run cannot turn back, and afterwards all is as it was."""
    before = os.getresuid(), os.getresgid(), os.getgroups()
    with acting_as(Account("somebody", 54321, 54322)):
        assert (os.getuid(), os.geteuid(), os.getgid()) == (54321, 54321, 54322)
        assert os.getgroups() == [54322]
        said = subprocess.run(
            ["/bin/sh", "-c", "id -u; id -ru; id -g; id -G"],
            capture_output=True,
            text=True,
            check=True,
            cwd="/",
        )
        assert said.stdout.split() == ["54321", "54321", "54322", "54322"]
    assert (os.getresuid(), os.getresgid(), os.getgroups()) == before
