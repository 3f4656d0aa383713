"""Tests of PIN pairing (:mod:`palyra.node.pairing`) over a real listener on the loopback."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.internet.defer import CancelledError, Deferred

from palyra.config.addresses import HostPort
from palyra.core.pairing import CodeMethod, RequestState
from palyra.core.pake import SHARE_BYTES
from palyra.core.pin import PinCode
from palyra.core.transcript import DeviceProof
from palyra.errors import (
    ClockSkew,
    DeviceRevoked,
    GatewayNotProven,
    GatewayUnreachable,
    Malformed,
    PairingFailed,
    PairingLimited,
    PairingRejected,
    RemoteRefusal,
    VerificationFailed,
)
from palyra.node import pairing as node_pairing
from palyra.node import pickup
from palyra.node.files import HostFile
from palyra.pki.authority import Authority
from palyra.wire.pairing import Begin
from tests.node.awaiting import awaiting, awaiting_fixture
from tests.node.fakes import DEVICE_ID
from tests.node.pairingdevice import Device, refused, until
from tests.node.pingateway import NODE_RPC, REQUEST_ID, PinGateway, RelayDesk

PIN = PinCode(1, "418207")
WRONG = PinCode(1, "418208")
DAY_MS = 86_400_000

Scene = tuple[PinGateway, Device]


@awaiting_fixture
async def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    """A gateway with one active PIN, and a device that was never paired; neither waits long."""
    monkeypatch.setattr(pickup, "POLL_INTERVAL_MS", 20)
    monkeypatch.setattr(pickup, "MAX_POLL_MS", 20)
    gateway = PinGateway()
    await gateway.start()
    gateway.desk.codes = {1: PIN.pin, 2: "530946"}
    yield gateway, Device(tmp_path)
    await gateway.stop()


def begin(
    device: Device, address: HostPort, pin: PinCode = PIN, ca_pem: bytes | None = None
) -> Deferred[HostFile]:
    """Pair with a PIN; the failure of what is not awaited is the test's."""
    return Deferred.fromCoroutine(device.pairing().run_pin(address, pin, ca_pem))


def nothing_believed(device: Device) -> bool:
    """Whether the device has kept nothing but its own keys, and shown nothing as proved."""
    client = device.files.identity.client()
    own = {"device-identity.json", "node-mtls-client.json"}
    unpaired = client.current is None and not client.ca_bundle_pem
    shown = {"pin", "identity", "waiting", "approved"} & set(device.kinds())
    return unpaired and device.kept() <= own and not shown


@awaiting
async def test_a_pairing(scene: Scene) -> None:
    """From six digits to a certificate for the device's own key, and nothing left to wait for."""
    gateway, device = scene
    asked = device.asked
    paired = begin(device, gateway.address)
    assert await asked == REQUEST_ID
    waiting = device.files.identity.waiting()
    assert waiting is not None and waiting.request_id == REQUEST_ID
    assert waiting.ca_pem == gateway.authority.ca_pem.decode()
    gateway.desk.state = RequestState.APPROVED
    host = await paired
    assert device.kinds() == ["verified", "pin", "identity", "waiting", "approved"]
    shown = ("verified", str(gateway.address), gateway.authority.ca_hash, False)
    assert device.seen[0] == shown
    assert (host.grpc_url, host.device_id, host.name) == (NODE_RPC, DEVICE_ID, "pi")
    client = device.files.identity.client()
    assert client.current is not None and client.pending is None
    assert client.ca_bundle_pem == gateway.authority.ca_pem.decode()
    assert device.files.identity.waiting() is None


@awaiting
async def test_the_pin_is_not_sent(scene: Scene) -> None:
    """Only its nameplate is, also of the second code; and it is on no disk."""
    gateway, device = scene
    asked = device.asked
    paired = begin(device, gateway.address, PinCode.parse(" 2-530 946\n"))
    await asked
    (sent,) = gateway.desk.begun
    assert (sent.method, sent.nameplate, sent.code) == (CodeMethod.PIN, 2, "")
    (run,) = gateway.desk.runs.values()
    assert run.proof is not None and run.proof.proof == ""
    assert "530946" not in repr(attrs.asdict(run.proof))
    assert not any(b"530946" in each for each in device.bytes_kept())
    paired.cancel()
    await refused(paired)


@awaiting
async def test_a_wrong_pin(scene: Scene) -> None:
    """Costs one guess, says neither wrong nor expired, and leaves nothing behind."""
    gateway, device = scene
    for pin in (WRONG, PinCode(7, PIN.pin)):
        error = await refused(begin(device, gateway.address, pin))
        assert isinstance(error, PairingFailed) and (error.pin, error.tries) == (True, 1)
    assert gateway.desk.guesses == [False, False]
    assert nothing_believed(device)


@awaiting
async def test_a_gateway_that_does_not_know_the_pin(scene: Scene) -> None:
    """It cannot confirm: a wrong, a cut and a missing confirmation end it before all belief."""
    gateway, device = scene
    for confirm in (b"x" * 32, b"x", b""):
        gateway.desk.codes = {1: PIN.pin}
        gateway.desk.spoilt = lambda answer, c=confirm: attrs.evolve(  # type: ignore[misc]
            answer, pake_confirm=c
        )
        assert isinstance(await refused(begin(device, gateway.address)), GatewayNotProven)
        assert nothing_believed(device)


@awaiting
async def test_the_device_s_own_confirmation_is_no_proof(scene: Scene) -> None:
    """Sent back to it, it proves nothing."""
    gateway, device = scene

    def reflect(answer: Any) -> Any:
        run = next(run for run in gateway.desk.runs.values() if run.proof is not None)
        assert run.proof is not None and run.proof.enrolment is not None
        return attrs.evolve(answer, pake_confirm=run.proof.enrolment.pake_confirm)

    gateway.desk.spoilt = reflect
    assert isinstance(await refused(begin(device, gateway.address)), GatewayNotProven)
    assert nothing_believed(device)


@awaiting
async def test_a_share_that_is_none(scene: Scene) -> None:
    """Nothing keyed is answered to it."""
    gateway, device = scene
    for share in (b"", b"B" + bytes(SHARE_BYTES - 1), b"B\x01" + bytes(31)):
        gateway.desk.spoilt_share = lambda _, s=share: s  # type: ignore[misc]
        assert isinstance(await refused(begin(device, gateway.address)), VerificationFailed)
    assert gateway.desk.guesses == []
    assert nothing_believed(device)


@awaiting
async def test_somebody_in_between(scene: Scene) -> None:
    """Ends the TLS with a CA of his own and hands everything on: the right PIN fails for both."""
    gateway, device = scene
    desk = RelayDesk(gateway)
    relay = PinGateway(desk)
    await relay.start()
    try:
        error = await refused(begin(device, relay.address))
    finally:
        await relay.stop()
        await desk.behind.close()
    assert isinstance(error, PairingFailed) and (error.pin, error.tries) == (True, 1)
    assert gateway.desk.guesses == [False]
    assert gateway.desk.codes[1] == PIN.pin, "it is not used up"
    assert all(run.proof is None for run in gateway.desk.runs.values())
    assert [type(each) for each in desk.seen] == [Begin, DeviceProof]
    assert PIN.pin not in repr([attrs.asdict(each) for each in desk.seen])
    assert nothing_believed(device)


@awaiting
async def test_a_ca_that_came_another_way(scene: Scene) -> None:
    """Is the only root: the right one pairs, with another one TLS fails and nothing is sent."""
    gateway, device = scene
    other = Authority.create(trust_domain="palyra", now_ms=gateway.now_ms(), entropy=os.urandom)
    error = await refused(begin(device, gateway.address, ca_pem=other.ca_pem))
    assert isinstance(error, GatewayUnreachable)
    error = await refused(begin(device, gateway.address, ca_pem=b"none"))
    assert isinstance(error, Malformed)
    assert gateway.desk.begun == []
    gateway.desk.state = RequestState.APPROVED
    host = await begin(device, gateway.address, ca_pem=gateway.authority.ca_pem)
    assert device.files.host() == host


@awaiting
async def test_an_answer_that_is_lost(scene: Scene) -> None:
    """Status brings the same confirmation, and the pairing goes on."""
    gateway, device = scene
    gateway.desk.lost = gateway.restart
    gateway.desk.forgotten = 2
    asked = device.asked
    paired = begin(device, gateway.address)
    assert await asked == REQUEST_ID
    waiting = device.files.identity.waiting()
    assert waiting is not None and waiting.request_id == REQUEST_ID
    assert "pin" in device.kinds()
    gateway.desk.state = RequestState.APPROVED
    assert (await paired).name == "pi"


@awaiting
async def test_a_lost_answer_and_a_stranger_s_status(scene: Scene) -> None:
    """What comes late is checked as what comes at once."""
    gateway, device = scene
    gateway.desk.lost = gateway.restart
    gateway.desk.state = RequestState.APPROVED
    for confirm in (b"x" * 32, b""):
        gateway.desk.codes = {1: PIN.pin}
        gateway.desk.spoilt_status = lambda answer, c=confirm: attrs.evolve(  # type: ignore[misc]
            answer, pake_confirm=c
        )
        assert isinstance(await refused(begin(device, gateway.address)), GatewayNotProven)
        assert nothing_believed(device)


@awaiting
async def test_a_lost_answer_that_status_does_not_know(scene: Scene) -> None:
    """The gateway never recorded it: the PIN is void and nothing is kept."""
    gateway, device = scene
    gateway.desk.lost = gateway.restart
    gateway.desk.forgotten = 1_000
    error = await refused(begin(device, gateway.address))
    assert isinstance(error, RemoteRefusal) and error.remote_code == "pairing_session_unknown"
    assert gateway.desk.forgotten == 1_000 - pickup.MAX_UNKNOWN
    assert nothing_believed(device)


@awaiting
async def test_a_lost_answer_of_a_gateway_that_stays_away(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked for as long as the session may last, and no longer."""
    gateway, device = scene
    monkeypatch.setattr(node_pairing, "SESSION_WINDOW_MS", 150)
    gateway.desk.lost = gateway.vanish
    error = await refused(begin(device, gateway.address))
    assert isinstance(error, GatewayUnreachable)
    assert device.kinds() == ["verified", "retrying"]
    assert nothing_believed(device)


@awaiting
async def test_what_the_gateway_refuses(scene: Scene) -> None:
    """Is told in its words, before the PIN was of use and after."""
    gateway, device = scene
    gateway.desk.complete_error = DeviceRevoked("X4K7QM", "2 Jun", "laptop stolen")
    error = await refused(begin(device, gateway.address))
    assert isinstance(error, RemoteRefusal) and "laptop stolen" in error.sentence
    gateway.desk.complete_error = PairingLimited(420.0)
    error = await refused(begin(device, gateway.address))
    assert "opens again in 7 min" in str(getattr(error, "sentence", ""))
    assert nothing_believed(device)


@awaiting
async def test_an_operator_says_no(scene: Scene) -> None:
    """The next start does not wait again."""
    gateway, device = scene
    gateway.desk.state = RequestState.REJECTED
    assert isinstance(await refused(begin(device, gateway.address)), PairingRejected)
    assert device.files.identity.waiting() is None
    assert device.files.host() is None


@awaiting
async def test_a_restart_while_it_waits(scene: Scene) -> None:
    """The pairing goes on without a PIN, under the CA that the PIN has proved."""
    gateway, device = scene
    asked = device.asked
    paired = begin(device, gateway.address)
    await asked
    paired.cancel()
    assert isinstance(await refused(paired), CancelledError)
    waiting = device.files.identity.waiting()
    assert waiting is not None
    gateway.desk.state = RequestState.APPROVED
    host = await Deferred.fromCoroutine(device.pairing().resume(waiting))
    assert host.device_id == DEVICE_ID


@awaiting
async def test_stop_while_the_proof_is_on_its_way(scene: Scene) -> None:
    """Nothing is kept of a gateway that has not proved itself."""
    gateway, device = scene
    arrived: list[bool] = []
    gateway.desk.lost = lambda: arrived.append(True)
    paired = begin(device, gateway.address)
    await until(lambda: bool(arrived))
    paired.cancel()
    assert isinstance(await refused(paired), CancelledError)
    assert nothing_believed(device)


@pytest.mark.parametrize("days", [-2, 4_000])
@awaiting
async def test_a_clock_that_is_far_off(scene: Scene, days: int) -> None:
    """Is told with both times, and nothing is sent."""
    gateway, device = scene
    device.ahead_ms = days * DAY_MS
    assert isinstance(await refused(begin(device, gateway.address)), ClockSkew)
    assert gateway.desk.begun == []


@awaiting
async def test_a_paired_device_pairs_again(scene: Scene, tmp_path: Path) -> None:
    """With another gateway, under the id that it has; until then the old pairing stands."""
    gateway, device = scene
    gateway.desk.state = RequestState.APPROVED
    await begin(device, gateway.address)
    before = device.files.identity.client()
    other = PinGateway()
    await other.start()
    other.desk.codes = {1: "000000"}
    other.desk.state = RequestState.APPROVED
    try:
        await refused(begin(device, other.address, WRONG))
        assert device.files.identity.client().current == before.current
        assert device.files.identity.client().ca_bundle_pem == before.ca_bundle_pem
        host = await begin(device, other.address, PinCode(1, "000000"))
    finally:
        await other.stop()
    assert host.device_id == DEVICE_ID
    after = device.files.identity.client()
    assert after.ca_bundle_pem == other.authority.ca_pem.decode()
