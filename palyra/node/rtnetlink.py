"""rtnetlink(7), as far as it tells that the network has changed.  Nothing here reads a socket.

The kernel says much that changes nothing for a connection: lifetimes of addresses that a router
refreshes, scans of a wireless card, interfaces that are made and not used.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400
"""Links, IPv4 addresses and routes, IPv6 addresses and routes (``RTMGRP_*``)."""
MOST_KNOWN = 4096
"""Of each kind; with more than that all is forgotten, and what is said again counts once more."""

_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBI")
_ROUTE = struct.Struct("=BBBBBBBBI")
_ATTRIBUTE = struct.Struct("=HH")
_NUMBER = struct.Struct("=I")

_DONE = 3
_NEWLINK, _DELLINK, _GETLINK = 16, 17, 18
_NEWADDR, _DELADDR, _GETADDR = 20, 21, 22
_NEWROUTE, _DELROUTE = 24, 25
_MULTI, _REQUEST, _DUMP = 0x2, 0x1, 0x300
_LOOPBACK_INDEX = 1
"""The kernel gives it this one in every network namespace."""
_USABLE = 0x1 | 0x40
"""IFF_UP and IFF_RUNNING: somebody wants the link, and there is a signal."""
_TENTATIVE, _OPTIMISTIC = 0x40, 0x4
_LOCAL_TABLE, _UNICAST, _CLONED = 255, 1, 0x200
_ADDRESS_ATTRIBUTES = (2, 1)
"""IFA_LOCAL, else IFA_ADDRESS."""
_ADDRESS_FLAGS = 8
_ROUTE_ATTRIBUTES = (1, 4, 5, 6, 9, 18)
"""Where it goes and through what; not how long it lives."""
_OUT, _TABLE = 4, 15


class News:
    """What is known of links, addresses and routes, and whether a message changes it."""

    def __init__(self) -> None:
        self._links: set[int] = set()
        self._addresses: dict[tuple[int, bytes], int] = {}
        self._routes: set[tuple[object, ...]] = set()
        self._questions = [(_GETADDR, 2), (_GETLINK, 1)]

    def question(self) -> bytes | None:
        """What to ask the kernel next, so that what is there already is no news; one at a time,
        each after :meth:`take` saw the last answer."""
        if not self._questions:
            return None
        kind, number = self._questions.pop()
        flags = _REQUEST | _DUMP
        return _HEADER.pack(_HEADER.size + _LINK.size, kind, flags, number, 0) + bytes(_LINK.size)

    def missed(self) -> None:
        """Something was said and not heard: what is said again counts once more."""
        self._links.clear()
        self._addresses.clear()
        self._routes.clear()

    def take(self, datagram: bytes) -> tuple[bool, bool]:
        """Whether its messages change anything, and whether a question is answered with it."""
        changed = answered = False
        for kind, flags, body in _messages(datagram):
            try:
                news = self._news(kind, body)
            except struct.error:
                continue  # shorter than this kernel's headers say
            changed = changed or (news and not flags & _MULTI)
            answered = answered or kind == _DONE
        return changed, answered

    def _news(self, kind: int, body: bytes) -> bool:
        if kind in (_NEWLINK, _DELLINK):
            return self._link(kind, body)
        if kind in (_NEWADDR, _DELADDR):
            return self._address(kind, body)
        if kind in (_NEWROUTE, _DELROUTE):
            return self._route(kind, body)
        return False

    def _link(self, kind: int, body: bytes) -> bool:
        """Whether it can be used now, and could not be before; or the other way round."""
        family, _, index, flags, _ = _LINK.unpack_from(body)
        if family or index == _LOOPBACK_INDEX:
            return False  # a family is a bridge's: its port is told by itself too
        usable = kind == _NEWLINK and flags & _USABLE == _USABLE
        if usable == (index in self._links):
            return False
        if usable:
            _bound(self._links)
            self._links.add(index)
        else:
            self._links.discard(index)
        return True

    def _address(self, kind: int, body: bytes) -> bool:
        family, _, flags, _, index = _ADDRESS.unpack_from(body)
        if index == _LOOPBACK_INDEX:
            return False
        said = dict(_attributes(body, _ADDRESS.size))
        key = (
            index,
            bytes((family,))
            + next((said[each] for each in _ADDRESS_ATTRIBUTES if each in said), b""),
        )
        if _ADDRESS_FLAGS in said:
            (flags,) = _NUMBER.unpack(said[_ADDRESS_FLAGS])
        if kind == _DELADDR:
            return self._addresses.pop(key, None) is not None
        if flags & (_TENTATIVE | _OPTIMISTIC) == _TENTATIVE or self._addresses.get(key) == flags:
            return False  # nothing can be sent from it yet, or only its lifetime is another one
        _bound(self._addresses)
        self._addresses[key] = flags
        return True

    def _route(self, kind: int, body: bytes) -> bool:
        """A route that was there before anybody looked counts when it is said for the first time:
        to ask for all of them would be too much on a machine that routes for others."""
        family, length, _, tos, table, _, _, sort, flags = _ROUTE.unpack_from(body)
        said = dict(_attributes(body, _ROUTE.size))
        if _TABLE in said:
            (table,) = _NUMBER.unpack(said[_TABLE])
        if table == _LOCAL_TABLE or sort != _UNICAST or flags & _CLONED:
            return False
        if said.get(_OUT) == _NUMBER.pack(_LOOPBACK_INDEX):
            return False
        key = (family, length, tos, table, *(said.get(each) for each in _ROUTE_ATTRIBUTES))
        if kind == _DELROUTE:
            self._routes.discard(key)
            return True
        if key in self._routes:
            return False
        _bound(self._routes)
        self._routes.add(key)
        return True


def _bound(known: set[int] | set[tuple[object, ...]] | dict[tuple[int, bytes], int]) -> None:
    if len(known) >= MOST_KNOWN:
        known.clear()


def _messages(datagram: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Kind, flags and body of each."""
    at = 0
    while len(datagram) - at >= _HEADER.size:
        length, kind, flags, _, _ = _HEADER.unpack_from(datagram, at)
        if not _HEADER.size <= length <= len(datagram) - at:
            return
        yield kind, flags, datagram[at + _HEADER.size : at + length]
        at += _aligned(length)


def _attributes(body: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    while len(body) - at >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(body, at)
        if not _ATTRIBUTE.size <= length <= len(body) - at:
            return
        yield kind, body[at + _ATTRIBUTE.size : at + length]
        at += _aligned(length)


def _aligned(length: int) -> int:
    return (length + 3) & ~3
