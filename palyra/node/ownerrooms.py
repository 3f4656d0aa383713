"""What a node host has for its owner: rules, remembered choices, the desk, and a way to ask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from palyra.config.nodepolicy import load_node_policy
from palyra.core.identifiers import Entropy
from palyra.errors import ConfigInvalid
from palyra.node.consents import Consents
from palyra.node.controlsocket import ControlSocket
from palyra.node.controlwords import ReloadedAnswer, StatusAnswer
from palyra.node.desk import Desk, Mode
from palyra.node.files import NodeFiles
from palyra.node.hostcontrol import HostControl
from palyra.node.mediation import IDialogs, IMediator
from palyra.node.owner import Owner
from palyra.supervision.controlpoint import control_point


class OwnerRooms:
    """Made by :meth:`open`, served from :meth:`serve` to :meth:`stop`."""

    _log = Logger()

    def __init__(
        self,
        files: NodeFiles,
        owner: Owner,
        desk: Desk,
        consents: Consents,
        dialogs: IDialogs | None = None,
    ) -> None:
        self._files = files
        self.owner = owner
        self.desk = desk
        self._consents = consents
        self._dialogs = dialogs
        self._socket: ControlSocket | None = None

    @classmethod
    def open(
        cls,
        files: NodeFiles,
        name: str,
        *,
        mode: Mode,
        terminal: IMediator | None,
        dialogs: IDialogs | None,
        now_ms: Callable[[], int],
        entropy: Entropy,
    ) -> OwnerRooms:
        """Read what the owner has said so far.  Nothing runs yet.

        :raises ConfigInvalid: the rules cannot be used; nothing may run without them.
        :raises StoreCorrupt: what is remembered can be neither read nor put aside.
        :raises SocketPathTooLong: the state root's path is too long for ``control.sock``.
        """
        control_point(files.root).check()
        policy = load_node_policy(files.policy)
        consents = Consents.open(
            files.consents, now_ms=now_ms, entropy=entropy, in_thread=deferToThread
        )
        desk = Desk(name, mode=mode, terminal=terminal, dialogs=dialogs)
        owner = Owner(name, mediator=desk, consents=consents, policy=policy)
        return cls(files, owner, desk, consents, dialogs)

    def serve(
        self,
        reactor: Any,
        *,
        elapsed_s: Callable[[], float],
        status: Callable[[], StatusAnswer],
        reload: Callable[[], Deferred[ReloadedAnswer]],
        stop: Callable[[], object],
    ) -> None:
        """Listen to the owner; what is asked is done by these."""
        control = HostControl(
            desk=self.desk,
            consents=self._consents,
            elapsed_s=elapsed_s,
            status=status,
            reload=reload,
            stop=stop,
        )
        self._socket = ControlSocket(reactor, control_point(self._files.root), control)
        self._socket.bind()

    def reload_policy(self) -> list[str]:
        """Read the rules again; the old ones stay where the file cannot be used, and why is said.

        A call that a person is being asked about was judged already, and stays so.
        """
        try:
            self.owner.policy = load_node_policy(self._files.policy)
        except ConfigInvalid as error:
            self._log.error("the rules stay as they are: {why}", why=error.sentence)
            return [f"The rules stay as they were: {error.sentence}"]
        count = len(self.owner.policy.rules)
        self._log.info("rules read again from {file}: {n}", n=count, file=self._files.policy.name)
        return []

    async def stop(self) -> None:
        """Stop listening, and finish what is being written."""
        socket, self._socket = self._socket, None
        if socket is not None:
            await socket.stop()
        if self._dialogs is not None:
            await self._dialogs.stop()
        await self._consents.when_written()
