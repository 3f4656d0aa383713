"""``twistd palyra``: the gateway's options, checked before anything starts or forks."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.python.usage import Options as TwistedOptions

from palyra._daemon import prepare
from palyra._files import make_private_dir
from palyra._lock import RootLock
from palyra._reactor import the_reactor
from palyra.config import load
from palyra.config.addresses import HostPort
from palyra.config.endpoints import Place, read_place
from palyra.config.roots import default_state_root
from palyra.errors import Malformed, OptionInvalid

ROOT_MARKS = ("palyra.toml", "palyra.sqlite3", "store_epoch", "palyra.lock")


class Options(TwistedOptions):
    """Where the gateway keeps its state and where it listens."""

    synopsis = "[options]"
    longdesc = "The Palyra gateway: pairs devices and runs capabilities on them."
    optParameters = [  # noqa: RUF012 - Twisted reads it from the class
        ["state-root", None, None, "Directory of the gateway's state [default: per user]"],
        ["config", None, None, "Configuration file [default: palyra.toml in the state root]"],
        ["console", None, None, "Endpoint of the console, as palyra:7142, or none"],
        ["enrolment", None, None, "HOST:PORT of the enrolment listener"],
        ["node-rpc", None, None, "HOST:PORT of the node listener"],
        [
            "quic",
            None,
            None,
            "HOST:PORT of the QUIC listener [default: the node listener's, over UDP], or none",
        ],
    ]

    settings: Any
    lock: RootLock

    def postOptions(self) -> None:
        """Choose the reactor, read the configuration, take the state root's lock."""
        prepare(self, self._check, pidfile="palyra.pid", logfile="palyra.log")

    def _check(self) -> Path:
        from palyra.gateway.settings import Settings

        named = self["state-root"]
        root = Path(named).expanduser().absolute() if named else default_state_root()
        make_private_dir(root, marks=ROOT_MARKS)
        file = self["config"]
        config = load(Path(file or root / "palyra.toml"), required=file is not None)
        self.settings = Settings(
            state_root=root,
            config=config,
            config_file=Path(file or root / "palyra.toml"),
            enrolment=HostPort.parse(self["enrolment"] or config.listen.enrolment, "enrolment"),
            node_rpc=HostPort.parse(self["node-rpc"] or config.listen.node_rpc, "node-rpc"),
            quic=_quic(
                self["quic"], config.listen.quic, self["node-rpc"] or config.listen.node_rpc
            ),
            console=_console(self["console"], config.console.endpoint),
        )
        self.settings.check()
        self.lock = RootLock.take(root / "palyra.lock", who="A gateway")
        return root


def _quic(option: str | None, configured: str, node_rpc: str) -> HostPort | None:
    wanted = option or configured
    if wanted == "none":
        return None
    try:
        return HostPort.parse(node_rpc if wanted == "node_rpc" else wanted, "quic")
    except Malformed as error:
        raise OptionInvalid(
            "--quic", f"must be HOST:PORT, node_rpc or none (got {wanted[:80]!r})"
        ) from error


def _console(option: str | None, configured: str) -> Place | None:
    wanted = option or configured
    if wanted == "none":
        return None
    return read_place(wanted, "console.endpoint" if option is None else "--console")


def makeService(options: Options) -> Service:
    """The service twistd runs."""
    from palyra._daemon import CleanFailure
    from palyra.gateway.service import GatewayService

    service = GatewayService(
        options.settings,
        lock=options.lock,
        reactor=the_reactor(),
        elapsed_ms=lambda: int(time.monotonic() * 1000),
    )
    return CleanFailure(service, options.parent)
