"""Tests of :mod:`palyra._ownersocket`; what serves there has tests of its own."""

from __future__ import annotations

import getpass
import os
import socket
from pathlib import Path

import pytest

from palyra import _ownersocket
from palyra._ownersocket import (
    MAX_PATH,
    account_of,
    check_path,
    listen,
    may_speak,
    own_account,
    peer_uid,
)
from palyra.errors import SocketPathTooLong, StoreUnavailable


def test_who_is_at_the_other_end() -> None:
    """The user of the process there; nobody where the platform does not tell."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert peer_uid(ours) == os.geteuid()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_ownersocket, "_SO_PEERCRED", None)
            patch.setattr(_ownersocket.sys, "platform", "freebsd")
            assert peer_uid(ours) is None


def test_who_may_speak(monkeypatch: pytest.MonkeyPatch) -> None:
    """The owner and root; where nobody knows, whom the mode let through."""
    monkeypatch.setattr(os, "geteuid", lambda: 1_000)
    assert [may_speak(uid) for uid in (1_000, 0, None, 1_001)] == [True, True, True, False]


def test_how_accounts_are_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """By their names; a user without one by its number."""
    assert account_of(0) == "root"
    assert account_of(4_123_456) == "local:4123456"
    assert own_account() == account_of(os.geteuid())
    monkeypatch.delattr(os, "geteuid")
    monkeypatch.setattr(getpass, "getuser", lambda: "ana")
    assert own_account() == "ana"


def test_a_place_that_is_taken(tmp_path: Path) -> None:
    """What is there and is no dead socket, or a disk that takes none, is a sentence."""
    from twisted.internet.error import CannotListenError

    class Full:
        """A reactor on a full disk."""

        def listenUNIX(self, address: str, factory: object, mode: int) -> None:
            raise CannotListenError(None, address, OSError(28, "No space left on device"))

    path = tmp_path / "control.sock"
    with pytest.raises(StoreUnavailable, match="no space left"):
        listen(Full(), path, None)
    path.mkdir()
    with pytest.raises(StoreUnavailable, match=r"directory|not permitted"):
        listen(None, path, None)


def test_a_path_that_no_socket_can_have(tmp_path: Path) -> None:
    """It is counted in bytes, and nothing is touched."""
    check_path(Path("/" + "x" * (MAX_PATH - 1)))
    for long in (Path("/" + "x" * MAX_PATH), Path("/" + "\u00e9" * 60)):
        with pytest.raises(SocketPathTooLong):
            check_path(long)
        with pytest.raises(SocketPathTooLong):
            listen(None, long, None)
