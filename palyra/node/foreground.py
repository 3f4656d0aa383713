"""``palyra node run``: pair when needed, then serve, with somebody watching; and pairing alone, for
a service that will serve."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any, TextIO

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger, globalLogBeginner
from twisted.python.failure import Failure

from palyra._daemon import freeze_memory
from palyra._lock import RootLock
from palyra._ownersocket import own_account
from palyra._reactor import require_asyncio_reactor, the_reactor
from palyra.capability.catalogue import Catalogue
from palyra.config import Config, load
from palyra.errors import NotPaired, PalyraError, StateRootLocked
from palyra.node.dialogs import DialogMediator
from palyra.node.files import HostFile, NodeFiles
from palyra.node.mediation import IMediator
from palyra.node.pairingrun import NodeRunOptions, PairingRun
from palyra.node.screen import Screen, ServingScreen
from palyra.node.service import NodeService, paired_host, preferring
from palyra.node.terminal import TerminalMediator
from palyra.observe.logs import file_observer
from palyra.plugins.discovery import own_offers
from palyra.supervision.processfile import read_or_none

__all__ = ["NodeRunOptions", "pair", "run"]


def run(options: NodeRunOptions) -> int:
    """Run a node host until it is told to stop; the exit code.

    :raises PalyraError: it could not start; nothing is running then.
    """
    host = _Serving(options, *_opened(options), sys.stdout)
    del options  # it holds the PIN, which is forgotten when it was used
    host.run()
    return 0


def pair(options: NodeRunOptions, out: TextIO) -> HostFile:
    """Pair a device, or go on with a pairing that waits, and serve nothing; its steps go to
    ``out``.

    :raises NotPaired: nothing was asked, and nothing waits.
    :raises PalyraError: it failed, and the device is as it was.
    :raises KeyboardInterrupt: it was interrupted; what waits for an operator goes on waiting.
    """
    config, files, lock = _opened(options)
    pairing = _Foreground(options, config, files, lock, out)
    del options
    pairing.run()
    host = files.host()
    if pairing.interrupted:
        raise KeyboardInterrupt
    if host is None:
        raise NotPaired(str(files.state_root))
    return host


def _opened(options: NodeRunOptions) -> tuple[Config, NodeFiles, RootLock]:
    """What both need, with the state root locked and the log begun."""
    require_asyncio_reactor()
    files = NodeFiles(options.state_root)
    files.check_mine()
    config = load(options.config_file)
    files.make()
    lock = _locked(files)
    globalLogBeginner.beginLoggingTo([file_observer(files.stderr_log)], redirectStandardIO=False)
    return config, files, lock


def _locked(files: NodeFiles) -> RootLock:
    try:
        return RootLock.take(files.lock, who="A node host", state_root=files.state_root)
    except StateRootLocked as error:
        process = read_or_none(files.process)
        if process is not None and process.pid == error.pid and process.manager:
            error.stopping = "palyra node stop"
        raise


class _Foreground:
    """A pairing that somebody watches, by itself; Ctrl-C ends it."""

    def __init__(
        self,
        options: NodeRunOptions,
        config: Config,
        files: NodeFiles,
        lock: RootLock,
        out: TextIO,
    ) -> None:
        self._config = config
        self._files = files
        self._lock = lock
        self._reactor: Any = the_reactor()
        self._screen = Screen(out)
        self._pairing = PairingRun(
            options, config=config, files=files, screen=self._screen, reactor=self._reactor
        )
        self._working: Deferred[Any] | None = None
        self._stopping = False
        self._error: BaseException | None = None
        self.interrupted = False

    def run(self) -> None:
        """From here to the end of it; the state root is free again then.

        :raises PalyraError: what ended it.
        """
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = [(number, signal.signal(number, self._signalled)) for number in numbers]
        self._reactor.callWhenRunning(self._begin)
        try:
            self._reactor.run(installSignalHandlers=False)
        finally:
            self._screen.end()
            self._lock.release()
            for number, handler in before:
                signal.signal(number, handler)
        if isinstance(self._error, PalyraError):
            raise self._error
        if self._error is not None:
            Logger().failure("the node host failed", Failure(self._error))
            raise self._error

    def _begin(self) -> None:
        self._working = Deferred.fromCoroutine(self._work())
        self._working.addCallbacks(lambda _: self._done(), self._failed)

    async def _work(self) -> None:
        await self._pairing.pair()

    def _done(self) -> None:
        self._stop()

    def _failed(self, failure: Failure) -> None:
        if not self._stopping:  # what is given up half-way fails in many ways
            self._end_with(failure.value)

    def _end_with(self, error: BaseException | None) -> None:
        self._error = error
        self._stop()

    def _signalled(self, number: int, frame: Any) -> None:
        if self._stopping:
            os._exit(128 + number)  # the second Ctrl-C ends at once
        self.interrupted = True
        self._reactor.callFromThread(self._stop)

    def _stop(self) -> None:
        if self._stopping:
            return
        self._stopping = True
        self._stopped_working().addBoth(lambda _: self._ended())

    def _stopped_working(self) -> Deferred[Any]:
        """End what goes on: it ends when its connection is closed."""
        working = self._working if self._working is not None else succeed(None)
        working.cancel()
        return working

    def _ended(self) -> None:
        self._reactor.stop()


class _Serving(_Foreground):
    """One ``palyra node run``."""

    def __init__(self, options: NodeRunOptions, *opened: Any) -> None:
        super().__init__(options, *opened)
        self._config_file = options.config_file
        self._transport = options.transport
        self._serving_screen = ServingScreen(
            self._screen, self._files.identity, self._reactor, self._end_with
        )
        self._service: NodeService | None = None

    async def _work(self) -> None:
        identity = await self._pairing.pair()
        node = paired_host(self._files, Catalogue(*own_offers()), identity)
        if self._stopping:
            return
        service = NodeService(
            node,
            lock=self._lock,
            config=preferring(self._config.node, self._transport, node.host),
            reactor=self._reactor,
            tracing=self._config.tracing,
            terminal=self._terminal(),
            dialogs=DialogMediator(call_from_thread=self._reactor.callFromThread),
            stop=self._stop,
            watcher=self._serving_screen,
            config_file=self._config_file,
            signals=True,
        )
        service.startService()
        freeze_memory()
        self._service = service

    def _done(self) -> None:
        """It serves until it is told to stop."""

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

    def _stopped_working(self) -> Deferred[Any]:
        if self._service is None:
            return super()._stopped_working()
        stopped: Deferred[Any] = self._service.stopService()
        return stopped.addErrback(lambda failure: Logger().failure("stopping failed", failure))

    def _ended(self) -> None:
        self._serving_screen.stop()
        super()._ended()
