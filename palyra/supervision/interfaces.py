"""What every service manager can do for a node host."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zope.interface import Attribute, Interface

from palyra.supervision.service import Manager, Service, ServiceState


class IServiceManager(Interface):
    """One way of keeping a node host running.  Its calls block, for seconds at most.

    A call that cannot be done raises :class:`palyra.errors.ServiceManagerFailed` or another
    :class:`palyra.errors.PalyraError`, and has left what was there before.
    """

    kind: Manager = Attribute("Which manager it is.")
    described: str = Attribute("What people are told it is: 'systemd user unit'.")
    files: Sequence[Path] = Attribute(
        "Where its definition is or would be, as far as that is a file."
    )

    def check(service: Service) -> None:
        """Refuse what :meth:`install` would refuse whatever happens; nothing is changed.

        :raises ServiceElsewhere: the service is there already, for another state root.
        :raises CredentialsUnsupported, ServiceManagerFailed: it cannot be installed."""

    def install(service: Service) -> list[Path]:
        """Define the service, or define it anew, and have it started at boot or sign-in where that
        is possible; it is not started now.  The files that were written."""

    def uninstall() -> list[Path]:
        """Stop it and take its definition away; the files that were removed.  Where there is none,
        nothing."""

    def start() -> None:
        """Start it, and return when it is on its way.  Where it runs already, nothing."""

    def stop() -> None:
        """Stop it, and return when it has ended.  Where it does not run, nothing."""

    def restart() -> None:
        """Stop it where it runs, and start it."""

    def state() -> ServiceState:
        """How it is."""

    def logs(lines: int, follow: bool) -> list[str] | None:
        """The command that prints its last lines (and with ``follow`` goes on doing so); None where
        its log is the files of the node host."""
