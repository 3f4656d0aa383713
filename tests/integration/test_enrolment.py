"""Strangers at the enrolment listener: what does not hold is refused and makes no request."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import attrs
import pytest

from palyra.core.devices import ClientKind
from palyra.core.pairing import CodeMethod
from palyra.core.pairing_uri import PairingUri, spell_token
from palyra.pki.csr import make_csr
from palyra.wire import pairing as pairing_wire
from palyra.wire.service import messages
from tests.integration.device import CALL_S, Device, Refusal, refusal
from tests.integration.house import Gateway, House

FAILED = ("FAILED_PRECONDITION", "pairing_failed")


@pytest.fixture(scope="module")
def gateway(quiet_gateway: Gateway) -> Gateway:
    """A gateway that is patient with this address."""
    return quiet_gateway


@pytest.fixture
def device(gateway: Gateway) -> Device:
    """A device nobody knows."""
    return Device(gateway)


def token_of(gateway: Gateway) -> str:
    """The token of a new pairing line."""
    return PairingUri.parse(gateway.line()).proof


def kind(refused: Refusal) -> tuple[str, str]:
    """Status and code."""
    return refused.status, refused.code


def test_a_wrong_token_is_refused_without_saying_why(gateway: Gateway, device: Device) -> None:
    """Unknown and malformed tokens look the same from outside; without one nothing was tried."""
    before = gateway.recorded()
    seen = {kind(refusal(device.begin, t)) for t in (spell_token(bytes(16)), "x")}
    assert seen == {FAILED}
    assert kind(refusal(device.begin, "")) == ("INVALID_ARGUMENT", "malformed")
    assert gateway.recorded() == before


def test_a_right_token_does_not_excuse_a_wrong_proof(gateway: Gateway, device: Device) -> None:
    """A session opened with a token must be completed with it; the code is not used up by that."""
    token = token_of(gateway)
    before = gateway.recorded()
    opened = device.begin(token)
    wrong = attrs.evolve(device.proof(opened, token), proof=spell_token(bytes(16)))
    assert kind(refusal(lambda: device.complete(wrong))) == FAILED
    assert gateway.recorded() == before
    opened = device.begin(token)
    assert device.complete(device.proof(opened, token)).request_id


def test_a_session_takes_one_complete(gateway: Gateway, device: Device) -> None:
    """A refused Complete ends its session; an unknown or malformed session id says no more."""
    token = token_of(gateway)
    opened = device.begin(token)
    good = device.proof(opened, token)
    bad = attrs.evolve(good, challenge_signature=bytes(64))
    before = gateway.recorded()
    assert kind(refusal(lambda: device.complete(bad))) == (
        "FAILED_PRECONDITION",
        "verification_failed",
    )
    over = ("FAILED_PRECONDITION", "pairing_session_unknown")
    assert kind(refusal(lambda: device.complete(good))) == over
    unknown = attrs.evolve(good, session_id="0" * 32)
    assert kind(refusal(lambda: device.complete(unknown))) == over
    malformed = attrs.evolve(good, session_id="../../etc/passwd")
    assert refusal(lambda: device.complete(malformed)).status == "INVALID_ARGUMENT"
    assert kind(refusal(lambda: device.status("0" * 32))) == over
    assert gateway.recorded() == before


def test_a_replayed_complete_is_worthless(gateway: Gateway, device: Device) -> None:
    """What was recorded from the wire neither pairs again nor fits another session."""
    token = token_of(gateway)
    opened = device.begin(token)
    proof = device.proof(opened, token)
    device.complete(proof)
    before = gateway.recorded()
    over = ("FAILED_PRECONDITION", "pairing_session_unknown")
    assert kind(refusal(lambda: device.complete(proof))) == over
    other_token = token_of(gateway)
    minted = gateway.recorded()
    with_code = {table: minted[table] for table in ("pairing_codes", "audit")}
    other = device.begin(other_token)
    moved = attrs.evolve(proof, session_id=other.begun.session_id, proof=other_token)
    refused = refusal(lambda: device.complete(moved))
    assert kind(refused) == ("FAILED_PRECONDITION", "verification_failed")
    assert gateway.recorded() == before | with_code


def test_a_used_token_opens_nothing(gateway: Gateway, device: Device) -> None:
    """The token is used up when the request is committed, not when it is approved."""
    token = token_of(gateway)
    device.complete(device.proof(device.begin(token), token))
    assert kind(refusal(lambda: device.begin(token))) == FAILED


def test_of_two_racing_sessions_one_wins(gateway: Gateway) -> None:
    """Two devices with one token, both sessions open, both Completes at once: one request."""
    token = token_of(gateway)
    devices = [Device(gateway, "left"), Device(gateway, "right")]
    proofs = [each.proof(each.begin(token), token) for each in devices]
    before = len(gateway.recorded()["pairing_requests"])

    def finish(index: int) -> object:
        try:
            return devices[index].complete(proofs[index])
        except Exception as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        ends = list(pool.map(finish, range(2)))
    won = [each for each in ends if isinstance(each, pairing_wire.Completed)]
    assert len(won) == 1, ends
    assert len(gateway.recorded()["pairing_requests"]) == before + 1
    loser = next(each for each in ends if isinstance(each, Exception))

    def again() -> None:
        raise loser

    assert kind(refusal(again)) == FAILED


def changed(device: Device, token: str, **changes: object) -> Refusal:
    """Complete with an honest proof in which something was changed on the way."""
    message = pairing_wire.write_complete(device.proof(device.begin(token), token))
    for name, value in changes.items():
        part = message.enrolment if name in ("csr_der", "announcement") else message
        if name == "device_id":
            message.device_id.ulid = str(value)
        elif name == "enrolment":
            message.ClearField("enrolment")
        else:
            setattr(part, name, value)
    return refusal(lambda: device.send(message))


def test_a_csr_for_another_device_is_refused(gateway: Gateway, device: Device) -> None:
    """A well-signed CSR whose subject is another device's id."""
    device.csr = make_csr(device.key, Device(gateway).device_id)
    token = token_of(gateway)
    before = gateway.recorded()
    refused = refusal(lambda: device.complete(device.proof(device.begin(token), token)))
    assert kind(refused) == ("FAILED_PRECONDITION", "verification_failed")
    assert "CN=" in refused.details
    assert gateway.recorded() == before


def test_what_was_signed_cannot_be_swapped(gateway: Gateway, device: Device) -> None:
    """Another CSR, announcement, device id or ephemeral key after signing: all refused."""
    other = Device(gateway)
    swapped = make_csr(other.key, device.device_id)
    token = token_of(gateway)
    before = gateway.recorded()
    for changes in (
        {"csr_der": swapped},
        {"announcement": b'{"name":"innocent"}'},
        {"device_id": other.device_id},
        {"transcript_mac": bytes(32)},
    ):
        refused = changed(device, token, **changes)
        assert kind(refused) == ("FAILED_PRECONDITION", "verification_failed"), changes
    assert gateway.recorded() == before


def test_five_faults_burn_the_session_but_not_the_gateway(gateway: Gateway, device: Device) -> None:
    """A code takes five faulty handshakes; the sixth try is as for an unknown code."""
    token = token_of(gateway)
    for _ in range(5):
        changed(device, token, transcript_mac=bytes(32))
    assert kind(refusal(lambda: device.begin(token))) == FAILED


def test_malformed_fields_are_invalid(gateway: Gateway, device: Device) -> None:
    """Sizes and forms are checked before anything else is done with a field."""
    token = token_of(gateway)
    before = gateway.recorded()
    for changes in (
        {"device_id": "not-a-ulid"},
        {"device_id": device.device_id.lower()},
        {"client_kind": "toaster"},
        {"csr_der": bytes(4097)},
        {"announcement": b" " * 65_537},
        {"v": 2},
    ):
        refused = changed(device, token, **changes)
        assert refused.status == "INVALID_ARGUMENT", (changes, refused)
    assert gateway.recorded() == before


def test_an_oversized_message_is_never_parsed(gateway: Gateway, device: Device) -> None:
    """The listener takes messages of a little over 64 KiB and no more."""
    token = token_of(gateway)
    before = gateway.recorded()
    refused = changed(device, token, announcement=b" " * 200_000)
    assert refused.status == "RESOURCE_EXHAUSTED"
    assert gateway.recorded() == before


def test_a_device_without_a_csr_is_refused(gateway: Gateway, device: Device) -> None:
    """Version 1 would have the gateway make the key: not unless the operator allows it."""
    refused = changed(device, token_of(gateway), enrolment=None)
    assert kind(refused) == ("FAILED_PRECONDITION", "csr_required")


def test_a_pin_in_clear_is_not_looked_at(device: Device, gateway: Gateway) -> None:
    """Sent as the published message has it, right or wrong: not unless the operator allows it; and
    no method at all is none."""
    codes = (gateway.pin(), "418207", token_of(gateway))
    before = gateway.recorded()
    with device.enrolment() as stub:
        for code in codes:
            begin = pairing_wire.Begin(ClientKind.NODE, CodeMethod.PIN, code)
            message = pairing_wire.write_begin(begin)
            refused = refusal(stub.BeginPairingSession, message, CALL_S)
            assert kind(refused) == ("FAILED_PRECONDITION", "csr_required")
        empty = messages.BeginPairingSessionRequest(v=1, client_kind="node")
        refused = refusal(lambda: stub.BeginPairingSession(empty, timeout=CALL_S))
    assert refused.status == "INVALID_ARGUMENT"
    assert gateway.recorded() == before


def test_only_the_device_that_paired_may_ask_for_its_status(
    gateway: Gateway, device: Device
) -> None:
    """A status question needs the identity key and a counter that rises."""
    token = token_of(gateway)
    opened = device.begin(token)
    device.complete(device.proof(opened, token))
    session_id = opened.begun.session_id
    thief = Device(gateway, device_id=device.device_id)
    refused = ("FAILED_PRECONDITION", "verification_failed")
    assert kind(refusal(lambda: thief.status(session_id))) == refused
    assert device.status(session_id, counter=2**50).status == "pending_approval"
    assert kind(refusal(lambda: device.status(session_id, counter=2**50))) == refused


def test_three_wrong_tries_block_the_source(house: House) -> None:
    """After three the address waits, whatever it then brings; the operator sees the tries."""
    gateway = house.gateway().start()
    device = Device(gateway)
    for _ in range(3):
        assert kind(refusal(lambda: device.begin(spell_token(bytes(16))))) == FAILED
    token = token_of(gateway)
    refused = refusal(lambda: device.begin(token))
    assert kind(refused) == ("RESOURCE_EXHAUSTED", "pairing_limited")
    listed = json.loads(gateway.cli("pairing", "list", "--json").out)
    assert listed["failed_tries"] == [{"source": "127.0.0.1", "count": 3}]
    node = house.node().start(gateway.line())
    assert node.process.wait() == 1
    assert "Too many wrong tries from this address" in node.process.output()


def test_a_source_has_eight_open_sessions(house: House) -> None:
    """The ninth is refused until one ends; finishing one makes room."""
    gateway = house.gateway().start()
    device = Device(gateway)
    token = token_of(gateway)
    opened = [device.begin(token) for _ in range(8)]
    refused = refusal(lambda: device.begin(token))
    assert kind(refused) == ("RESOURCE_EXHAUSTED", "pairing_limited")
    assert device.complete(device.proof(opened[0], token)).request_id
    second = token_of(gateway)
    assert device.begin(second).begun.session_id


def test_a_relay_with_another_ca_gets_nothing(house: House, gateway: Gateway) -> None:
    """A pairing line whose address leads to another gateway: the device sends nothing and stops."""
    other = house.gateway("other").start()
    honest = PairingUri.parse(gateway.line())
    port = int(other.enrolment.rpartition(":")[2])
    before = other.recorded()
    node = house.node().start(str(attrs.evolve(honest, port=port)))
    assert node.process.wait() == 1
    expected = "This gateway's CA is not the one in the pairing line; nothing was sent."
    assert expected in node.process.output()
    assert other.recorded() == before
    assert json.loads(other.cli("pairing", "list", "--json").out)["failed_tries"] == []
    assert not (node.root / "node-host" / "identity" / "pairing.json").exists()
