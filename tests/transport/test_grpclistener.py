"""What a listener lets in: limits for unpaired peers, and client CAs that change while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Any

import grpc
import pytest
import pytest_twisted
from cryptography import x509

from palyra.core.devices import ClientKind
from palyra.core.frames import Hello
from palyra.core.pairing import CodeMethod
from palyra.pki.authority import DAY_MS, Authority
from palyra.transport import grpclistener
from palyra.transport.asyncbridge import as_deferred, as_future
from palyra.transport.grpclistener import ENROLMENT_OPTIONS, HANDSHAKE_MS, MAX_PAIRING_MESSAGE
from palyra.transport.grpcserver import EnrolmentServicer, NodeServicer
from palyra.wire import pairing as pairing_wire
from palyra.wire.pairing import Begin
from palyra.wire.registration import write_hello
from palyra.wire.service import NodeServiceStub, messages
from tests.gateway.enrolling import wall_ms
from tests.transport.desks import FakeDesk, FakeEnrolment
from tests.transport.serving import AUTHORITY, DEVICE, KEY_PEM, call, channel, device_pair, serve

S = grpc.StatusCode
BEGIN = pairing_wire.write_begin(Begin(ClientKind.NODE, CodeMethod.PIN, nameplate=1))


# -- unpaired peers -------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_the_size_of_a_pairing_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message beyond the limit is refused before it is read; the largest proof goes through."""
    desk = FakeEnrolment()
    listener = await serve(
        monkeypatch, EnrolmentServicer(desk), mutual=False, max_message=MAX_PAIRING_MESSAGE
    )
    request = messages.CompletePairingSessionRequest(v=1, session_id="0" * 32, client_kind="node")
    request.device_id.ulid = DEVICE
    request.enrolment.csr_der = b"x" * pairing_wire.MAX_CSR
    request.enrolment.announcement = b"x" * pairing_wire.MAX_ANNOUNCEMENT
    try:
        error = await as_deferred(call(listener.address, "CompletePairingSession", request))
        assert error.code() is S.FAILED_PRECONDITION and len(desk.asked) == 1
        request.proof = "x" * MAX_PAIRING_MESSAGE
        error = await as_deferred(call(listener.address, "CompletePairingSession", request))
        assert error.code() is S.RESOURCE_EXHAUSTED and len(desk.asked) == 1
    finally:
        await listener.stop(0)


@pytest_twisted.ensureDeferred
async def test_calls_at_once_on_a_pairing_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many a peer begins, two at most are looked at; the next when one has ended."""
    desk = FakeEnrolment()
    listener = await serve(
        monkeypatch, EnrolmentServicer(desk), mutual=False, options=ENROLMENT_OPTIONS
    )

    async def crowd() -> None:
        async with channel(listener.address, None) as opened:
            begin = NodeServiceStub(opened).BeginPairingSession
            await begin(BEGIN)  # the peer knows the limit from here on
            await as_future(desk.came.get())
            desk.patient = True
            calls = [asyncio.ensure_future(_answer(begin(BEGIN))) for _ in range(3)]
            for _ in range(2):
                await as_future(desk.came.get())
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await begin(BEGIN, timeout=0.2)
            assert caught.value.code() is S.DEADLINE_EXCEEDED and len(desk.asked) == 3
            desk.waiting[0].callback(desk.opened(desk.asked[0][0]))
            await as_future(desk.came.get())
            for waiting in desk.waiting[1:]:
                waiting.callback(desk.opened(desk.asked[0][0]))
            assert [answer.session_id for answer in await asyncio.gather(*calls)] == ["0" * 32] * 3

    try:
        await as_deferred(asyncio.wait_for(crowd(), 20))
    finally:
        await listener.stop(0)


async def _answer(asked: Any) -> Any:
    return await asked


def shortened(**changes: int) -> list[tuple[str, int]]:
    """The options of the enrolment listener, some of them in milliseconds a test can wait for."""
    options = {**dict(ENROLMENT_OPTIONS), **{f"grpc.{key}": at for key, at in changes.items()}}
    assert len(options) == len(ENROLMENT_OPTIONS), "every change is of an option that is there"
    return list(options.items())


def test_the_times_of_a_pairing_connection() -> None:
    """Ten seconds for the handshake, and half a minute and the call that is open after it."""
    options = dict(ENROLMENT_OPTIONS)
    assert HANDSHAKE_MS == 10_000
    assert options["grpc.max_connection_age_ms"] == 30_000
    assert options["grpc.max_connection_age_grace_ms"] == 5_000


@pytest_twisted.ensureDeferred
async def test_an_old_pairing_connection_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time is over whatever is open on it."""
    desk = FakeEnrolment()
    desk.patient = True
    options = shortened(max_connection_age_ms=200, max_connection_age_grace_ms=100)
    listener = await serve(monkeypatch, EnrolmentServicer(desk), mutual=False, options=options)
    try:
        error = await as_deferred(call(listener.address, "BeginPairingSession", BEGIN))
        assert error.code() is S.UNAVAILABLE
    finally:
        await listener.stop(0)


class Idle:
    """Connections on which nothing is ever said."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._open: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def connect(self, count: int) -> None:
        for _ in range(count):
            self._open.append(await asyncio.open_connection("127.0.0.1", self._port))

    async def cut(self, count: int) -> None:
        """Wait until so many of them were ended from the other side."""
        left = len(self._open) - count
        reading = {asyncio.ensure_future(_end(pair[0])): pair for pair in self._open}
        try:
            while len(self._open) > left:
                done, _ = await asyncio.wait(
                    reading, timeout=5, return_when=asyncio.FIRST_COMPLETED
                )
                assert done, f"{len(self._open) - left} more should be closed"
                for each in done:
                    await self._close(reading.pop(each))
        finally:
            for each in reading:
                each.cancel()
            await asyncio.gather(*reading, return_exceptions=True)

    @property
    def count(self) -> int:
        return len(self._open)

    async def close(self) -> None:
        for pair in list(self._open):
            await self._close(pair)

    async def _close(self, pair: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        self._open.remove(pair)
        pair[1].close()
        with contextlib.suppress(ConnectionError):
            await pair[1].wait_closed()


async def _end(reader: asyncio.StreamReader) -> bytes:
    with contextlib.suppress(ConnectionError):
        return await reader.read()
    return b""


@pytest.mark.parametrize("mutual", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_peer_that_makes_no_handshake(
    monkeypatch: pytest.MonkeyPatch, mutual: bool
) -> None:
    """It is cut off, on either listener; nothing is kept for it."""
    monkeypatch.setattr(grpclistener, "HANDSHAKE_MS", 200)
    servicer = EnrolmentServicer(FakeEnrolment())
    listener = await serve(monkeypatch, servicer, mutual=mutual)
    idle = Idle(listener.address.port)

    async def silent() -> None:
        await idle.connect(1)
        await idle.cut(1)

    try:
        await as_deferred(silent())
    finally:
        await as_deferred(idle.close())
        await listener.stop(0)


@pytest_twisted.ensureDeferred
async def test_so_many_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever opens connections and says nothing has so many of them and no more: the others are
    closed at once, and who was served before still is; once there is room, so is everybody."""
    desk = FakeEnrolment()
    listener = await serve(monkeypatch, EnrolmentServicer(desk), mutual=False, max_connections=4)
    idle = Idle(listener.address.port)

    async def crowd() -> None:
        async with channel(listener.address, None) as opened:
            stub = NodeServiceStub(opened)
            await stub.BeginPairingSession(BEGIN, timeout=10)
            await idle.connect(10)
            await idle.cut(7)
            assert idle.count == 3
            await stub.BeginPairingSession(BEGIN, timeout=10)
            late = await call(listener.address, "BeginPairingSession", BEGIN)
            assert isinstance(late, grpc.aio.AioRpcError) and late.code() is S.UNAVAILABLE
            await idle.close()
            async with channel(listener.address, None) as again:
                answer = await NodeServiceStub(again).BeginPairingSession(
                    BEGIN, timeout=10, wait_for_ready=True
                )
            assert answer.session_id and len(desk.asked) == 3

    try:
        await as_deferred(asyncio.wait_for(crowd(), 30))
    finally:
        await as_deferred(idle.close())
        await listener.stop(0)


# -- client CAs -----------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_the_client_cas_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """New handshakes are held against the CAs of now; a connection that is open stays."""
    other = Authority.create(
        trust_domain="palyra.test", now_ms=wall_ms() - DAY_MS, entropy=random.Random(4).randbytes
    )
    old = device_pair()
    public: Any = x509.load_pem_x509_certificate(old[1]).public_key()
    new = (KEY_PEM, other.issue_device(public, DEVICE, wall_ms()).pem)
    trusted = [AUTHORITY.ca_pem]
    listener = await serve(
        monkeypatch,
        NodeServicer(FakeDesk(), random.Random(5).randbytes, wall_ms),
        mutual=True,
        client_ca_pem=lambda: b"".join(trusted),
    )
    hello = write_hello(Hello(DEVICE, "linux", (), extended=True))

    async def let_in(identity: tuple[bytes, bytes]) -> bool:
        answer = await call(listener.address, "RegisterNode", hello, identity)
        if isinstance(answer, grpc.aio.AioRpcError):
            assert answer.code() is S.UNAVAILABLE
            return False
        return True

    async def rotate() -> None:
        assert (await let_in(old), await let_in(new)) == (True, False)
        async with channel(listener.address, old) as opened:
            stub = NodeServiceStub(opened)
            await stub.RegisterNode(hello)
            trusted.append(other.ca_pem)
            assert (await let_in(old), await let_in(new)) == (True, True)
            trusted.pop(0)
            assert (await let_in(old), await let_in(new)) == (False, True)
            await stub.RegisterNode(hello)

    try:
        await as_deferred(rotate())
    finally:
        await listener.stop(0)
