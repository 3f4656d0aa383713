"""Tests of :mod:`palyra._notify`."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra._notify import MAX_TEXT, Notifier

pytestmark = pytest.mark.skipif(
    not hasattr(socket, "AF_UNIX"), reason="no such sockets on this platform"
)


class Manager:
    """A service manager's end of the socket."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(address)

    def heard(self) -> list[str]:
        """What it was told since."""
        told = []
        while True:
            try:
                told.append(self._socket.recv(65_536).decode())
            except BlockingIOError:
                return told

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def place() -> Iterator[Path]:
    """Not pytest's: a socket's path has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="palyra-test-") as directory:
        yield Path(directory) / "notify"


@pytest.fixture
def manager(place: Path) -> Iterator[Manager]:
    manager = Manager(str(place))
    yield manager
    manager.close()


def test_the_words_of_the_protocol(manager: Manager, place: Path) -> None:
    """sd_notify(3), a datagram each; reloading says since when, as newer systemd asks."""
    notifier = Notifier(bytes(place), 30.0, monotonic_ns=lambda: 5_000_000_999)
    assert notifier.ready("online")
    assert notifier.status("offline")
    assert notifier.reloading()
    assert notifier.watchdog()
    assert notifier.stopping("stopping", 25.5)
    assert notifier.stopping()
    assert manager.heard() == [
        "READY=1\nSTATUS=online",
        "STATUS=offline",
        "RELOADING=1\nMONOTONIC_USEC=5000000",
        "WATCHDOG=1",
        "STOPPING=1\nEXTEND_TIMEOUT_USEC=25500000\nSTATUS=stopping",
        "STOPPING=1",
    ]


def test_the_environment_is_read_and_forgotten(manager: Manager, place: Path) -> None:
    """A child that inherits it could speak for its parent."""
    environ = {"NOTIFY_SOCKET": str(place), "WATCHDOG_USEC": "30000000", "PATH": "/bin"}
    environ["WATCHDOG_PID"] = str(os.getpid())
    notifier = Notifier.from_environment(environ)
    assert environ == {"PATH": "/bin"}
    assert notifier.present and notifier.watchdog_s == 30.0
    notifier.ready()
    assert manager.heard() == ["READY=1"]


@pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets are Linux's")
def test_an_abstract_socket() -> None:
    """Its name begins with ``@`` in the environment, and with NUL in the kernel."""
    name = f"palyra-test-{os.getpid()}-{os.urandom(4).hex()}"
    manager = Manager(f"\0{name}")
    try:
        Notifier.from_environment({"NOTIFY_SOCKET": f"@{name}"}).ready()
        assert manager.heard() == ["READY=1"]
    finally:
        manager.close()


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"NOTIFY_SOCKET": ""},
        {"NOTIFY_SOCKET": "relative"},
        {"NOTIFY_SOCKET": "vsock:2:1234"},
        {"NOTIFY_SOCKET": "/" + "x" * 107},
        {"WATCHDOG_USEC": "30000000"},
    ],
)
def test_where_nobody_listens_nothing_is_said(environ: dict[str, str]) -> None:
    """Neither is there a watchdog to feed."""
    notifier = Notifier.from_environment(environ)
    assert not notifier.present and notifier.watchdog_s is None
    assert not notifier.ready("x") and not notifier.watchdog() and not notifier.stopping()


def test_a_manager_that_is_gone_or_deaf_keeps_nobody(place: Path) -> None:
    """The socket is missing, nobody reads it, or it is full: it is said once, and not waited."""
    notifier = Notifier(bytes(place), 30.0)
    assert not notifier.ready()
    manager = Manager(str(place))
    try:
        while notifier.watchdog():
            pass  # until the queue is full
        assert not notifier.ready()
        assert manager.heard()
        assert notifier.ready()
    finally:
        manager.close()
    assert not notifier.ready()


@pytest.mark.parametrize("usec", ["", "0", "-5", "1.5", "abc", "٣", "9" * 21])
def test_a_watchdog_that_is_no_number_is_none(usec: str) -> None:
    """What cannot be understood is not fed."""
    environ = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": usec}
    assert Notifier.from_environment(environ).watchdog_s is None


def test_a_watchdog_of_another_process_is_not_ours() -> None:
    """``WATCHDOG_PID`` says whose it is (sd_watchdog_enabled(3)); one of ages is a day's."""
    environ = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "1000000"}
    other = {**environ, "WATCHDOG_PID": str(os.getpid() + 1)}
    assert Notifier.from_environment(other).watchdog_s is None
    assert Notifier.from_environment(dict(environ)).watchdog_s == 1.0
    ages = {**environ, "WATCHDOG_USEC": "9" * 20}
    assert Notifier.from_environment(ages).watchdog_s == 24 * 3600.0


@settings(max_examples=50)
@given(st.text())
def test_a_status_is_one_line(text: str) -> None:
    """A line break in it would begin an assignment: ``MAINPID=1``."""
    with tempfile.TemporaryDirectory(prefix="palyra-test-") as directory:
        manager = Manager(f"{directory}/n")
        try:
            Notifier(os.fsencode(f"{directory}/n")).ready(text)
            (told,) = manager.heard()
        finally:
            manager.close()
    lines = told.split("\n")
    assert lines[0] == "READY=1" and len(lines) <= 2
    assert all(line.startswith("STATUS=") for line in lines[1:])
    assert len(told) <= MAX_TEXT + len("READY=1\nSTATUS=")
