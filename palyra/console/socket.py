"""The console on ``console.sock``: for the owner of the state root and for root, nobody else."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.web.iweb import IRequest
from zope.interface import implementer

from palyra._ownersocket import account_of, listen, may_speak, peer_uid
from palyra.console.admission import IAdmission
from palyra.console.app import ConsoleApp
from palyra.console.bounds import BoundedChannel, BoundedRequest, QuietSite
from palyra.console.routing import Controls, Route
from palyra.core.audit import clean
from palyra.core.operators import Caller, Role, local_id

VIA = "console.sock"


class _OwnerChannel(BoundedChannel):
    """A connection of the owner or of root; others are cut before a byte is read."""

    def connectionMade(self) -> None:
        transport: Any = self.transport
        uid = peer_uid(transport.getHandle())
        if not may_speak(uid):
            transport.loseConnection()
            return
        self.palyra_uid = uid if uid is not None else os.geteuid()
        super().connectionMade()


class _OwnerRequest(BoundedRequest):
    """A request of the owner or of root."""

    def known(self) -> bool:
        return True


@implementer(IAdmission)
class LocalAdmission:
    """Whoever reaches the socket is the owner or root, and may do everything."""

    def knows(self, request: IRequest) -> bool:
        """Everybody here is known."""
        return True

    def admit(self, request: IRequest, route: Route, *, again: bool = False) -> Caller:
        """The account at the other end."""
        any_request: Any = request  # IRequest does not name its channel
        uid: int = any_request.channel.palyra_uid
        return Caller(local_id(uid), account_name(uid), Role.ADMIN, VIA)


class ConsoleSocket:
    """Serves a :class:`ConsoleApp` on a UNIX socket of mode 0600."""

    def __init__(self, reactor: Any, path: Path, controls: Controls) -> None:
        self._reactor = reactor
        self.path = path
        self._app = ConsoleApp(controls, LocalAdmission(), reactor)
        site = QuietSite(self._app.resource(), reactor=reactor)
        site.requestFactory = _OwnerRequest
        site.protocol = _OwnerChannel  # type: ignore[assignment]
        self._site = site
        self._port: Any = None

    def bind(self) -> None:
        """Listen.  The state root's lock is held, so a socket that is there is a dead one.

        :raises SocketPathTooLong: unix(7) allows 107 bytes.
        """
        self._port = listen(self._reactor, self.path, self._site)

    def end_streams(self, of: Callable[[Caller], bool]) -> None:
        """End the streams of the callers that ``of`` says."""
        self._app.end_streams(of)

    def stop(self) -> Deferred[None]:
        """Stop listening and end the streams of events; the socket is removed."""
        self._app.stop()
        stopped: Deferred[None] = self._port.stopListening()
        return stopped


def account_name(uid: int) -> str:
    """The operator a local user is: the account's name, ``local:<uid>`` where it has none."""
    return clean(account_of(uid))
