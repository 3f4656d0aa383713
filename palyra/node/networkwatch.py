"""A watch on the network: an interface came or went, an address, or a route.

On Linux the kernel tells (rtnetlink).  Elsewhere, and where a sandbox refuses such a socket, the
addresses of this machine are looked at every five seconds.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Callable
from typing import Any, Protocol

import psutil
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReadDescriptor
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from palyra.node.rtnetlink import GROUPS, News

SETTLE_S = 1.0
"""What changes within this time is one change."""
POLL_S = 5.0
MOST_AT_ONCE = 32
"""Messages in one turn of the reactor, which has other work too."""
_BUFFER_BYTES = 65_536

Seen = dict[str, tuple[bool, frozenset[tuple[int, str]]]]
InThread = Callable[[Callable[[], Seen]], Deferred[Seen]]


class Source(Protocol):
    """What tells of changes, from its making on."""

    def close(self) -> Deferred[None]:
        """Tell no more; fires when nothing of it runs any more."""


def open_netlink() -> socket.socket:
    """A socket on which the kernel tells what changes.

    :raises OSError: there is no such thing here, or it is forbidden.
    """
    family = getattr(socket, "AF_NETLINK", None)
    if family is None:
        raise OSError(errno.EAFNOSUPPORT, "this system has no netlink")
    wire = socket.socket(family, socket.SOCK_RAW, 0)
    try:
        wire.setblocking(False)
        wire.bind((0, GROUPS))
    except OSError:
        wire.close()
        raise
    return wire


def seen_now() -> Seen:
    """The interfaces of this machine: whether each is up, and its addresses but for the loopback's.
    It may block.

    :raises OSError: they cannot be seen.
    """
    up = {name: each.isup for name, each in psutil.net_if_stats().items()}
    seen = {}
    for name, addresses in psutil.net_if_addrs().items():
        kept = frozenset(
            (int(each.family), each.address) for each in addresses if _counts(each.address)
        )
        if kept:
            seen[name] = (up.get(name, False), kept)
    return seen


def _counts(address: str) -> bool:
    """Whether that is an IP address, and not the loopback's."""
    try:
        return not ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False


class Watch:
    """Watches from :meth:`start` to :meth:`stop`.

    It owns a socket or a thread's look, and the timer of a change that has not settled.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        changed: Callable[[], object],
        *,
        netlink: Callable[[], socket.socket] = open_netlink,
        look: Callable[[], Seen] = seen_now,
        in_thread: InThread | None = None,
    ) -> None:
        """``changed`` is called a second after the first of what changed together."""
        self._reactor = reactor
        self._changed = changed
        self._netlink = netlink
        self._look = look
        self._in_thread = in_thread or self._in_pool
        self._source: Source | None = None
        self._settling: IDelayedCall | None = None

    def start(self) -> None:
        """Begin to watch; that never fails."""
        try:
            wire = self._netlink()
        except OSError as error:
            self._poll(error)
        else:
            self._source = _Netlink(self._reactor, wire, self._noticed, self._poll)

    def stop(self) -> Deferred[None]:
        """Watch no more; fires when no thread looks any more."""
        settling, self._settling = self._settling, None
        if settling is not None:
            settling.cancel()
        source, self._source = self._source, None
        return succeed(None) if source is None else source.close()

    def _poll(self, error: OSError) -> None:
        """The kernel does not tell."""
        self._log.info(
            "the network is looked at every {s:g} s: {why}", s=POLL_S, why=error.strerror
        )
        self._source = _Polling(self._reactor, lambda: self._in_thread(self._look), self._noticed)

    def _in_pool(self, look: Callable[[], Seen]) -> Deferred[Seen]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), look)

    def _noticed(self) -> None:
        if self._settling is None:
            self._settling = self._reactor.callLater(SETTLE_S, self._settled)

    def _settled(self) -> None:
        self._settling = None
        self._changed()


@implementer(IReadDescriptor)
class _Netlink:
    """The kernel's messages, read by the reactor."""

    def __init__(
        self,
        reactor: Any,
        wire: socket.socket,
        noticed: Callable[[], object],
        broken: Callable[[OSError], object],
    ) -> None:
        """``broken`` is told why it is of no use any more; it is closed by then."""
        self._reactor = reactor
        self._wire = wire
        self._noticed = noticed
        self._broken = broken
        self._news = News()
        reactor.addReader(self)
        self._ask()

    def fileno(self) -> int:
        return self._wire.fileno()

    def logPrefix(self) -> str:
        return "network"

    def connectionLost(self, reason: Failure) -> None:
        self.close()

    def doRead(self) -> None:
        try:
            for _ in range(MOST_AT_ONCE):
                self._read()
        except BlockingIOError:
            pass
        except OSError as error:
            self.close()
            self._broken(error)

    def _read(self) -> None:
        try:
            datagram = self._wire.recv(_BUFFER_BYTES)
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            self._news.missed()
            self._noticed()  # so much has changed that the kernel could not keep it all
            return
        changed, answered = self._news.take(datagram)
        if changed:
            self._noticed()
        if answered:
            self._ask()

    def _ask(self) -> None:
        """Ask what there is; what is not answered counts when it is said for the first time."""
        question = self._news.question()
        if question is not None:
            try:
                self._wire.send(question)
            except OSError:
                return

    def close(self) -> Deferred[None]:
        if self._wire.fileno() != -1:
            self._reactor.removeReader(self)
            self._wire.close()
        return succeed(None)


class _Polling:
    """Looks, and compares."""

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        look: Callable[[], Deferred[Seen]],
        noticed: Callable[[], object],
    ) -> None:
        self._reactor = reactor
        self._look = look
        self._noticed = noticed
        self._seen: Seen | None = None
        self._closed = False
        self._timer: IDelayedCall | None = None
        self._looking: Deferred[None] = succeed(None)
        self._begin()

    def _begin(self) -> None:
        self._timer = None
        self._looking = self._look().addCallbacks(self._looked, self._failed)
        self._looking.addBoth(lambda _: self._schedule())

    def _schedule(self) -> None:
        if not self._closed:
            self._timer = self._reactor.callLater(POLL_S, self._begin)

    def _looked(self, seen: Seen) -> None:
        before, self._seen = self._seen, seen
        if before is not None and before != seen and not self._closed:
            self._noticed()

    def _failed(self, failure: Failure) -> None:
        self._log.debug("the network cannot be looked at: {why}", why=failure.value)

    def close(self) -> Deferred[None]:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        over: Deferred[None] = Deferred()
        self._looking.addBoth(lambda _: over.callback(None))
        return over
