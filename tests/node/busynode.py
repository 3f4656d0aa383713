"""A node host at work, with a clock and a gateway that the test plays, on either transport."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.task import Clock

from palyra.capability.outcome import succeeded
from palyra.config.addresses import HostPort
from palyra.core.frames import GatewayFrame, Hello, Renew, Welcome
from palyra.core.identifiers import AttemptId
from palyra.core.transports import Preference, TransportChoice
from palyra.errors import PalyraError
from palyra.node.connection import Connection
from palyra.node.gateways import Gateways
from palyra.node.link import Route
from palyra.node.owner import Owner
from palyra.node.renewal import Renewal
from palyra.node.routes import Memory, Routes
from palyra.node.running import Runs
from tests.node.fakes import (
    DEVICE_ID,
    FACTS,
    NOW_MS,
    FakeChannel,
    FakeMediator,
    FakeQuic,
    FakeRunner,
    PairedDevice,
    Turns,
    catalogue,
    dispatch,
    new_authority,
)

AUTHORITY = new_authority()
GRPC = HostPort("gw.example", 7444)


class Node:
    """A node host at work, and a busy gateway that the test plays."""

    def __init__(self, path: Path, preference: Preference = Preference.GRPC, **choice: Any) -> None:
        """``choice`` goes to the choice of transports, ``memory`` and ``pin`` to the routes."""
        FakeChannel.made = []
        path.mkdir(exist_ok=True)
        self.clock = Clock()
        self.clock.advance(NOW_MS / 1000)
        self.turns = Turns()
        self.memory = self.turns.memory(path / "attempts.sqlite3")
        self.runner = FakeRunner()
        self.runs = Runs(
            reactor=self.clock,
            elapsed_s=self.clock.seconds,
            call_from_thread=lambda call, *args: call(*args),
            catalogue=catalogue(),
            runner=self.runner,
            memory=self.memory,
            owner=Owner("pi", mediator=FakeMediator()),
            facts=FACTS,
            now_ms=self.now_ms,
            max_waiting=8,
            mediation_timeout_s=120,
            noticed=lambda line, jobs: None,
        )
        self.device = PairedDevice(path / "identity", AUTHORITY)
        self.seen: list[Any] = []
        self.acknowledged: set[str] = set()
        self.epoch = 0
        self.on = ""
        self.kept: list[Memory] = []
        self.routes = self._routes(preference, **choice)
        self.connection = self._connection()

    def _routes(
        self,
        preference: Preference,
        memory: Memory = Memory(),  # noqa: B008 - frozen
        pin: bytes | None = None,
        **choice: Any,
    ) -> Routes:
        return Routes(
            grpc=GRPC,
            open_grpc=FakeChannel,
            open_quic=FakeQuic,
            elapsed_s=self.clock.seconds,
            choice=TransportChoice(
                preference,
                quic_known=memory.quic is not None,
                last=memory.last,
                now_s=self.clock.seconds(),
                jitter=lambda low, high: high,
                **choice,
            ),
            memory=memory,
            keep=self.kept.append,
            pin=pin,
        )

    def _connection(self) -> Connection:
        def middle(low: float, high: float) -> float:
            return (low + high) / 2

        renewal = Renewal(
            reactor=self.clock,
            elapsed_s=self.clock.seconds,
            jitter=middle,
            identity=self.device.identity,
            store=self.device.store,
            witness=self,
        )
        return Connection(
            reactor=self.clock,
            elapsed_s=self.clock.seconds,
            routes=Gateways([self.routes], elapsed_s=self.clock.seconds),
            jitter=middle,
            identity=self.device.store,
            hello=lambda epoch: Hello(DEVICE_ID, "linux", (), attempts=self.runs.standings()),
            runs=self.runs,
            witness=self,
            first_retry_s=1.0,
            max_retry_s=60.0,
            renewal=renewal,
        )

    def now_ms(self) -> int:
        return int(self.clock.seconds() * 1000)

    # -- what it shows ------------------------------------------------------------------------

    def online(self, welcome: Welcome, route: Route) -> None:
        self.seen.append(("online", welcome.session_epoch))
        self.on = str(route)

    def offline(self, error: PalyraError | None, retry_s: float) -> None:
        self.seen.append(("offline", error))

    def renewed(self, ends_ms: int) -> None:
        self.seen.append(("renewed", (ends_ms - NOW_MS) // 3_600_000))

    def usable(self, capabilities: int) -> None:
        """Nobody counts them here."""

    def clock_differs(self, ahead_ms: int) -> None:
        raise AssertionError("both clocks are the same")

    def renewal_failed(self, error: PalyraError | None, left_s: float) -> None:
        self.seen.append(("not renewed", error))

    # -- the gateway --------------------------------------------------------------------------

    @property
    def channel(self) -> FakeChannel:
        """The newest."""
        return FakeChannel.made[-1]

    def welcome(
        self, channel: FakeChannel, renew_after_s: int = 57_600, quic_address: str = ""
    ) -> None:
        """RegisterNode succeeds: the newest session owns dispatch."""
        self.epoch += 1
        channel.registered.callback(
            Welcome(
                DEVICE_ID,
                "e",
                self.epoch,
                15_000,
                self.now_ms(),
                self.device.ca_pem,
                (),
                "pi",
                "1",
                renew_after_s,
                quic_address,
            )
        )

    def reports(self, channel: FakeChannel) -> list[str]:
        """What the session has to say of attempts that ended."""
        said = []
        while (event := channel.session.take_event()) is not None:
            said += [each.attempt_id for each in event.reports]
        return said

    def acknowledge(self, channel: FakeChannel, *attempts: AttemptId) -> None:
        self.acknowledged |= set(attempts)
        channel.session.received(GatewayFrame(acknowledged=list(attempts)))

    def work(self, channel: FakeChannel, number: int) -> None:
        channel.session.received(GatewayFrame(dispatches=[dispatch(number, "test.look")]))

    def end(self, run: int) -> None:
        self.runner.runs[run].on_done(succeeded(b"{}"))

    def connect_renewed(self, session: FakeChannel | None = None) -> FakeChannel:
        """The gateway orders a renewal (of the newest session, else of that one) and answers it;
        the channel that connects then."""
        old = session or self.channel
        old.session.received(GatewayFrame(renew=Renew("rotate", 0)))
        self.clock.advance(0)
        asked, answer = old.asked[-1]
        answer.callback(self.device.renewed(asked, self.now_ms()))
        assert self.channel is not old
        return self.channel

    def renew(self, session: FakeChannel | None = None) -> FakeChannel:
        """The same, and the gateway answers there: the channel that registers then."""
        channel = self.connect_renewed(session)
        channel.reached.callback(None)
        return channel
