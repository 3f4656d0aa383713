"""``palyra node run``: pair when needed, then serve, with somebody watching."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger, globalLogBeginner
from twisted.python.failure import Failure

from palyra._lock import RootLock
from palyra._reactor import require_asyncio_reactor, the_reactor
from palyra.capability.registry import Registry
from palyra.config import Config, load
from palyra.config.addresses import HostPort
from palyra.core.devices import ClientKind
from palyra.core.frames import Welcome
from palyra.core.identifiers import Fingerprint, grouped, short_id
from palyra.core.pairing_uri import PairingUri
from palyra.errors import NotPaired, PalyraError, RemoteRefusal
from palyra.node.files import HostFile, NodeFiles
from palyra.node.identity import DeviceIdentity
from palyra.node.mediation import Headless, IMediator, TerminalMediator
from palyra.node.pairing import Pairing
from palyra.node.service import (
    NodeService,
    Watcher,
    announcement,
    default_name,
    paired_host,
)
from palyra.observe.logs import file_observer

APPROVAL_S = 600


@attrs.frozen
class NodeRunOptions:
    """What ``palyra node run`` was asked."""

    state_root: Path
    pairing_uri: str | None = attrs.field(default=None, repr=False)
    name: str | None = None
    device_id: str | None = None
    grpc_url: str | None = None
    transport: str = "auto"
    ca_file: Path | None = None


def run(options: NodeRunOptions) -> int:
    """Run a node host until it is told to stop; the exit code.

    :raises PalyraError: it could not start; nothing is running then.
    """
    require_asyncio_reactor()
    config = load(options.state_root / "palyra.toml")
    files = NodeFiles(options.state_root)
    files.make()
    lock = RootLock.take(files.lock, who="A node host")
    globalLogBeginner.beginLoggingTo(
        [file_observer(files.root / "node-host.stderr.log")], redirectStandardIO=False
    )
    host = _Foreground(options, config, files, lock, the_reactor())
    host.start()
    the_reactor().run(installSignalHandlers=False)
    return host.end()


class Screen:
    """What a watched node host prints: a live last line on a terminal, plain lines otherwise."""

    def __init__(self, out: TextIO, clock: Any) -> None:
        self._out = out
        self._tty = out.isatty()
        self._clock = clock
        self._live = ""

    @property
    def tty(self) -> bool:
        """Whether a person looks at it."""
        return self._tty

    def step(self, label: str, text: str, *fields: str) -> None:
        """One thing that is done now: ``ok  label  text``, or ``label<TAB>fields``."""
        if self._tty:
            self._line(f"ok  {label:<9}  {text}")
        else:
            self._line("\t".join((label, *(fields or (text,)))))

    def note(self, text: str) -> None:
        """A line that is neither done nor live."""
        self._line(text)

    def live(self, text: str) -> None:
        """Replace the last line; without a terminal, a line when it changed in kind."""
        if self._tty:
            self._out.write(f"\r\x1b[K{text}")
            self._out.flush()
            self._live = text
        elif text != self._live:
            self._live = text
            self._line(text)

    def end(self) -> None:
        """Leave the cursor on a new line."""
        if self._tty and self._live:
            self._out.write("\n")
            self._out.flush()
            self._live = ""

    def _line(self, text: str) -> None:
        if self._tty and self._live:
            self._out.write(f"\r\x1b[K{text}\n{self._live}")
        else:
            self._out.write(text + "\n")
        self._out.flush()


class _PairingScreen:
    """Shows a pairing (the Witness of :class:`Pairing`)."""

    def __init__(self, screen: Screen, reactor: Any) -> None:
        self._screen = screen
        self._ends_s = 0.0
        self._countdown = LoopingCall(self._tick)
        self._countdown.clock = reactor

    def gateway_verified(self, address: str, ca_hash: str) -> None:
        text = f"{address}  CA {grouped(ca_hash)} matches the line"
        self._screen.step("gateway", text, address, ca_hash)

    def identity_shown(self, name: str, device_id: str, fingerprint: Fingerprint) -> None:
        text = f"{name}  {short_id(device_id)}  {grouped(fingerprint)}"
        self._screen.step("identity", text, name, short_id(device_id), fingerprint)

    def waiting(self, request_id: str) -> None:
        if self._screen.tty:
            self._ends_s = time.monotonic() + APPROVAL_S
            self._countdown.start(1.0)
        else:
            self._screen.note(f"waiting\t{request_id}")

    def approved(self, by: str, name: str) -> None:
        self.stop()
        self._screen.step("approved", f"by {by} as {name}", by, name)

    def clock_differs(self, by_ms: int) -> None:
        side = "ahead of" if by_ms > 0 else "behind"
        minutes = max(1, round(abs(by_ms) / 60_000))
        self._screen.note(f"!!  This clock is {minutes} min {side} the gateway's.")

    def retrying(self, cause: str) -> None:
        self._screen.note(f"!!  {cause} Asking again.")

    def stop(self) -> None:
        """Stop counting down."""
        if self._countdown.running:
            self._countdown.stop()
            self._screen.live("")

    def _tick(self) -> None:
        left = max(0, round(self._ends_s - time.monotonic()))
        self._screen.live(
            f"..  waiting for an operator to approve, {left // 60}:{left % 60:02} left"
        )


class _ForegroundWatcher(Watcher):
    """Shows a running node host."""

    _log = Logger()

    def __init__(self, screen: Screen, node: HostFile, files: NodeFiles, final: Any) -> None:
        self._screen = screen
        self._node = node
        self._files = files
        self._final = final
        self._jobs = 0
        self._online = ""

    def online(self, welcome: Welcome, address: HostPort) -> None:
        super().online(welcome, address)
        client = self._files.identity.client()
        expires_ms = client.current.cert_expires_at_unix_ms if client.current else 0
        hours = max(0, round((expires_ms / 1000 - time.time()) / 3600))
        granted = len(welcome.granted)
        self._online = (
            f"online  {welcome.device_name}  grpc {address}  cert {hours}h  {granted} capabilities"
        )
        self._show()

    def offline(self, error: PalyraError | None, retry_s: float) -> None:
        super().offline(error, retry_s)
        self._online = ""
        if isinstance(error, RemoteRefusal) and error.final:
            self._final(error)
            return
        cause = error.sentence if error is not None else "The gateway closed the session."
        self._screen.live(f"offline  retry in {max(1, round(retry_s))}s  ({cause})")

    def noticed(self, line: str) -> None:
        super().noticed(line)
        if not self._screen.tty or line.startswith("stopping"):
            self._screen.note(line)
        else:
            self._jobs += 1 if line.endswith("started") else -1
            self._show()

    def _show(self) -> None:
        if self._online:
            jobs = f"  {max(0, self._jobs)} jobs" if self._screen.tty else ""
            self._screen.live(self._online + jobs)


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
        self._options = options
        self._config = config
        self._files = files
        self._lock = lock
        self._reactor = reactor
        self._screen = Screen(sys.stdout, reactor)
        self._pairing_screen = _PairingScreen(self._screen, reactor)
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
        registry = Registry.load()
        identity = files.identity.open(self._now_ms(), os.urandom, options.device_id)
        await self._pair(registry, identity)
        node = paired_host(files, registry, identity)
        if self._stopping:
            return
        mediator: IMediator = Headless(node.host.name)
        if sys.stdin is not None and sys.stdin.isatty() and self._screen.tty:
            mediator = TerminalMediator(self._reactor)
        watcher = _ForegroundWatcher(self._screen, node.host, files, self._end_with)
        self._service = NodeService(
            node,
            lock=self._lock,
            config=self._config.node,
            reactor=self._reactor,
            mediator=mediator,
            watcher=watcher,
        )
        self._service.startService()

    async def _pair(self, registry: Registry, identity: DeviceIdentity) -> None:
        """Pair with the line that was given, go on with a pairing that waits, or do nothing."""
        options, files = self._options, self._files
        waiting = files.identity.waiting()
        if options.pairing_uri is None and waiting is None:
            if files.host() is None:
                raise NotPaired(str(files.state_root))
            return
        pairing = Pairing(
            reactor=self._reactor,
            files=files,
            identity=identity,
            announcement=announcement(
                registry, default_name(options.name or self._config.node.name)
            ),
            client_kind=ClientKind.NODE,
            witness=self._pairing_screen,
            entropy=os.urandom,
            now_ms=self._now_ms,
            node_rpc_override=options.grpc_url,
        )
        try:
            if options.pairing_uri is not None:
                ca_pem = options.ca_file.read_bytes() if options.ca_file else None
                await pairing.run(PairingUri.parse(options.pairing_uri), ca_pem)
            else:
                assert waiting is not None, "one of the two is there"
                await pairing.resume(waiting)
        finally:
            self._pairing_screen.stop()

    def _failed(self, failure: Failure) -> None:
        if not (self._stopping and failure.check(CancelledError)):
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
            stopped.addBoth(lambda _: self._reactor.stop())
            return
        if self._pairing is not None:
            self._pairing.cancel()
        self._reactor.stop()

    def _now_ms(self) -> int:
        return int(self._reactor.seconds() * 1000)
