"""A network of its own for one end of a test: a namespace, and the wire that leads out of it.

It takes root and ``ip``, and bad weather takes ``tc`` and the kernel's netem; where one of them is
missing the test is skipped and says so.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

_PREFIX = "palyra"
_NET = "10.213"
"""Of the private addresses; that this machine does not use it already is looked at."""
_NOBODY = "02:00:00:00:00:01"


class Missing(Exception):
    """This machine cannot do it; why."""


def _run(*command: str) -> str:
    """What a command says; :class:`Missing` where it fails."""
    if shutil.which(command[0]) is None:
        raise Missing(f"{command[0]} is not installed")
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    if done.returncode:
        raise Missing(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


class Link:
    """A veth pair: one end here, the other in a namespace of its own."""

    def __init__(self) -> None:
        number = os.getpid() % 250 + 1
        self._net = f"{_NET}.{number}"
        self._namespace = f"{_PREFIX}-{os.getpid()}"
        self._devices = (f"{_PREFIX}{os.getpid()}", "eth0")
        self._last = 2
        self.near, self.far = f"{self._net}.1", f"{self._net}.2"

    def lay(self) -> None:
        """Make it.

        :raises Missing: the right to it, or a command.
        """
        if f"{self._net}." in _run("ip", "-4", "-brief", "address"):
            raise Missing(f"{self._net}.0/24 is in use")
        here, there = self._devices
        _run("ip", "netns", "add", self._namespace)
        _run("ip", "link", "add", here, "type", "veth", "peer", there, "netns", self._namespace)
        _run("ip", "address", "add", f"{self.near}/24", "dev", here)
        _run("ip", "link", "set", here, "up")
        self._there("address", "add", f"{self.far}/24", "dev", there)
        for device in ("lo", there):
            self._there("link", "set", device, "up")

    def command(self, *command: str) -> list[str]:
        """A command line that runs at the far end."""
        return ["ip", "netns", "exec", self._namespace, *command]

    def move(self) -> None:
        """The far end goes to another address, as a device that changes its network."""
        self._last += 1
        old, self.far = self.far, f"{self._net}.{self._last}"
        # In this order: a second address of the same network would go with the first.
        self._there("address", "del", f"{old}/24", "dev", self._devices[1])
        self._there("address", "add", f"{self.far}/24", "dev", self._devices[1])

    def halve(self) -> None:
        """Both ends send on, nothing arrives, and nothing says so: each takes a stranger for the
        other one."""
        stranger = ("lladdr", _NOBODY, "nud", "permanent")
        _run("ip", "neigh", "replace", self.far, *stranger, "dev", self._devices[0])
        self._there("neigh", "replace", self.near, *stranger, "dev", self._devices[1])

    def mend(self) -> None:
        """After :meth:`halve`: both know each other again, once one of them speaks."""
        _run("ip", "neigh", "del", self.far, "dev", self._devices[0])
        self._there("neigh", "del", self.near, "dev", self._devices[1])

    def worsen(self, *netem: str) -> None:
        """Bad weather both ways, as ``tc qdisc ... netem`` reads it; none: fine again.

        :raises Missing: ``tc``, or netem in this kernel.
        """
        verb = ("replace", "dev") if netem else ("del", "dev")
        how = ("root", "netem", *netem) if netem else ("root",)
        here, there = self._devices
        _run("tc", "qdisc", *verb, here, *how)
        _run(*self.command("tc", "qdisc", *verb, there, *how))

    def close(self) -> None:
        """Take it away, whatever of it is there."""
        for command in (
            ("ip", "link", "del", self._devices[0]),
            ("ip", "netns", "del", self._namespace),
        ):
            with contextlib.suppress(Missing):
                _run(*command)

    def _there(self, *arguments: str) -> None:
        _run("ip", "-n", self._namespace, *arguments)


@contextlib.contextmanager
def laid(*netem: str) -> Iterator[Link]:
    """A link for one test, in the weather given; the test is skipped where it cannot be had."""
    link = Link()
    try:
        try:
            link.lay()
            if netem:
                link.worsen(*netem)
        except Missing as missing:
            pytest.skip(str(missing))
        yield link
    finally:
        link.close()
