"""Tests of :mod:`palyra.node.pairing`, against a real enrolment on the loopback."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import msgspec
import pytest
from twisted.internet.defer import CancelledError, Deferred

from palyra.core.transports import Preference
from palyra.errors import (
    CaMismatch,
    ClockSkew,
    DiskFull,
    GatewayUnreachable,
    Malformed,
    PairingExpired,
    PairingFailed,
    PairingRejected,
    RemoteRefusal,
    VerificationFailed,
)
from palyra.node import pickup
from palyra.node.files import HostFile, NodeFiles
from palyra.node.identity import PairingFile
from palyra.node.pairing import unfinished
from palyra.pki.authority import Authority
from tests.node.awaiting import awaiting, awaiting_fixture
from tests.node.fakes import DEVICE_ID, NOW_MS, PairedDevice, new_authority
from tests.node.gateway import NODE_RPC, QUIC, Gateway
from tests.node.pairingdevice import Device, refused, turn

HOUR_MS = 3_600_000
OURS, OTHERS = new_authority(), new_authority()


Scene = tuple[Gateway, Device]


@awaiting_fixture
async def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    """A gateway that listens and a device that was never paired; both ask and answer quickly."""
    monkeypatch.setattr(pickup, "POLL_INTERVAL_MS", 20)
    monkeypatch.setattr(pickup, "MAX_POLL_MS", 20)
    gateway = Gateway()
    await gateway.start()
    yield gateway, Device(tmp_path)
    await gateway.stop()


@awaiting
async def test_a_pairing(scene: Scene) -> None:
    """From the line to a certificate for the device's own key, and nothing left to wait for."""
    gateway, device = scene
    asked, uri = device.asked, await gateway.line()
    paired = device.begin(uri, gateway.authority.ca_pem)
    await gateway.approve(await asked)
    host = await paired
    assert device.kinds() == ["verified", "identity", "waiting", "approved"]
    assert device.seen[0] == ("verified", str(gateway.address), uri.ca.hex(), True)
    assert device.seen[-1] == ("approved", "ana", "pi")
    assert (host.grpc_url, host.device_id, host.name) == (NODE_RPC, DEVICE_ID, "pi")
    assert host.enrolment_address == str(gateway.address)
    assert device.files.host() == host
    client = device.files.identity.client()
    assert client.current is not None and client.pending is None
    assert client.ca_bundle_pem == gateway.authority.ca_pem.decode()
    assert device.files.identity.waiting() is None


@awaiting
async def test_a_pairing_by_pin(scene: Scene) -> None:
    """The same with a PIN, which is used up; what else a PIN is, test_pairing_pin has."""
    gateway, device = scene
    await gateway.pin()
    second = await gateway.pin()
    assert str(second).startswith("2-")
    asked = device.asked
    paired = Deferred.fromCoroutine(device.pairing().run_pin(gateway.address, second))
    await gateway.approve(await asked)
    assert (await paired).name == "pi"
    assert device.kinds() == ["verified", "pin", "identity", "waiting", "approved"]
    again = Deferred.fromCoroutine(device.pairing().run_pin(gateway.address, second))
    error = await refused(again)
    assert isinstance(error, PairingFailed) and error.pin


@awaiting
async def test_another_address_for_the_nodes(scene: Scene) -> None:
    """The owner of the device knows better where the gateway serves nodes."""
    gateway, device = scene
    asked, uri = device.asked, await gateway.line()
    pairing = device.pairing(node_rpc=["tunnel:9000"], transport=Preference.QUIC)
    paired = Deferred.fromCoroutine(pairing.run(uri))
    await gateway.approve(await asked)
    host = await paired
    assert (host.grpc_url, host.transport) == ("tunnel:9000", "quic")
    assert host.quic_address == QUIC


@awaiting
async def test_what_is_kept_of_the_environment(scene: Scene) -> None:
    """Several addresses, and the proxy that it names, for a service; pairing again where it names
    none keeps the old one."""
    gateway, device = scene
    named = {"https_proxy": "http://ana:hunter2@proxy:3128", "no_proxy": "127.0.0.1"}
    for environ in (named, {}):
        asked, uri = device.asked, await gateway.line()
        pairing = device.pairing(node_rpc=["a:1", "b:2"], environ=environ)
        paired = Deferred.fromCoroutine(pairing.run(uri))
        await gateway.approve(await asked)
        host = await paired
        assert (host.grpc_url, host.gateway_urls) == ("a:1", ("a:1", "b:2"))
        assert (host.http_proxy, host.no_proxy) == (named["https_proxy"], "127.0.0.1")


@pytest.mark.parametrize("urls", [["a:1", "a:1"], ["nowhere"]])
def test_addresses_that_are_none(scene: Scene, urls: list[str]) -> None:
    """Are refused before anything is sent."""
    with pytest.raises(Malformed, match="--grpc-url"):
        scene[1].pairing(node_rpc=urls)


@awaiting
async def test_another_ca_is_told_nothing(scene: Scene) -> None:
    """Neither where the line names another one, nor where the file does."""
    gateway, device = scene
    uri = await gateway.line()
    other = Authority.create(trust_domain="palyra", now_ms=gateway.now_ms(), entropy=os.urandom)
    assert isinstance(await refused(device.begin(attrs.evolve(uri, ca=b"x" * 32))), CaMismatch)
    assert isinstance(await refused(device.begin(uri, other.ca_pem)), CaMismatch)
    assert isinstance(await refused(device.begin(uri, b"no certificate")), Malformed)
    assert gateway.desk.calls == []
    assert device.seen == []
    assert not device.files.identity.client().pending


@awaiting
async def test_a_clock_before_the_certificate(scene: Scene) -> None:
    """TLS would refuse it: both times are named, and nothing is sent."""
    gateway, device = scene
    device.ahead_ms = -3 * HOUR_MS
    error = await refused(device.begin(await gateway.line()))
    assert isinstance(error, ClockSkew)
    assert error.here != error.begins and not error.ends
    assert gateway.desk.calls == []


@awaiting
async def test_a_clock_after_the_certificate(scene: Scene) -> None:
    """One that is years ahead is told so too; TLS would refuse the certificate as run out."""
    gateway, device = scene
    device.ahead_ms = 40_000 * HOUR_MS
    error = await refused(device.begin(await gateway.line()))
    assert isinstance(error, ClockSkew)
    assert "is after the gateway's certificate ended (" in error.sentence
    assert gateway.desk.calls == []


@awaiting
async def test_a_clock_that_is_a_little_off(scene: Scene) -> None:
    """Is told and does not matter."""
    gateway, device = scene
    device.ahead_ms = 120_000
    asked = device.asked
    paired = device.begin(await gateway.line())
    await gateway.approve(await asked)
    await paired
    kind, by_ms = device.seen[1]
    assert kind == "clock" and abs(by_ms - 120_000) < 30_000


@awaiting
async def test_a_line_that_was_used(scene: Scene) -> None:
    """Or is unknown: one answer for both."""
    gateway, device = scene
    uri = await gateway.line()
    error = await refused(device.begin(attrs.evolve(uri, token=b"x" * 16)))
    assert isinstance(error, PairingFailed)
    assert device.files.identity.waiting() is None


@awaiting
async def test_an_operator_says_no(scene: Scene) -> None:
    """With the reason; the next start does not wait again."""
    gateway, device = scene
    asked = device.asked
    paired = device.begin(await gateway.line())
    await gateway.reject(await asked)
    error = await refused(paired)
    assert isinstance(error, PairingRejected)
    assert "not ours" in error.sentence
    assert device.files.identity.waiting() is None
    assert device.files.host() is None


@awaiting
async def test_nobody_decides(scene: Scene) -> None:
    """The request expires."""
    gateway, device = scene
    asked = device.asked
    paired = device.begin(await gateway.line())
    request_id: Any = await asked
    await gateway.approvals._expire_by_id(request_id)
    assert isinstance(await refused(paired), PairingExpired)
    assert device.files.identity.waiting() is None


@awaiting
async def test_a_gateway_that_goes_away_while_a_device_waits(scene: Scene) -> None:
    """It is told once, and the pairing goes on when the gateway is back."""
    gateway, device = scene
    asked, missed = device.asked, device.missed
    paired = device.begin(await gateway.line())
    request_id = await asked
    await gateway.stop()
    assert "Cannot reach" in await missed
    await gateway.start()
    await gateway.approve(request_id)
    assert (await paired).name == "pi"
    assert device.kinds().count("retrying") == 1


@awaiting
async def test_a_gateway_that_cannot_answer_now(scene: Scene) -> None:
    """A fault of the gateway's own is no decision."""
    gateway, device = scene
    asked, missed = device.asked, device.missed
    gateway.desk.status_error = DiskFull("/srv")
    paired = device.begin(await gateway.line())
    request_id = await asked
    await missed
    assert device.files.identity.waiting() is not None
    gateway.desk.status_error = None
    await gateway.approve(request_id)
    await paired


@awaiting
async def test_a_gateway_that_refuses_to_say(scene: Scene) -> None:
    """There is nothing to wait for any more."""
    gateway, device = scene
    gateway.desk.status_error = VerificationFailed("a reason")
    error = await refused(device.begin(await gateway.line()))
    assert isinstance(error, RemoteRefusal)
    assert device.files.identity.waiting() is None


@awaiting
async def test_a_restart_while_it_waits(scene: Scene) -> None:
    """The pairing goes on without the line, with the same key."""
    gateway, device = scene
    asked = device.asked
    paired = device.begin(await gateway.line())
    request_id = await asked
    paired.cancel()
    assert isinstance(await refused(paired), CancelledError)
    csr = device.files.identity.new_csr(DEVICE_ID)
    waiting = device.files.identity.waiting()
    assert waiting is not None and waiting.request_id == request_id
    resumed = Deferred.fromCoroutine(device.pairing().resume(waiting))
    assert device.kinds()[-1] == "waiting"
    assert device.files.identity.new_csr(DEVICE_ID) == csr
    await gateway.approve(request_id)
    assert (await resumed).device_id == DEVICE_ID


@awaiting
async def test_a_crash_between_the_two_files(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The certificate is there and the host file is not: the next start finishes it."""
    gateway, device = scene
    asked = device.asked

    def crash(host: HostFile) -> None:
        raise GatewayUnreachable("power", "cut")

    with monkeypatch.context() as patch:
        patch.setattr(device.files, "keep_host", crash)
        paired = device.begin(await gateway.line())
        await gateway.approve(await asked)
        await refused(paired)
    kept = device.files.identity.client().current
    waiting = device.files.identity.waiting()
    assert kept is not None and waiting is not None
    host = await Deferred.fromCoroutine(device.pairing().resume(waiting))
    assert device.files.host() == host
    assert device.files.identity.client().current == kept


@awaiting
async def test_a_clock_that_is_set_back_while_it_waits(scene: Scene) -> None:
    """A status proof is still newer than the last one."""
    gateway, device = scene
    asked = device.asked
    paired = device.begin(await gateway.line())
    request_id = await asked
    polled = len(gateway.desk.calls)
    device.ahead_ms = -30_000
    while len(gateway.desk.calls) < polled + 3:
        await turn()
    await gateway.approve(request_id)
    await paired


@awaiting
async def test_stop_at_any_moment(scene: Scene) -> None:
    """Cancelled while it looks up, connects, or begins, a pairing ends at once."""
    gateway, device = scene
    uri = await gateway.line()
    for turns in (0, 1, 5):
        paired = device.begin(uri)
        await turn(turns)
        paired.cancel()
        await refused(paired)
    assert device.files.identity.waiting() is None


@awaiting
async def test_nobody_listens(scene: Scene) -> None:
    """A sentence with the address."""
    gateway, device = scene
    uri = await gateway.line()
    await gateway.stop()
    error = await refused(device.begin(uri))
    assert isinstance(error, GatewayUnreachable)
    assert error.sentence == f"Cannot reach {gateway.address}: connection refused."


@pytest.fixture
def paired(tmp_path: Path) -> tuple[NodeFiles, PairedDevice]:
    """A device that belongs to the gateway at a:7443."""
    files = NodeFiles(tmp_path)
    files.make()
    device = PairedDevice(files.identity.path, OURS)
    host = HostFile(1, "a:7444", DEVICE_ID, 500, "", NOW_MS, NOW_MS, "pi")
    files.keep_host(msgspec.structs.replace(host, enrolment_address="a:7443"))
    return files, device


def waits(files: NodeFiles, gateway: str, ca: Authority) -> PairingFile:
    """A pairing session that waits there."""
    waiting = PairingFile(1, "ab" * 16, "R", gateway, ca.ca_pem.decode())
    files.identity.keep_waiting(waiting)
    return waiting


def test_what_a_start_goes_on_with(paired: tuple[NodeFiles, PairedDevice]) -> None:
    """Before there is a gateway, with whatever waits."""
    files, _ = paired
    assert unfinished(files) is None
    waiting = waits(files, "b:7443", OURS)
    files.host_file.unlink()
    assert unfinished(files) == waiting


def test_a_rejoin_sees_to_itself(paired: tuple[NodeFiles, PairedDevice]) -> None:
    """What waits at the device's own gateway is left to it."""
    files, _ = paired
    waiting = waits(files, "a:7443", OURS)
    assert unfinished(files) is None
    assert files.identity.waiting() == waiting


@pytest.mark.parametrize("ca_pem", [OTHERS.ca_pem.decode(), "damaged"])
def test_a_pairing_with_another_gateway_was_given_up(
    paired: tuple[NodeFiles, PairedDevice], ca_pem: str
) -> None:
    """It is dropped, before and after its key is used for something else."""
    files, device = paired
    for _ in range(2):
        waiting = waits(files, "b:7443", OTHERS)
        files.identity.keep_waiting(msgspec.structs.replace(waiting, ca_pem=ca_pem))
        assert unfinished(files) is None
        assert files.identity.waiting() is None
        device.store.new_csr(DEVICE_ID)


def test_a_pairing_that_a_crash_cut_off(paired: tuple[NodeFiles, PairedDevice]) -> None:
    """Its certificate is there and its gateway's address is not: it is finished."""
    files, device = paired
    waiting = waits(files, "b:7443", OTHERS)
    pem = device.issue(device.store.new_csr(DEVICE_ID), by=OTHERS)
    device.store.accept(DEVICE_ID, pem, OTHERS.ca_pem.decode())
    assert unfinished(files) == waiting
