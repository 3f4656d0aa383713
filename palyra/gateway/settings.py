"""Where a gateway lives and listens, checked before anything starts."""

from __future__ import annotations

from pathlib import Path

import attrs

from palyra.config import Config
from palyra.config.addresses import HostPort
from palyra.config.endpoints import Place
from palyra.errors import Malformed, NamesRequired


@attrs.frozen
class Settings:
    """What the command line and the configuration say together."""

    state_root: Path
    config: Config
    enrolment: HostPort
    node_rpc: HostPort
    quic: HostPort | None
    """None: no QUIC."""
    console: Place | None = None
    """None: the console is on console.sock alone."""
    config_file: Path | None = None
    """Where the rules are read from again at SIGHUP; None: they stay."""

    def check(self) -> None:
        """Refuse what could never work.

        :raises NamesRequired: devices could reach it, but under no name.
        """
        console = self.console.address if self.console is not None else None
        for address in (self.enrolment, self.node_rpc, self.quic, console):
            if address is None:
                continue
            if not address.is_loopback and not self.config.gateway.names:
                raise NamesRequired(str(address))
        if self.metrics is not None and not self.metrics.is_loopback:
            raise Malformed("metrics.listen", "must be on loopback: it asks nobody who they are")

    @property
    def metrics(self) -> HostPort | None:
        """Where metrics have a listener of their own."""
        listen = self.config.metrics.listen
        return None if listen == "none" else HostPort.parse(listen, "metrics.listen")

    def reachable(self, address: HostPort) -> HostPort:
        """An address as devices reach it: under the first configured name."""
        names = self.config.gateway.names
        if names:
            return HostPort(names[0], address.port)
        host = "127.0.0.1" if address.host == "localhost" else address.host
        return HostPort(host, address.port)
