"""``palyra node run``: pair when needed, then serve, with somebody watching."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThread
from twisted.logger import Logger, globalLogBeginner
from twisted.python.failure import Failure

from palyra._daemon import freeze_memory
from palyra._lock import RootLock
from palyra._ownersocket import own_account
from palyra._reactor import require_asyncio_reactor, the_reactor
from palyra.capability.catalogue import Catalogue
from palyra.config import Config, load
from palyra.config.addresses import HostPort
from palyra.core.devices import ClientKind
from palyra.core.pairing_uri import PairingUri
from palyra.core.pin import PinCode
from palyra.core.transports import Preference
from palyra.errors import NotPaired, PairingFailed, PalyraError
from palyra.node.announcing import announcement, default_name
from palyra.node.dialogs import DialogMediator
from palyra.node.files import NodeFiles
from palyra.node.finding import find_once
from palyra.node.identity import DeviceIdentity
from palyra.node.mediation import IMediator
from palyra.node.pairing import Pairing, unfinished
from palyra.node.screen import PairingScreen, Screen, ServingScreen
from palyra.node.service import NodeService, paired_host, preferring
from palyra.node.terminal import TerminalMediator
from palyra.node.typedpins import PinPrompt, can_ask, pair_by_pin
from palyra.observe.logs import file_observer
from palyra.plugins.discovery import own_offers


@attrs.frozen
class NodeRunOptions:
    """What ``palyra node run`` was asked.

    ``gateway`` and ``pin`` come together; ``pin_typed`` where a person typed it on a terminal and
    may be asked for another one.  ``transport`` is for this run, and kept where it pairs.
    """

    state_root: Path
    pairing_uri: str | None = attrs.field(default=None, repr=False)
    gateway: HostPort | None = None
    pin: PinCode | None = attrs.field(default=None, repr=False)
    pin_typed: bool = False
    name: str | None = None
    device_id: str | None = None
    grpc_url: str | None = None
    transport: Preference | None = None
    ca_file: Path | None = None


def run(options: NodeRunOptions) -> int:
    """Run a node host until it is told to stop; the exit code.

    :raises PalyraError: it could not start; nothing is running then.
    """
    require_asyncio_reactor()
    config = load(_config_file(options))
    files = NodeFiles(options.state_root)
    files.make()
    lock = RootLock.take(files.lock, who="A node host")
    globalLogBeginner.beginLoggingTo(
        [file_observer(files.root / "node-host.stderr.log")], redirectStandardIO=False
    )
    host = _Foreground(options, config, files, lock, the_reactor())
    del options  # it holds the PIN, which is forgotten when it was used
    host.start()
    the_reactor().run(installSignalHandlers=False)
    return host.end()


def _config_file(options: NodeRunOptions) -> Path:
    return options.state_root.absolute() / "palyra.toml"


class _Foreground:
    """One ``palyra node run``."""

    def __init__(
        self,
        options: NodeRunOptions,
        config: Config,
        files: NodeFiles,
        lock: RootLock,
        reactor: Any,
    ) -> None:
        self._options = attrs.evolve(options, pin=None)
        self._pin = options.pin
        self._config = config
        self._files = files
        self._lock = lock
        self._reactor = reactor
        self._screen = Screen(sys.stdout)
        self._pairing_screen = PairingScreen(self._screen, reactor)
        self._serving_screen = ServingScreen(self._screen, files.identity, reactor, self._end_with)
        self._service: NodeService | None = None
        self._pairing: Deferred[Any] | None = None
        self._stopping = False
        self._error: BaseException | None = None

    def start(self) -> None:
        """Schedule everything for when the reactor runs."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._signalled)
        self._reactor.callWhenRunning(self._begin)

    def end(self) -> int:
        """After the reactor has stopped: the exit code, or the error that ended it."""
        self._screen.end()
        self._lock.release()
        if isinstance(self._error, PalyraError):
            raise self._error
        if self._error is not None:
            Logger().failure("the node host failed", Failure(self._error))
            raise self._error
        return 0

    def _begin(self) -> None:
        self._pairing = Deferred.fromCoroutine(self._pair_and_serve())
        self._pairing.addErrback(self._failed)

    async def _pair_and_serve(self) -> None:
        options, files = self._options, self._files
        identity = files.identity.open(self._now_ms(), os.urandom, options.device_id)
        await self._pair(identity)
        node = paired_host(files, Catalogue(*own_offers()), identity)
        if self._stopping:
            return
        service = NodeService(
            node,
            lock=self._lock,
            config=preferring(self._config.node, options.transport, node.host),
            reactor=self._reactor,
            tracing=self._config.tracing,
            terminal=self._terminal(),
            dialogs=DialogMediator(call_from_thread=self._reactor.callFromThread),
            stop=self._stop,
            watcher=self._serving_screen,
            config_file=_config_file(self._options),
            signals=True,
        )
        service.startService()
        freeze_memory()
        self._service = service

    def _terminal(self) -> IMediator | None:
        """The terminal, where a person sits at it; a loop on Windows can watch none."""
        if os.name == "nt":
            return None
        if sys.stdin is None or not sys.stdin.isatty() or not self._screen.tty:
            return None
        return TerminalMediator(
            self._reactor,
            who=own_account(),
            asking=self._screen.hold,
            colour=not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb",
        )

    async def _pair(self, identity: DeviceIdentity) -> None:
        """Pair with the line that was given, go on with a pairing that waits, or do nothing."""
        options, files = self._options, self._files
        asked = options.pairing_uri is not None or options.gateway is not None
        waiting = None if asked else unfinished(files)
        if not asked and waiting is None:
            if files.host() is None:
                raise NotPaired(str(files.state_root))
            return
        # An operator sees at the approval what there is, and grants it then.
        offered = await deferToThread(find_once, self._config.node, files.root)
        pairing = Pairing(
            reactor=self._reactor,
            files=files,
            identity=identity,
            announcement=announcement(
                offered, default_name(options.name or self._config.node.name)
            ),
            client_kind=ClientKind.NODE,
            witness=self._pairing_screen,
            entropy=os.urandom,
            now_ms=self._now_ms,
            node_rpc_override=options.grpc_url,
            transport=options.transport,
        )
        ca_pem = options.ca_file.read_bytes() if options.ca_file else None
        try:
            if options.pairing_uri is not None:
                await pairing.run(PairingUri.parse(options.pairing_uri), ca_pem)
            elif options.gateway is not None:
                await pair_by_pin(pairing, options.gateway, ca_pem, self._next_pin)
            else:
                assert waiting is not None, "one of the three is there"
                await pairing.resume(waiting)
        finally:
            self._pairing_screen.stop()

    async def _next_pin(self, failed: PairingFailed | None) -> PinCode | None:
        """The PIN that was given, then what a person types; None where nobody can be asked."""
        given, self._pin = self._pin, None
        typed = self._options.pin_typed and can_ask()
        if given is not None or failed is None or not typed:
            return given
        self._pairing_screen.pin_failed(failed.sentence)
        self._screen.hold(True)
        try:
            return await PinPrompt(self._reactor).ask()
        finally:
            self._screen.hold(False)

    def _failed(self, failure: Failure) -> None:
        if not self._stopping:  # what is given up half-way fails in many ways
            self._end_with(failure.value)

    def _end_with(self, error: BaseException | None) -> None:
        self._error = error
        self._stop()

    def _signalled(self, number: int, frame: Any) -> None:
        if self._stopping:
            os._exit(128 + number)  # the second Ctrl-C ends at once
        self._reactor.callFromThread(self._stop)

    def _stop(self) -> None:
        if self._stopping:
            return
        self._stopping = True
        if self._service is not None:
            stopped = self._service.stopService()
            stopped.addErrback(lambda failure: Logger().failure("stopping failed", failure))
        else:
            # It ends when its connection is closed.
            stopped = self._pairing if self._pairing is not None else succeed(None)
            stopped.cancel()
        stopped.addBoth(self._stopped)

    def _stopped(self, _: object) -> None:
        self._serving_screen.stop()
        self._reactor.stop()

    def _now_ms(self) -> int:
        return int(self._reactor.seconds() * 1000)
