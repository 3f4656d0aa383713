"""Pairing by PIN: what a guess costs, and that nothing is told by it."""

from __future__ import annotations

import hmac
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.adversarial.device import Device, parts, wrong
from tests.adversarial.guessing import end, guess, opened_for
from tests.adversarial.house import Gateway
from tests.adversarial.wire import CALL_S, Refusal, messages

FAILED = ("FAILED_PRECONDITION", "pairing_failed")
FLOOR_S = 0.05


@pytest.fixture(scope="module")
def config() -> str:
    """Its own gateway: after fifty wrong guesses nobody may try a PIN for a while."""
    return ""


def test_the_right_pin_pairs(gateway: Gateway, device: Device) -> None:
    """Both sides confirm; the certificate is for the key that the device made."""
    code = gateway.pin()
    opened, answer = device.pair_by_pin(code.pin)
    assert not answer.paired and answer.reason == "pending_approval"
    assert not answer.mtls_client_certificate_pem
    assert gateway.state_of(code) == "used"
    again = device.status(opened.session_id)
    assert again.status == "pending_approval" and again.pake_confirm == answer.pake_confirm
    assert device.pick_up(opened, answer).register().accepted


def test_a_pin_is_nowhere_on_record(gateway: Gateway, device: Device) -> None:
    """Neither the PIN nor a session id is in the database, the snapshot or the log in clear."""
    code = gateway.pin()
    opened, answer = device.pair_by_pin(code.pin)
    device.pick_up(opened, answer)
    kept = [file for file in gateway.root.rglob("*") if file.is_file()]
    kept.append(gateway.process.log)
    session_id = opened.session_id.encode()
    for file in kept:
        data = file.read_bytes()
        assert session_id not in data and opened.session_id[:16].encode() not in data, file
        assert bytes.fromhex(opened.session_id) not in data, file
    shown = gateway.process.log.read_bytes() + repr(gateway.rows("pairing_codes")).encode()
    assert f"'{parts(code.pin)[1]}'".encode() not in shown


def test_a_wrong_pin_is_counted_and_told_nothing(gateway: Gateway) -> None:
    """Each wrong guess counts against code and source; nothing keyed comes back."""
    code = gateway.pin()
    device = Device(gateway)
    with gateway.unmoved(but=code, guesses=1):
        refusal = guess(device, wrong(code.pin))
    assert refusal.kind == FAILED
    assert gateway.tries(device.source) == 1
    assert Device(gateway).pair_by_pin(code.pin)


def test_five_wrong_guesses_burn_a_code(gateway: Gateway) -> None:
    """The sixth guess fails, even if it is right; the nameplate looks like any other."""
    code = gateway.pin()
    with gateway.unmoved(but=code, guesses=5):
        seen = {guess(Device(gateway), wrong(code.pin)) for _ in range(5)}
    assert gateway.state_of(code) == "burnt"
    burnt = [each for each in gateway.pairing().codes if each.code_id == code.code.code_id]
    assert [each.state for each in burnt] == ["burnt"] and burnt[0].failed == 5
    with gateway.unmoved():
        late = Device(gateway)
        seen |= {guess(late, code.pin)}
    assert {refusal.kind for refusal in seen} == {FAILED}
    assert gateway.tries(late.source) == 1
    assert len({refusal.text for refusal in seen}) == 1, "burnt is told apart from wrong"


def test_three_wrong_guesses_block_a_source(gateway: Gateway) -> None:
    """Two are left for the owner, whom one attacker cannot lock out."""
    code, attacker = gateway.pin(), Device(gateway)
    with gateway.unmoved(but=code, guesses=3):
        assert {guess(attacker, wrong(code.pin)).kind for _ in range(3)} == {FAILED}
        refusal = attacker.refused(opened_for, attacker, code)
        assert refusal.kind == ("RESOURCE_EXHAUSTED", "pairing_limited")
        refusal = attacker.refused(attacker.begin, attacker.offer_token("x" * 22))
        assert refusal.kind == ("RESOURCE_EXHAUSTED", "pairing_limited")
    assert gateway.state_of(code) == "active"
    assert Device(gateway).pair_by_pin(code.pin)


def test_open_sessions_are_no_way_around_the_limit(gateway: Gateway) -> None:
    """Eight sessions that were opened before, and completed at the same time: three guesses."""
    code, attacker = gateway.pin(), Device(gateway)
    opened = [opened_for(attacker, code) for _ in range(8)]
    messages = [attacker.prove(each, wrong(code.pin))[0] for each in opened]
    with gateway.unmoved(but=code, guesses=3), ThreadPoolExecutor(8) as pool:

        def finish(message: Any) -> Refusal:
            return attacker.refused(attacker.complete, message)

        kinds = [refusal.kind for refusal in pool.map(finish, messages)]
    assert sorted(kinds) == sorted([FAILED] * 3 + [("RESOURCE_EXHAUSTED", "pairing_limited")] * 5)
    end(gateway, code)


def test_many_sources_at_once_have_five_guesses(gateway: Gateway) -> None:
    """Attempts are reserved before they are verified: twelve at once are still five."""
    code = gateway.pin()
    devices = [Device(gateway) for _ in range(12)]
    proofs = [device.prove(opened_for(device, code), wrong(code.pin))[0] for device in devices]
    with gateway.unmoved(but=code, guesses=5), ThreadPoolExecutor(12) as pool:

        def finish(index: int) -> Refusal:
            return devices[index].refused(devices[index].complete, proofs[index])

        statuses = {refusal.status for refusal in pool.map(finish, range(12))}
    assert statuses <= {"FAILED_PRECONDITION", "RESOURCE_EXHAUSTED"}
    assert gateway.state_of(code) == "burnt"


def test_unknown_expired_used_and_burnt_look_alike(gateway: Gateway) -> None:
    """The same exchange, the same sentence, no sooner than 50 ms, and charged to the source."""
    used, burnt, active = gateway.pin(), gateway.pin(), gateway.pin()
    Device(gateway).pair_by_pin(used.pin)
    for _ in range(5):
        guess(Device(gateway), wrong(burnt.pin))
    seen = {}
    nameplates = {
        "active": active.pin,
        "used": used.pin,
        "burnt": burnt.pin,
        "unknown": "19-418207",
        "none": "0-418207",
        "absurd": f"{2**32 - 1}-418207",
    }
    for what, code in nameplates.items():
        device, tried = Device(gateway), wrong(code) if what == "active" else code
        begun = time.monotonic()
        opened = device.begin(device.offer_pin(parts(tried)[0]))
        assert time.monotonic() - begun >= FLOOR_S, what
        assert len(opened.pake.share) == 33 and opened.pake.suite == 1, what
        assert len(opened.challenge) == 32 and len(opened.session_id) == 32, what
        message, _ = device.prove(opened, tried)
        begun = time.monotonic()
        refusal = device.refused(device.complete, message)
        assert time.monotonic() - begun >= FLOOR_S, what
        assert gateway.tries(device.source) == 1, what
        seen[what] = (refusal.kind, refusal.text)
    assert len(set(seen.values())) == 1, seen
    assert seen["unknown"][0] == FAILED
    end(gateway, active)


def test_of_two_racing_sessions_one_wins(gateway: Gateway) -> None:
    """Two devices that both know the PIN, completing at the same time: one request."""
    code = gateway.pin()
    devices = [Device(gateway, name) for name in ("left", "right")]
    proofs = [device.prove(opened_for(device, code), code.pin) for device in devices]
    before = len(gateway.rows("pairing_requests"))

    def finish(index: int) -> Any:
        try:
            return devices[index].complete(proofs[index][0])
        except Exception as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        ends = list(pool.map(finish, range(2)))
    won = [
        index
        for index in range(2)
        if isinstance(ends[index], messages.CompletePairingSessionResponse)
    ]
    assert len(won) == 1, ends
    assert hmac.compare_digest(ends[won[0]].pake_confirm, proofs[won[0]][1].theirs)
    loser = ends[1 - won[0]]

    def again() -> None:
        raise loser

    assert devices[0].refused(again).kind == FAILED
    assert len(gateway.rows("pairing_requests")) == before + 1
    assert gateway.state_of(code) == "used"


def test_a_pin_is_no_token_and_a_token_no_pin(gateway: Gateway, device: Device) -> None:
    """Each method takes its own kind of code only."""
    code, token = gateway.pin(), gateway.token()
    with gateway.unmoved():
        for tried in (code.pin, parts(code.pin)[1]):
            refusal = device.refused(device.begin, device.offer_token(tried))
            assert refusal.kind == FAILED
    opened = device.begin(device.offer_token(token))
    message, _ = device.prove(opened_for(Device(gateway), code), code.pin)
    message.session_id = opened.session_id
    with gateway.unmoved(but=code, guesses=0):
        assert device.refused(device.complete, message).status == "FAILED_PRECONDITION"
    end(gateway, code)


def test_a_code_from_a_network_is_for_that_network(gateway: Gateway) -> None:
    """From elsewhere the right PIN is as wrong as any; the code does not suffer."""
    code, stranger = gateway.mint("pin", source="127.200.0.0/16"), Device(gateway)
    with gateway.unmoved(but=code, guesses=0):
        assert guess(stranger, code.pin).kind == FAILED
    assert gateway.tries(stranger.source) == 1
    assert Device(gateway, source="127.200.0.7").pair_by_pin(code.pin)


def test_a_version_1_pin_in_clear_is_refused(gateway: Gateway, device: Device) -> None:
    """The PIN itself in pin_code: refused, whether it is right or not, and never logged."""
    code = gateway.pin()
    pin = parts(code.pin)[1]
    with gateway.unmoved(but=code, guesses=0), device.enrolment() as stub:
        for tried in (pin, code.pin, "000000"):
            message = messages.BeginPairingSessionRequest(v=1, client_kind="node")
            message.method.pin_code = tried
            refusal = device.refused(stub.BeginPairingSession, message, timeout=CALL_S)
            assert refusal.status == "FAILED_PRECONDITION"
    assert pin not in gateway.process.output()
    end(gateway, code)
