"""The gRPC listeners: who gets through the handshake, and what a call is answered."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from zope.interface.verify import verifyObject

from palyra.config.addresses import HostPort
from palyra.core.devices import ClientKind
from palyra.core.frames import Dispatch, Drained, GatewayFrame, Hello, NodeEvent, Wanted
from palyra.core.identifiers import AttemptId, DeviceId
from palyra.core.jobs import Job, JobState
from palyra.core.pairing import CodeMethod
from palyra.errors import (
    CannotBind,
    DeviceRevoked,
    JobStillRunning,
    NotRegistered,
    PairingFailed,
    PalyraError,
    PortTaken,
    VersionOneRefused,
)
from palyra.transport.asyncbridge import as_deferred
from palyra.transport.chain import fetch_chain
from palyra.transport.grpclistener import ENROLMENT_OPTIONS, GrpcListener
from palyra.transport.grpcserver import EnrolmentServicer, NodeServicer
from palyra.transport.interfaces import IEnrolmentDesk, IGatewaySession, INodeDesk
from palyra.wire import pairing as pairing_wire
from palyra.wire.pairing import Begin, RenewalAsked, Renewed
from palyra.wire.registration import write_hello
from palyra.wire.service import NodeServiceStub, messages
from palyra.wire.session import write_event
from tests.core.jobs import a_call
from tests.transport.desks import FakeDesk, FakeEnrolment, FakeSession
from tests.transport.serving import (
    AUTHORITY,
    DEVICE,
    LOOPBACK,
    call,
    channel,
    device_pair,
    gateway_pair,
    serve,
)

S = grpc.StatusCode
ENTROPY = random.Random(5).randbytes


def node_servicer(desk: FakeDesk) -> NodeServicer:
    return NodeServicer(desk, ENTROPY, lambda: 1_800_000_000_000)


def test_the_fakes_are_desks() -> None:
    """What these tests run on provides the interfaces."""
    assert verifyObject(IEnrolmentDesk, FakeEnrolment())
    assert verifyObject(INodeDesk, FakeDesk())
    assert verifyObject(IGatewaySession, FakeSession(True, None))


# -- binding --------------------------------------------------------------------------------------


def unbound(address: HostPort) -> GrpcListener:
    return GrpcListener(
        name="enrolment",
        address=address,
        servicer=EnrolmentServicer(FakeEnrolment()),
        certificate=gateway_pair,
        client_ca_pem=None,
        max_message=1_000,
        max_connections=64,
        options=ENROLMENT_OPTIONS,
    )


def test_a_port_that_is_taken() -> None:
    """The listener and the port are named."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortTaken) as caught:
            unbound(HostPort("127.0.0.1", port)).bind()
    assert str(port) in caught.value.sentence


def test_an_address_that_is_not_ours() -> None:
    """The cause is the system's, in its words."""
    with pytest.raises(CannotBind) as caught:
        unbound(HostPort("192.0.2.1", 0)).bind()
    assert "192.0.2.1:0" in caught.value.sentence


@pytest_twisted.ensureDeferred
async def test_a_listener_that_never_began() -> None:
    """It may be stopped."""
    await unbound(LOOPBACK).stop(0)


# -- enrolment ------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_enrolment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pairing calls are answered without a client certificate, the others are unknown there."""
    desk = FakeEnrolment()
    listener = await serve(monkeypatch, EnrolmentServicer(desk), mutual=False)
    begin = pairing_wire.write_begin(Begin(ClientKind.NODE, CodeMethod.QR, "A" * 22))
    try:
        opened = await as_deferred(call(listener.address, "BeginPairingSession", begin))
        assert opened.session_id == "0" * 32
        ((asked, address),) = desk.asked
        assert (asked.code, address) == ("A" * 22, "127.0.0.1")
        desk.refusal = PairingFailed()
        error = await as_deferred(call(listener.address, "BeginPairingSession", begin))
        assert (error.code(), error.details()) == (S.FAILED_PRECONDITION, PairingFailed().sentence)
        assert dict(error.trailing_metadata())["palyra-code"] == "pairing_failed"
        begin.v = 9
        error = await as_deferred(call(listener.address, "BeginPairingSession", begin))
        assert error.code() is S.INVALID_ARGUMENT
        without = messages.CompletePairingSessionRequest(
            v=1, session_id="0" * 32, client_kind="node"
        )
        without.device_id.ulid = DEVICE
        desk.refusal = VersionOneRefused()
        error = await as_deferred(call(listener.address, "CompletePairingSession", without))
        assert dict(error.trailing_metadata())["palyra-code"] == "csr_required"
        assert desk.asked[-1][0].enrolment is None, "the desk decides about version 1"
        for method, request in (
            ("RegisterNode", messages.RegisterNodeRequest(v=1)),
            ("RotateDeviceCertificate", messages.RotateDeviceCertificateRequest(v=1)),
        ):
            error = await as_deferred(call(listener.address, method, request))
            assert error.code() is S.UNIMPLEMENTED
    finally:
        await listener.stop(0)


@pytest_twisted.ensureDeferred
async def test_the_chain_ends_with_the_ca(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a device fetches before it trusts anybody: the leaf, then the CA itself."""
    from twisted.internet import reactor

    listener = await serve(monkeypatch, EnrolmentServicer(FakeEnrolment()), mutual=False)
    try:
        chain = await fetch_chain(reactor, listener.address)
        assert chain[-1] == AUTHORITY.ca_der and len(chain) == 2
    finally:
        await listener.stop(0)


@pytest_twisted.ensureDeferred
async def test_a_renewed_certificate_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """New handshakes get the new certificate; the listener is not restarted."""
    from twisted.internet import reactor

    served = [gateway_pair("before")]
    listener = await serve(
        monkeypatch,
        EnrolmentServicer(FakeEnrolment()),
        mutual=False,
        certificate=lambda: served[-1],
    )
    try:
        before = await fetch_chain(reactor, listener.address)
        assert await fetch_chain(reactor, listener.address) == before
        served.append(gateway_pair("after"))
        after = await fetch_chain(reactor, listener.address)
        new = x509.load_pem_x509_certificate(served[-1][1])
        assert after[0] == new.public_bytes(Encoding.DER) != before[0]
    finally:
        await listener.stop(0)


# -- paired clients -------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_only_devices_get_through_the_handshake(monkeypatch: pytest.MonkeyPatch) -> None:
    """No certificate, or one of a foreign CA: the connection is refused before any call."""
    desk = FakeDesk()
    listener = await serve(monkeypatch, node_servicer(desk), mutual=True)
    hello = write_hello(Hello(DEVICE, "linux", (), extended=True))
    key, chain = device_pair()
    foreign = type(AUTHORITY).create(
        trust_domain="palyra.test", now_ms=1_700_000_000_000, entropy=ENTROPY
    )
    public = x509.load_pem_x509_certificate(chain).public_key()
    stranger = foreign.issue_device(public, DEVICE, 1_790_000_000_000).pem  # type: ignore[arg-type]
    try:
        for identity in (None, (key, stranger)):
            error = await as_deferred(call(listener.address, "RegisterNode", hello, identity))
            assert error.code() is S.UNAVAILABLE
        assert desk.asked == []
        welcome = await as_deferred(call(listener.address, "RegisterNode", hello, device_pair()))
        assert (welcome.accepted, welcome.welcome.session_epoch) == (True, 3)
        ((peer, _),) = desk.asked
        assert (peer.device_id, peer.address, peer.transport) == (DEVICE, "127.0.0.1", "grpc")
    finally:
        await listener.stop(0)


@pytest_twisted.ensureDeferred
async def test_calls_of_paired_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Execute and Revoke ask the desk what was said, and refusals have their status."""
    desk = FakeDesk()
    listener = await serve(monkeypatch, node_servicer(desk), mutual=True)
    run = messages.ExecuteCapabilityRequest(v=1, capability="echo", input_json=b"{}")
    run.device_id.ulid = DEVICE
    desk.answer = Job(a_call(), JobState.SUCCEEDED, output_json=b"[1]")

    async def ask(method: str, request: Any) -> Any:
        return await call(listener.address, method, request, device_pair())

    try:
        done = await as_deferred(ask("ExecuteCapability", run))
        assert (done.success, done.output_json, done.state) == (True, b"[1]", "succeeded")
        assert desk.asked == [Wanted(DEVICE, "echo", b"{}")]
        for refusal, status in (
            (JobStillRunning("ABCD", "dispatched"), S.DEADLINE_EXCEEDED),
            (DeviceRevoked("pi"), S.PERMISSION_DENIED),
        ):
            desk.answer = refusal
            assert (await as_deferred(ask("ExecuteCapability", run))).code() is status
        run.device_id.ulid = "nonsense"
        assert (await as_deferred(ask("ExecuteCapability", run))).code() is S.INVALID_ARGUMENT
        leave = messages.RevokeDevicePairingRequest(v=1, reason="bye")
        leave.device_id.ulid = DEVICE
        assert (await as_deferred(ask("RevokeDevicePairing", leave))).revoked
        assert desk.asked[-1] == (DEVICE, "bye")
        leave.device_id.ulid = DEVICE[:-1] + "0"
        error = await as_deferred(ask("RevokeDevicePairing", leave))
        assert dict(error.trailing_metadata())["palyra-code"] == "certificate_refused"
        begin = messages.BeginPairingSessionRequest(v=1)
        assert (await as_deferred(ask("BeginPairingSession", begin))).code() is S.UNIMPLEMENTED
    finally:
        await listener.stop(0)


@pytest_twisted.ensureDeferred
async def test_a_renewal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The desk hears who asks over which certificate and what; another device's is refused."""
    desk = FakeDesk()
    listener = await serve(monkeypatch, node_servicer(desk), mutual=True)
    desk.answer = renewed = Renewed("CERT", "CA", 9_000, 57_600)

    async def rotate(asked: RenewalAsked) -> Any:
        request = pairing_wire.write_renewal(asked)
        return await call(listener.address, "RotateDeviceCertificate", request, device_pair())

    try:
        for asked in (RenewalAsked(DEVICE, b"csr", b"s" * 64), RenewalAsked(DEVICE)):
            answer = await as_deferred(rotate(asked))
            assert answer.rotated and pairing_wire.read_renewed(answer) == renewed
            peer, heard = desk.asked[-1]
            assert (peer.device_id, peer.fingerprint, heard) == (DEVICE, "f", asked)
        desk.answer = DeviceRevoked("pi")
        assert (await as_deferred(rotate(asked))).code() is S.PERMISSION_DENIED
        error = await as_deferred(rotate(RenewalAsked(DeviceId(DEVICE[:-1] + "0"))))
        assert dict(error.trailing_metadata())["palyra-code"] == "certificate_refused"
        error = await as_deferred(rotate(RenewalAsked(DEVICE, b"csr", b"short")))
        assert error.code() is S.INVALID_ARGUMENT
        assert len(desk.asked) == 3
    finally:
        await listener.stop(0)


# -- streams --------------------------------------------------------------------------------------


class Node:
    """A device's end of one stream: says what a test puts in, keeps what it hears."""

    def __init__(self, address: HostPort) -> None:
        self.address = address
        self.to_say: asyncio.Queue[Any] = asyncio.Queue()
        self.heard: asyncio.Queue[Any] = asyncio.Queue()
        self.status: Any = None
        self.details = ""

    def say(self, event: NodeEvent) -> None:
        self.to_say.put_nowait(write_event(event, DEVICE))

    async def _events(self) -> AsyncIterator[Any]:
        while (message := await self.to_say.get()) is not None:
            yield message

    async def run(self) -> None:
        async with channel(self.address, device_pair()) as opened:
            stream = NodeServiceStub(opened).StreamNodeEvents(self._events())
            try:
                async for message in stream:
                    self.heard.put_nowait(message)
            except grpc.aio.AioRpcError:
                pass
            self.status = await stream.code()
            self.details = await stream.details()


class Streaming:
    """A listener with one stream on it."""

    def __init__(self, listener: GrpcListener, desk: FakeDesk) -> None:
        self.listener = listener
        self.desk = desk
        self.node = Node(listener.address)
        self.running = as_deferred(self.node.run())

    @classmethod
    async def begin(cls, monkeypatch: pytest.MonkeyPatch, desk: FakeDesk) -> Streaming:
        listener = await serve(monkeypatch, node_servicer(desk), mutual=True)
        streaming = cls(listener, desk)
        streaming.node.say(NodeEvent("node.started", session_epoch=3))
        return streaming

    async def hear(self) -> Any:
        return await as_deferred(asyncio.wait_for(self.node.heard.get(), 10))


DISPATCH = Dispatch(AttemptId("a1"), "j1", 1, "echo", b"{}", 9, 1_000, "ana")


@pytest_twisted.ensureDeferred
async def test_a_stream_carries_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events go in, frames come out as one message each, and the node may end it."""
    streaming = await Streaming.begin(monkeypatch, FakeDesk())
    session = await streaming.desk.attached
    heard = session.heard
    streaming.node.say(NodeEvent("node.heartbeat"))
    assert (await heard).name == "node.heartbeat"
    session.say(GatewayFrame([DISPATCH, DISPATCH], ["a0"], [("a1", "stop")], 1, Drained("bye")))
    message = await streaming.hear()
    assert len(message.dispatches) == 2 and list(message.acknowledged) == ["a0"]
    assert (message.cancels[0].reason, message.drain.reason) == ("stop", "bye")
    streaming.node.to_say.put_nowait(None)
    assert await session.over == "closed by the node"
    await streaming.running
    assert streaming.node.status is S.OK
    await streaming.listener.stop(0)


@pytest_twisted.ensureDeferred
async def test_a_version_one_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node without extensions gets one published message for each dispatch and answer."""
    desk = FakeDesk()
    desk.extended = False
    streaming = await Streaming.begin(monkeypatch, desk)
    session = await desk.attached
    session.say(GatewayFrame([DISPATCH, DISPATCH], ["a0"], answers=1))
    first, second = await streaming.hear(), await streaming.hear()
    for message in (first, second):
        assert message.dispatch.request_id.ulid == "a1" and not message.dispatches
    session.carrier.close(None)
    await streaming.running
    await streaming.listener.stop(0)


@pytest.mark.parametrize(
    ("error", "status"),
    [(None, S.OK), (DeviceRevoked("pi", reason="lost"), S.PERMISSION_DENIED)],
)
@pytest_twisted.ensureDeferred
async def test_the_gateway_ends_a_stream(
    monkeypatch: pytest.MonkeyPatch, error: PalyraError | None, status: grpc.StatusCode
) -> None:
    """The node is told why, even while a frame is being written."""
    streaming = await Streaming.begin(monkeypatch, FakeDesk())
    session = await streaming.desk.attached
    session.say(GatewayFrame([DISPATCH]))
    session.carrier.close(error)
    session.carrier.close(PairingFailed())
    await streaming.running
    assert streaming.node.status is status
    if error is not None:
        assert streaming.node.details == error.sentence
    assert session.reasons == ["closed by the gateway"]
    await streaming.listener.stop(0)


@pytest_twisted.ensureDeferred
async def test_a_stream_that_may_not_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that has not registered is told so with a status."""
    desk = FakeDesk()
    desk.refusal = NotRegistered()
    streaming = await Streaming.begin(monkeypatch, desk)
    await streaming.running
    assert streaming.node.status is S.FAILED_PRECONDITION
    await streaming.listener.stop(0)


@pytest_twisted.ensureDeferred
async def test_a_malformed_event_ends_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """The session ends, and the node reads what was wrong."""
    streaming = await Streaming.begin(monkeypatch, FakeDesk())
    session = await streaming.desk.attached
    bad = write_event(NodeEvent("node.heartbeat"), DEVICE)
    bad.v = 9
    streaming.node.to_say.put_nowait(bad)
    await streaming.running
    assert streaming.node.status is S.INVALID_ARGUMENT and len(session.reasons) == 1
    await streaming.listener.stop(0)


@pytest_twisted.ensureDeferred
async def test_a_connection_that_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The session hears of it once."""
    streaming = await Streaming.begin(monkeypatch, FakeDesk())
    session = await streaming.desk.attached
    streaming.running.addErrback(lambda failure: None)
    streaming.running.cancel()
    await session.over
    await streaming.listener.stop(0)
    assert len(session.reasons) == 1
