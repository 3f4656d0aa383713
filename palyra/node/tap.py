"""``twistd palyra-node``: the node host's options, checked before anything starts or forks."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from twisted.application.service import Service
from twisted.python.usage import Options as TwistedOptions

from palyra._daemon import CleanFailure, prepare
from palyra._lock import RootLock
from palyra._notify import Notifier
from palyra._reactor import the_reactor
from palyra.config import Config, load
from palyra.config.roots import default_state_root
from palyra.core.transports import Preference
from palyra.node.files import NodeFiles
from palyra.node.identity import DeviceIdentity


class Options(TwistedOptions):
    """Where the node host keeps its state."""

    synopsis = "[options]"
    longdesc = "The Palyra node host: runs capabilities on this device for its gateway."
    optParameters = [  # noqa: RUF012 - Twisted reads it from the class
        ["state-root", None, None, "Directory of the node host's state [default: per user]"],
        ["config", None, None, "Configuration file [default: palyra.toml in the state root]"],
        ["transport", None, None, "grpc, quic or auto [default: as paired, or configured]"],
    ]

    config: Config
    config_file: Path
    transport: Preference | None
    files: NodeFiles
    lock: RootLock
    identity: DeviceIdentity

    def postOptions(self) -> None:
        """Choose the reactor, read the configuration, take the lock, refuse an unpaired device."""
        prepare(self, self._check, pidfile="node-host.pid", logfile="node-host.stdout.log")

    def _check(self) -> Path:
        from palyra.errors import NotPaired

        self.transport = self._transport()
        named, file = self["state-root"], self["config"]
        root = Path(named).expanduser().absolute() if named else default_state_root()
        self.files = NodeFiles(root)
        self.files.check_mine()
        self.config_file = Path(file or root / "palyra.toml").absolute()
        self.config = load(self.config_file, required=file is not None)
        if self.files.host() is None:
            raise NotPaired(str(root))
        self.files.make()
        self.lock = RootLock.take(self.files.lock, who="A node host", state_root=root)
        try:
            self.identity = self.files.identity.open(int(time.time() * 1000), os.urandom)
            if self.files.identity.client().current is None:
                raise NotPaired(str(root))
        except BaseException:
            self.lock.release()
            raise
        return self.files.root

    def _transport(self) -> Preference | None:
        from palyra.errors import OptionInvalid

        asked = self["transport"]
        try:
            return Preference(asked) if asked else None
        except ValueError as error:
            problem = f"must be grpc, quic or auto (got {asked[:80]!r})"
            raise OptionInvalid("--transport", problem) from error


def makeService(options: Options) -> Service:
    """The service twistd runs."""
    from palyra.capability.catalogue import Catalogue
    from palyra.node.dialogs import DialogMediator
    from palyra.node.service import NodeService, paired_host, preferring
    from palyra.plugins.discovery import own_offers

    catalogue = Catalogue(*own_offers())
    node = paired_host(options.files, catalogue, options.identity)
    reactor = the_reactor()
    service = NodeService(
        node,
        lock=options.lock,
        config=preferring(options.config.node, options.transport, node.host),
        reactor=reactor,
        tracing=options.config.tracing,
        dialogs=DialogMediator(call_from_thread=reactor.callFromThread),
        config_file=options.config_file,
        signals=True,
        notifier=_notifier(),
    )
    return CleanFailure(service, options.parent)


def _notifier() -> Notifier:
    """What tells the service manager.  Where that has a watchdog, the end by it (SIGABRT) says in
    the log where every thread was."""
    import faulthandler

    notifier = Notifier.from_environment(os.environ)
    if notifier.watchdog_s is not None and sys.__stderr__ is not None:
        faulthandler.enable(sys.__stderr__)
    return notifier
