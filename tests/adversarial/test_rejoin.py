"""Rejoin: whoever holds the recorded identity key comes back, and nobody else."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509

from palyra.cli.client import GatewayRefused
from palyra.console.models import Decision, PairingAnswer, Remove, RemoveAnswer
from tests.adversarial import forging
from tests.adversarial.device import SOURCES, Device, wrong
from tests.adversarial.forging import csr, fresh_key
from tests.adversarial.guessing import end, guess
from tests.adversarial.house import Gateway
from tests.adversarial.wire import lp, messages, ulid

REFUSED = ("PERMISSION_DENIED", "rejoin_refused")
SESSION_OVER = ("FAILED_PRECONDITION", "pairing_session_unknown")
FLOOR_S = 0.05


@pytest.fixture
def pi(gateway: Gateway) -> Device:
    """A device that was paired."""
    return Device(gateway, "pi").enrol()


def rekeyed(device: Device) -> Device:
    """The device makes a new TLS key, as it does before each rejoin."""
    device.key = fresh_key()
    device.csr = csr(device.key, device.device_id)
    return device


def impostor(device: Device) -> Device:
    """Somebody who knows the device's id, and has a key of his own."""
    return Device(device.gateway, device_id=device.device_id)


def try_to(device: Device, opened: Any, purpose: str = "rejoin") -> Any:
    """Complete a rejoin in an opened session."""
    return device.complete(device.answer(opened, purpose))


def test_the_identity_key_brings_a_device_back(gateway: Gateway, pi: Device) -> None:
    """At once, without an approval; every older certificate is superseded."""
    old_pem, old_key = pi.certificate_pem, pi.key
    _, answer = rekeyed(pi).rejoin()
    assert answer.paired and not answer.mtls_client_private_key_pem and answer.renew_after_s > 0
    assert answer.ca_bundle_pem.encode() == gateway.ca_pem
    assert pi.accept(answer).register().accepted
    with gateway.unmoved():
        refusal = pi.refused(pi.register, old_pem, old_key)
    assert refusal.kind == ("PERMISSION_DENIED", "certificate_superseded")


def test_the_same_request_gets_the_same_certificate(gateway: Gateway, pi: Device) -> None:
    """A lost answer is asked for again in a new session."""
    first = rekeyed(pi).rejoin()[1]
    with gateway.unmoved():
        second = pi.rejoin()[1]
    assert second.mtls_client_certificate_pem == first.mtls_client_certificate_pem


def test_an_unknown_id_and_a_wrong_key_look_alike(gateway: Gateway, pi: Device) -> None:
    """Nobody learns which devices there are: not by the answer to Begin, nor by the refusal."""
    seen = []
    for who in (impostor(pi), Device(gateway)):
        with gateway.unmoved():
            begun = time.monotonic()
            opened = who.begin(who.offer_rejoin())
            assert time.monotonic() - begun >= FLOOR_S
            begun = time.monotonic()
            refusal = who.refused(try_to, who, opened)
            assert time.monotonic() - begun >= FLOOR_S
        fields = [
            (field.name, len(value) if isinstance(value, str | bytes) else 0)
            for field, value in opened.ListFields()
        ]
        seen.append((refusal.kind, refusal.text, str(fields), gateway.tries(who.source)))
    assert seen[0] == seen[1]
    assert seen[0][0] == REFUSED


def test_a_recorded_complete_is_worthless(gateway: Gateway, pi: Device) -> None:
    """The challenge is single use: again in its session, and in another one."""
    opened = pi.begin(pi.offer_rejoin())
    message = rekeyed(pi).answer(opened, "rejoin")
    assert pi.complete(message).paired
    thief = impostor(pi)
    with gateway.unmoved():
        assert thief.refused(thief.complete, message).kind == SESSION_OVER
        message.session_id = thief.begin(thief.offer_rejoin()).session_id
        assert thief.refused(thief.complete, message).kind == REFUSED


def for_another_ca(device: Device, opened: Any) -> Any:
    """Signed for another gateway, whose operator relays it here."""
    stranger = impostor(device)
    stranger.identity, stranger.ca_der = device.identity, forging.strange_root().der
    return stranger.answer(opened, "rejoin")


def by_another_key(device: Device, opened: Any) -> Any:
    """The recorded key is named, and another one has signed."""
    message = impostor(device).answer(opened, "rejoin")
    message.device_signing_public = device.identity_public
    return message


def of_small_order(device: Device, opened: Any) -> Any:
    """A key for which one signature holds for everything."""
    message = device.answer(opened, "rejoin")
    message.device_signing_public = (1).to_bytes(32, "little")
    message.enrolment.identity_signature = (1).to_bytes(32, "little") + bytes(32)
    message.challenge_signature = (1).to_bytes(32, "little") + bytes(32)
    return message


def with_a_status_proof(device: Device, opened: Any) -> Any:
    """A signature of the right key over something else."""
    message = device.answer(opened, "rejoin")
    message.enrolment.identity_signature = device.identity.sign(
        lp(b"palyra-status-v1", opened.session_id.encode(), device.device_id.encode(), device.ca)
    )
    return message


def without_enrolment(device: Device, opened: Any) -> Any:
    """As version 1 would say it."""
    message = device.answer(opened, "rejoin", enrolment=False)
    return message


def of_another_csr(device: Device, opened: Any) -> Any:
    """Another request than the one that was signed."""
    message = device.answer(opened, "rejoin")
    message.enrolment.csr_der = csr(fresh_key(), device.device_id)
    return message


UNPROVEN: dict[str, Callable[[Device, Any], Any]] = {
    "for another CA": for_another_ca,
    "by another key": by_another_key,
    "by a key of small order": of_small_order,
    "with a status proof": with_a_status_proof,
    "for pairing by line": lambda device, opened: device.answer(opened, "pair-uri"),
    "for pairing by PIN": lambda device, opened: device.answer(opened, "pair-pin"),
    "of another request": of_another_csr,
}


def test_what_does_not_prove_the_key_is_refused(gateway: Gateway, pi: Device) -> None:
    """One refusal for all of it, held against no source; nothing is issued."""
    for what, make in UNPROVEN.items():
        pi.source = next(SOURCES)
        message = make(pi, pi.begin(pi.offer_rejoin()))
        with gateway.unmoved():
            assert pi.refused(pi.complete, message).kind == REFUSED, what
        assert gateway.tries(pi.source) == 0, what
    assert pi.register().accepted


def test_a_rejoin_needs_a_request_for_a_certificate(gateway: Gateway, pi: Device) -> None:
    """A message without the extension is refused, whatever it signs."""
    opened = pi.begin(pi.offer_rejoin())
    with gateway.unmoved():
        refusal = pi.refused(pi.complete, without_enrolment(pi, opened))
    assert refusal.status in ("FAILED_PRECONDITION", "PERMISSION_DENIED", "INVALID_ARGUMENT")


def test_a_session_is_for_the_id_it_was_opened_with(gateway: Gateway, pi: Device) -> None:
    """Begin with one id and Complete with another, both paired, by the other's rightful key."""
    other = Device(gateway, "other").enrol()
    opened = other.begin(pi.offer_rejoin())
    with gateway.unmoved():
        refusal = other.refused(try_to, other, opened)
    assert refusal.kind in (REFUSED, ("FAILED_PRECONDITION", "verification_failed"))


def test_a_rejoin_session_pairs_nobody(gateway: Gateway, pi: Device) -> None:
    """Nor does a pairing session let anybody rejoin: each Complete is of its Begin."""
    token = gateway.token()
    new = Device(gateway)
    opened = new.begin(new.offer_rejoin())
    with gateway.unmoved():
        message = new.answer(opened, "pair-uri", proof=token)
        refusal = new.refused(new.complete, message)
        assert refusal.kind in (REFUSED, ("FAILED_PRECONDITION", "pairing_failed"))
        opened = pi.begin(pi.offer_token(token))
        message = pi.answer(opened, "rejoin")
        assert pi.refused(pi.complete, message).status == "FAILED_PRECONDITION"
    assert Device(gateway).pair_by_token(token)


@pytest.mark.parametrize("kind", ["desktop", "cli"])
def test_a_rejoin_does_not_change_what_a_client_is(gateway: Gateway, pi: Device, kind: str) -> None:
    """client_kind was fixed by the approval."""
    pi.kind = kind
    with gateway.unmoved():
        refusal = pi.refused(pi.rejoin)
    assert refusal.kind in (REFUSED, ("FAILED_PRECONDITION", "verification_failed"))


def test_a_right_key_does_not_excuse_a_strange_request(gateway: Gateway, pi: Device) -> None:
    """Well signed, and still only for a certificate of the device's own new key."""
    for request in (
        csr(fresh_key(), ulid()),
        csr(fresh_key(), pi.device_id, x509.BasicConstraints(ca=True, path_length=0)),
        bytes(64),
    ):
        pi.csr = request
        with gateway.unmoved():
            refusal = pi.refused(pi.rejoin)
        assert refusal.kind == ("FAILED_PRECONDITION", "verification_failed")
    assert pi.register().accepted


def test_revoked_is_told_to_the_holder_of_the_key_only(gateway: Gateway, pi: Device) -> None:
    """Whoever merely knows the id hears what strangers hear."""
    gateway.revoke(pi.device_id, "laptop stolen")
    thief, stranger = impostor(pi), Device(gateway)
    with gateway.unmoved():
        told = pi.refused(pi.rejoin)
        untold, unknown = thief.refused(thief.rejoin), stranger.refused(stranger.rejoin)
    assert told.kind == ("PERMISSION_DENIED", "device_revoked")
    assert untold.kind == REFUSED and untold.text == unknown.text


def test_another_key_under_an_old_id_needs_a_person(gateway: Gateway, pi: Device) -> None:
    """Pairing an id with another key changes nothing before its approval, and then ends the old."""
    assert pi.register().accepted
    thief = impostor(pi)
    opened, answer = thief.pair_by_token(gateway.token())
    (request,) = [r for r in gateway.pairing().requests if r.request_id == answer.request_id]
    assert request.seen_before.kind == "another_key"
    path = f"pairing/requests/{answer.request_id}/approve"
    with gateway.unmoved():
        with pytest.raises(GatewayRefused) as caught:
            gateway.console.post(path, Decision(), PairingAnswer)
        assert caught.value.problem.code == "identity_changed"
        assert thief.status(opened.session_id).status == "pending_approval"
    assert pi.register().accepted
    thief.pick_up(opened, answer)
    with gateway.unmoved():
        assert pi.refused(pi.rejoin).kind == REFUSED
        assert pi.refused(pi.register).kind == ("PERMISSION_DENIED", "device_revoked")


def test_a_removed_device_is_unknown(gateway: Gateway, pi: Device) -> None:
    """Its record is gone: its key proves nothing, its certificates stay refused."""
    gateway.console.post(f"devices/{pi.device_id}/remove", Remove(), RemoveAnswer)
    with gateway.unmoved():
        assert pi.refused(pi.rejoin).kind == REFUSED
        refusal = pi.refused(pi.register)
    assert refusal.status == "PERMISSION_DENIED"
    assert refusal.code in ("device_revoked", "certificate_unknown")


def test_six_an_hour(gateway: Gateway, pi: Device) -> None:
    """Counted after a verified signature: others cannot use a device's share up."""
    for _ in range(3):
        thief = impostor(pi)
        assert thief.refused(thief.rejoin).kind == REFUSED
    for _ in range(6):
        assert rekeyed(pi).rejoin()[1].paired
    rekeyed(pi)
    with gateway.unmoved():
        refusal = pi.refused(pi.rejoin)
        assert refusal.status == "RESOURCE_EXHAUSTED", refusal
        thief = impostor(pi)
        assert thief.refused(thief.rejoin).kind == REFUSED


def test_refusals_are_held_against_nobody(gateway: Gateway, pi: Device) -> None:
    """An identity key cannot be guessed, so whoever tries keeps out neither the device behind the
    same address nor anybody's PIN."""
    thief = impostor(pi)
    with gateway.unmoved():
        for _ in range(5):
            assert thief.refused(thief.rejoin).kind == REFUSED
    assert gateway.tries(thief.source) == 0
    pi.source = thief.source
    assert rekeyed(pi).rejoin()[1].paired


def test_guesses_at_pins_keep_no_device_out(gateway: Gateway, pi: Device) -> None:
    """A source that may try no PIN any more may still bring a device back."""
    code = gateway.pin()
    guesser = Device(gateway)
    for _ in range(3):
        guess(guesser, wrong(code.pin))
    refusal = guesser.refused(guesser.begin, guesser.offer_pin())
    assert refusal.kind == ("RESOURCE_EXHAUSTED", "pairing_limited")
    pi.source = guesser.source
    assert rekeyed(pi).rejoin()[1].paired
    end(gateway, code)


def test_the_enrolment_listener_asks_for_no_more_than_it_needs(
    gateway: Gateway, pi: Device
) -> None:
    """A rejoin answers with certificates only: no key, no token, no other device's data."""
    answer = rekeyed(pi).rejoin()[1]
    named = {field.name for field, _ in answer.ListFields()}
    assert named <= {
        "v",
        "paired",
        "identity_fingerprint",
        "transcript_hash",
        "mtls_client_certificate_pem",
        "gateway_ca_certificate_pem",
        "cert_expires_at_unix_ms",
        "ca_bundle_pem",
        "renew_after_s",
        "request_id",
    }
    assert isinstance(answer, messages.CompletePairingSessionResponse)
