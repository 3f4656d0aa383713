"""Tests of :mod:`palyra.node.routes`: which transport a node takes, and what it makes of it."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from zope.interface import provider

from palyra.config.addresses import HostPort
from palyra.core.frames import GatewayFrame
from palyra.core.transports import (
    HANDSHAKE_S,
    HOLD_S,
    SETTLED_S,
    SHORT_HANDSHAKE_S,
    SOON_S,
    GrpcFallback,
    Preference,
)
from palyra.errors import (
    CertificateRefused,
    CertificateSuperseded,
    DiskFull,
    GatewayUnreachable,
    PalyraError,
    PinMismatch,
    PinNotChecked,
    RemoteRefusal,
)
from palyra.node.connection import GOODBYE_S
from palyra.node.routes import Memory, is_unreached
from palyra.transport.statuses import OUT_OF_DATE, STRANGE
from tests.node.busynode import AUTHORITY, GRPC, Node
from tests.node.fakes import FakeChannel, FakeQuic

QUIC = HostPort("gw.example", 9444)
SILENT = GatewayUnreachable("gw.example:9444", "no answer")
REFUSED = GatewayUnreachable("gw.example:7444", "connection refused")
KNOWN = Memory(str(QUIC))
AUTO = Preference.AUTO
CA_PIN = bytes.fromhex(AUTHORITY.ca_hash)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Node]]:
    """Nodes whose clocks are empty at the end, and whose connections are all closed."""
    made: list[Node] = []

    def new(*args: Any, **choice: Any) -> Node:
        made.append(Node(tmp_path / str(len(made)), *args, **choice))
        made[-1].connection.start()
        return made[-1]

    yield new
    for each in made:
        each.connection.stop()
        each.clock.advance(GOODBYE_S)
        assert not each.clock.getDelayedCalls()
        each.memory.stop()
    assert all(each.closed for each in FakeChannel.made)


@pytest.fixture
def log() -> Iterator[list[str]]:
    """What the routes logged."""
    kept: list[str] = []

    @provider(ILogObserver)
    def keep(event: LogEvent) -> None:
        if event["log_namespace"].endswith(".Routes"):
            kept.append(formatEvent(event))

    globalLogPublisher.addObserver(keep)
    yield kept
    globalLogPublisher.removeObserver(keep)


def quic(node: Node) -> FakeQuic:
    """The newest connection, which is over QUIC."""
    assert isinstance(node.channel, FakeQuic)
    return node.channel


def grpc(node: Node) -> FakeChannel:
    """The newest connection, which is over gRPC."""
    assert not isinstance(node.channel, FakeQuic)
    return node.channel


def test_it_prefers_quic(make: Callable[..., Node]) -> None:
    """Where the gateway told its address; what worked is kept."""
    node = make(AUTO, memory=KNOWN)
    assert (quic(node).address, quic(node).handshake_s) == (QUIC, HANDSHAKE_S)
    node.welcome(node.channel, quic_address=str(QUIC))
    assert node.on == "quic gw.example:9444"
    assert node.kept == [Memory(str(QUIC), "quic")]
    assert len(FakeChannel.made) == 1


def test_it_falls_back(make: Callable[..., Node], log: list[str]) -> None:
    """In the same attempt, with the same certificate, and says so in one line."""
    node = make(AUTO, memory=KNOWN)
    first = quic(node)
    first.registered.errback(SILENT)
    assert first.closed
    assert (grpc(node).address, node.channel.identity) == (GRPC, first.identity)
    node.welcome(node.channel, quic_address=str(QUIC))
    assert node.on == "grpc gw.example:7444"
    assert node.seen == [("online", 1)]
    assert node.kept == [Memory(str(QUIC), "grpc")]
    assert log == ["quic gw.example:9444 does not answer, using grpc for now"]


def test_a_gateway_whose_quic_is_elsewhere_now(make: Callable[..., Node], log: list[str]) -> None:
    """It is found there soon: only the old address did not answer."""
    node = make(AUTO, memory=KNOWN)
    quic(node).registered.errback(SILENT)
    node.welcome(grpc(node), quic_address="gw.example:9555")
    assert log == ["quic gw.example:9444 does not answer, using grpc for now"]
    assert node.routes.move_in_s() == SOON_S
    assert str(node.routes.quic) == "quic gw.example:9555"


@pytest.mark.parametrize(
    "error",
    [
        CertificateRefused("wrong_role"),
        CertificateSuperseded(),
        RemoteRefusal("device_revoked", "Revoked.", final=True),
        RemoteRefusal("limit_reached", "Too many.", transient=True),
        GatewayUnreachable("gw", STRANGE),
        GatewayUnreachable("gw", OUT_OF_DATE),
        PinMismatch("quic gw:9444"),
        GatewayUnreachable("gw", "the connection was closed"),
        GatewayUnreachable("gw", "it ended the call"),
    ],
)
def test_a_refusal_is_no_reason(make: Callable[..., Node], error: PalyraError) -> None:
    """What the gateway says, or a certificate that does not hold, is the same on each transport."""
    node = make(AUTO, memory=KNOWN)
    node.channel.registered.errback(error)
    assert node.seen == [("offline", error)]
    assert len(FakeChannel.made) == 1
    assert not is_unreached(error)


def test_never_to_grpc(make: Callable[..., Node]) -> None:
    """Where the policy says so; but the address of QUIC is asked for there."""
    node = make(AUTO, memory=KNOWN, fallback=GrpcFallback.NEVER)
    quic(node).registered.errback(SILENT)
    assert node.seen == [("offline", SILENT)]
    node.clock.advance(1)
    assert quic(node).handshake_s == HANDSHAKE_S
    other = make(AUTO, fallback=GrpcFallback.NEVER)
    grpc(other)


@pytest.mark.parametrize("preference", [Preference.QUIC, Preference.GRPC])
def test_what_was_asked_for(make: Callable[..., Node], preference: Preference) -> None:
    """There is no other way then."""
    node = make(preference, memory=KNOWN)
    assert isinstance(node.channel, FakeQuic) is (preference is Preference.QUIC)
    node.channel.registered.errback(REFUSED)
    assert node.seen == [("offline", REFUSED)]
    assert len(FakeChannel.made) == 1


def test_quic_without_an_address(make: Callable[..., Node]) -> None:
    """Is tried on the port of gRPC, and what the gateway told is used from then on; it cannot say
    over QUIC that there is none."""
    node = make(Preference.QUIC)
    assert quic(node).address == GRPC
    node.welcome(node.channel, quic_address=str(QUIC))
    node.channel.streamed.callback(None)
    node.clock.advance(1)
    assert quic(node).address == QUIC
    node.welcome(node.channel)
    assert node.kept[-1] == Memory(str(QUIC), "quic")


def test_an_old_gateway(make: Callable[..., Node]) -> None:
    """Without QUIC, or with an address that is none: it is gRPC, and nothing else is tried."""
    node = make(AUTO)
    grpc(node).registered.errback(REFUSED)
    node.clock.advance(1)
    node.welcome(grpc(node), quic_address="nonsense")
    assert node.kept == []
    node.clock.advance(30)
    node.channel.session.received(GatewayFrame(answers=1))
    assert len(FakeChannel.made) == 2


def test_a_gateway_that_is_away_teaches_nothing(make: Callable[..., Node]) -> None:
    """Neither answers: what is shown is gRPC's, and QUIC is first again once it is back."""
    node = make(AUTO, memory=KNOWN)
    for _ in range(3):
        quic(node).registered.errback(SILENT)
        grpc(node).registered.errback(REFUSED)
        assert node.seen[-1] == ("offline", REFUSED)
        node.clock.advance(10)
    node.welcome(quic(node), quic_address=str(QUIC))
    assert node.on == "quic gw.example:9444"


def test_what_worked_is_remembered(make: Callable[..., Node]) -> None:
    """A node that had to fall back starts there, and does not wait for QUIC long after that."""
    node = make(AUTO, memory=Memory(str(QUIC), "grpc"))
    node.welcome(grpc(node), quic_address=str(QUIC))
    assert node.kept == []
    node.channel.streamed.errback(REFUSED)
    node.clock.advance(1)
    grpc(node).registered.errback(REFUSED)
    assert quic(node).handshake_s == SHORT_HANDSHAKE_S
    node.welcome(quic(node), quic_address=str(QUIC))
    assert node.kept == [Memory(str(QUIC), "quic")]


def test_neither_where_grpc_was_first(make: Callable[..., Node]) -> None:
    """What is shown is gRPC's, unless QUIC said more."""
    node = make(AUTO, memory=Memory(str(QUIC), "grpc"))
    grpc(node).registered.errback(REFUSED)
    quic(node).registered.errback(SILENT)
    assert node.seen[-1] == ("offline", REFUSED)
    node.clock.advance(2)
    grpc(node).registered.errback(REFUSED)
    strange = GatewayUnreachable("gw", STRANGE)
    quic(node).registered.errback(strange)
    assert node.seen[-1] == ("offline", strange)


@pytest.mark.parametrize(("lived_s", "quic_first"), [(SETTLED_S - 1, False), (SETTLED_S, True)])
def test_a_path_that_falls_silent(
    make: Callable[..., Node], lived_s: float, quic_first: bool
) -> None:
    """Where it lets little more than handshakes through, gRPC is first next time."""
    node = make(AUTO, memory=KNOWN)
    node.welcome(node.channel, quic_address=str(QUIC))
    for _ in range(2):
        node.clock.advance(lived_s / 2)
        node.channel.session.received(GatewayFrame(answers=1))
    node.channel.streamed.errback(SILENT)
    node.clock.advance(1)
    assert isinstance(node.channel, FakeQuic) is quic_first


def test_a_gateway_that_restarts(make: Callable[..., Node]) -> None:
    """However soon: its nodes come back over QUIC."""
    node = make(AUTO, memory=KNOWN)
    node.welcome(node.channel, quic_address=str(QUIC))
    node.channel.streamed.errback(GatewayUnreachable("gw", "it ended the call"))
    node.clock.advance(1)
    quic(node)


@pytest.mark.parametrize("error", [DiskFull("/"), OSError(errno.EROFS, "Read-only file system")])
def test_a_disk_that_cannot_be_written(
    make: Callable[..., Node], log: list[str], error: Exception
) -> None:
    """Is told of, and nothing else."""

    def refuse(_: Memory) -> None:
        raise error

    node = make(AUTO, memory=KNOWN)
    node.routes._keep = refuse
    node.welcome(node.channel, quic_address=str(QUIC))
    assert node.seen == [("online", 1)]
    assert log and log[0].startswith("the route to the gateway is not on disk: ")


def test_a_choice_is_no_fallback(make: Callable[..., Node]) -> None:
    """One run over gRPC alone, where QUIC was not missed, leaves QUIC first for the next one."""
    node = make(Preference.GRPC, memory=KNOWN)
    node.welcome(grpc(node), quic_address=str(QUIC))
    assert node.kept == []
    other = make(AUTO)
    other.welcome(grpc(other), quic_address=str(QUIC))
    assert other.kept == [KNOWN]
    quic(make(AUTO, memory=other.kept[-1]))


def test_a_path_that_was_bad_is_remembered(make: Callable[..., Node]) -> None:
    """A session over QUIC that fell silent soon, and the one over gRPC that came after it."""
    node = make(AUTO, memory=KNOWN)
    node.welcome(quic(node), quic_address=str(QUIC))
    node.channel.streamed.errback(SILENT)
    node.clock.advance(1)
    node.welcome(grpc(node), quic_address=str(QUIC))
    assert node.kept == [Memory(str(QUIC), "quic"), Memory(str(QUIC), "grpc")]


@pytest.mark.parametrize(
    ("preference", "fallback"),
    [(Preference.QUIC, GrpcFallback.UNREACHABLE), (AUTO, GrpcFallback.NEVER)],
)
def test_a_gateway_whose_quic_moved(
    make: Callable[..., Node], preference: Preference, fallback: GrpcFallback
) -> None:
    """Where there is no other way to it, the port of gRPC is tried in turns after a while; where it
    answers, what it tells is used from then on."""
    node = make(preference, memory=KNOWN, fallback=fallback)
    tried = []
    for _ in range(6):
        tried.append(quic(node).address)
        quic(node).registered.errback(SILENT)
        node.clock.advance(60)
    assert tried == [QUIC, QUIC, QUIC, GRPC, QUIC, GRPC]
    quic(node).registered.errback(PinMismatch("quic gw.example:9444"))
    node.clock.advance(60)
    assert quic(node).address == QUIC  # somebody answers there: it is not astray
    quic(node).registered.errback(SILENT)
    node.clock.advance(60)
    assert quic(node).address == GRPC
    node.welcome(quic(node), quic_address="gw.example:9555")
    assert node.kept == [Memory("gw.example:9555", "quic")]
    node.channel.streamed.callback(None)
    node.clock.advance(60)
    assert quic(node).address == HostPort("gw.example", 9555)


def test_a_line_for_the_person_who_watches(make: Callable[..., Node]) -> None:
    """It is told of a fallback when the session is registered, before it is online."""
    node = make(AUTO, memory=KNOWN)
    node.routes._told = node.seen.append
    quic(node).registered.errback(SILENT)
    assert node.seen == []
    node.welcome(grpc(node), quic_address=str(QUIC))
    line = "quic gw.example:9444 does not answer, using grpc for now"
    assert node.seen == [line, ("online", 1)]


# -- the server pin ----------------------------------------------------------------------------


def test_a_pinned_ca(make: Callable[..., Node]) -> None:
    """QUIC checks it, and over gRPC it is the only root."""
    node = make(AUTO, memory=KNOWN, pin=CA_PIN)
    assert quic(node).pin == CA_PIN
    quic(node).registered.errback(SILENT)
    assert grpc(node).ca_pem == AUTHORITY.ca_pem
    node.welcome(node.channel)


def test_a_pin_that_grpc_cannot_check(make: Callable[..., Node]) -> None:
    """Nothing is sent there; where QUIC may be tried too, what came of that is shown."""
    leaf = hashlib.sha256(b"a certificate").digest()
    alone = make(Preference.GRPC, pin=leaf)
    assert FakeChannel.made == []
    ((_, error),) = alone.seen
    assert isinstance(error, PinNotChecked)
    assert error.hint.endswith("or set --transport quic")
    for last in ("", "grpc"):
        node = make(AUTO, memory=Memory(str(QUIC), last), pin=leaf)
        assert quic(node).pin == leaf
        quic(node).registered.errback(SILENT)
        assert len(FakeChannel.made) == 1
        node.clock.advance(1)
        node.welcome(quic(node), quic_address=str(QUIC))
        assert node.on == "quic gw.example:9444"


def test_the_first_pause(make: Callable[..., Node]) -> None:
    """Is the configuration's."""
    node = make(AUTO, memory=KNOWN, hold_s=2.0)
    assert node.routes.move_in_s() == 0
    node.routes.fell_back(node.routes.quic)
    assert node.routes.move_in_s() == 2.0
    other = make(AUTO, memory=KNOWN)
    other.routes.fell_back(other.routes.quic)
    assert other.routes.move_in_s() == HOLD_S
