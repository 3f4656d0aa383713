"""What a device has still to say before it leaves.

A gateway that forgets a device ends what it has sent there as ``outcome_unknown``.  So it gets each
result that it has not confirmed, and hears of what never began, in one last session.  The node host
has stopped by then: nothing runs here, and nothing begins.
"""

from __future__ import annotations

import random
import stat
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from palyra.core.frames import Dispatch, Hello, Welcome
from palyra.core.identifiers import AttemptId, DeviceId, Entropy
from palyra.core.jobs import Outcome, Report, Standing
from palyra.core.transfers import PIECES_OVER
from palyra.core.versions import PIECES
from palyra.errors import GatewayUnreachable, PalyraError
from palyra.node.announcing import greeting
from palyra.node.attempts import AttemptMemory
from palyra.node.connection import WHOLE
from palyra.node.files import NodeFiles
from palyra.node.identity import Credential
from palyra.node.link import Channel, Link, Route
from palyra.node.running import Speaker
from palyra.node.session import NodeSession
from palyra.transport.interfaces import ICarrier

DELIVER_S = 20.0
"""For all of it, once the gateway has answered: results may be large."""
LEFT = "device_left"


class Delivery:
    """The last session of one device."""

    _log = Logger()

    def __init__(
        self,
        device_id: DeviceId,
        *,
        memory_id: str,
        reports: Mapping[AttemptId, Report],
        standings: Mapping[str, Standing],
        reactor: Any,
        elapsed_s: Callable[[], float],
    ) -> None:
        """``reports`` are those that the gateway has not confirmed, oldest first."""
        self._device_id = device_id
        self._memory_id = memory_id
        self._reports = dict(reports)
        self._standings = standings
        self._reactor = reactor
        self._elapsed_s = elapsed_s
        self.said = False
        """Whether the gateway was there to hear it."""
        self._speaker: Speaker | None = None
        self._over: Deferred[None] = Deferred()
        self._look: IDelayedCall | None = None

    @classmethod
    def of(
        cls,
        device_id: DeviceId,
        files: NodeFiles,
        *,
        reactor: Any,
        elapsed_s: Callable[[], float],
        entropy: Entropy,
    ) -> Delivery | None:
        """What the files have; None where nothing ever ran there, or that cannot be read."""
        try:
            if not stat.S_ISREG(files.attempts.lstat().st_mode):
                return None
            now_ms = int(reactor.seconds() * 1000)
            memory = AttemptMemory.open(
                files.attempts, reactor=reactor, entropy=entropy, now_ms=now_ms
            )
        except FileNotFoundError:
            return None
        except (PalyraError, OSError) as error:
            cls._log.warn("what was not delivered cannot be read: {e}", e=error)
            return None
        memory.stop()
        return cls(
            device_id,
            memory_id=memory.memory_id,
            reports={each.attempt_id: each for each in memory.unacknowledged()},
            standings=memory.standings(),
            reactor=reactor,
            elapsed_s=elapsed_s,
        )

    @property
    def left(self) -> int:
        """How many results the gateway has not confirmed."""
        return len(self._reports)

    async def deliver(
        self, route: Route, channel: Channel, credential: Credential, limit_s: float
    ) -> None:
        """Say it all on that channel, which is closed then; once, where the gateway takes it.
        ``limit_s`` is for its first answer.  What it does not confirm is :attr:`left`.

        :raises PalyraError, TimeoutError: it does not answer, or will not hear it.
        """
        try:
            registering = channel.register(self._hello())
            welcome = await registering.addTimeout(limit_s, self._reactor)
        except BaseException:
            await channel.close()
            raise
        self.said = True
        link = Link(route, channel, credential, welcome, self._elapsed_s())
        self._over = Deferred()
        carried = Deferred.fromCoroutine(
            link.carry(lambda carrier: self._session(carrier, welcome), welcome.device_id)
        )
        carried.addBoth(self._carried, route)
        try:
            await self._over.addTimeout(DELIVER_S, self._reactor)
        except (PalyraError, TimeoutError) as error:
            self._log.warn("{n} results were not confirmed: {e}", n=self.left, e=error)
        finally:
            carried.cancel()
            await carried

    def _hello(self) -> Hello:
        """Nothing is offered any more, so that nothing that waits is sent here."""
        return greeting(
            self._device_id,
            (),
            memory_id=self._memory_id,
            attempts=self._standings,
            unix_ms=int(self._reactor.seconds() * 1000),
        )

    def _session(self, carrier: ICarrier, welcome: Welcome) -> NodeSession:
        return NodeSession(
            clock=self._reactor,
            elapsed_s=self._elapsed_s,
            jitter=random.uniform,
            carrier=carrier,
            welcome=welcome,
            runs=self,
            drained=lambda _: None,
            directed=lambda _: None,
            heard=self._heard,
            pieces_over=PIECES_OVER if PIECES in welcome.features else WHOLE,
        )

    def _carried(self, result: Any, route: Route) -> None:
        if self._over.called:
            return
        error = GatewayUnreachable(str(route.address), "it ended the session")
        self._over.errback(result if isinstance(result, Failure) else Failure(error))

    def _heard(self) -> None:
        """The gateway has said something; what that is, is known in the next turn."""
        if self._look is None or not self._look.active():
            self._look = self._reactor.callLater(0, self._check)

    def _check(self) -> None:
        if not self._reports and not self._over.called:
            self._over.callback(None)

    # -- what a session asks of runs ------------------------------------------------------------

    def attach(self, speaker: Speaker) -> None:
        """Say it all."""
        self._speaker = speaker
        for report in self._reports.values():
            speaker.report(report)

    def detach(self, speaker: Speaker) -> None:
        """The session is over."""
        self._speaker = None
        if self._look is not None and self._look.active():
            self._look.cancel()

    def dispatched(self, dispatch: Dispatch) -> None:
        """It was sent before, and never began; now it never will."""
        text = "The device left before this was done."
        report = Report(dispatch.attempt_id, Outcome.REJECTED, b"", LEFT, text)
        if self._speaker is not None and dispatch.attempt_id not in self._reports:
            self._reports[dispatch.attempt_id] = report
            self._speaker.report(report)

    def cancel(self, attempt_id: AttemptId, reason: str) -> None:
        """Nothing runs."""

    def acknowledged(self, attempt_id: AttemptId) -> None:
        """The gateway has committed a report."""
        self._reports.pop(attempt_id, None)
        self._heard()
