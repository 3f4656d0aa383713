"""Wrong PINs: how they are counted, and what they come to (PROTOCOL: Codes and guesses)."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet.defer import Deferred, fail

from palyra.console import models
from palyra.core.devices import ClientKind
from palyra.core.pairing import CodeMethod
from palyra.core.pin import PinCode
from palyra.core.transcript import Purpose
from palyra.errors import (
    DeviceRevoked,
    DiskFull,
    LimitReached,
    PairingFailed,
    PairingLimited,
    PairingPaused,
    PalyraError,
    VerificationFailed,
)
from palyra.pki.csr import make_csr
from palyra.wire.pairing import Begin
from tests.callers import ANA
from tests.gateway.applicants import (
    Beside,
    PinApplicant,
    failed_tries,
    failures,
    guess,
    sources,
    wrong,
)
from tests.gateway.enrolling import CSR_KEY, HOME, Applicant, Gateway
from tests.gateway.house import fired, result_of

# -- guesses ---------------------------------------------------


def test_five_wrong_tries_burn_a_code(gateway: Gateway) -> None:
    """From two sources at least; then the right PIN is as wrong as any, and both are shown."""
    code = gateway.pin()
    for number, address in enumerate(sources(2) + sources(2) + sources(1), 1):
        guess(gateway, code, address)
        assert gateway.all_requests() == [], number
    with pytest.raises(PairingFailed):
        PinApplicant().type_pin(gateway, code)
    listed = result_of(gateway.control.pairing_requests(None, None, 50, None))
    (shown,) = listed.codes
    assert (shown.state, shown.failed, shown.nameplate) == ("burnt", 5, 1)
    assert [(each.source, each.count) for each in listed.failed_tries] == [
        ("198.51.100.1", 3),
        ("198.51.100.2", 2),
        (HOME, 1),
    ]
    assert listed.pins_paused_until_unix_ms is None


def test_one_source_cannot_burn_a_code(gateway: Gateway) -> None:
    """Three failed proofs in ten minutes, then the source is refused before anything is compared;
    the device of the operator pairs."""
    code = gateway.pin()
    for _ in range(3):
        guess(gateway, code, "198.51.100.1")
    with pytest.raises(PairingLimited):
        gateway.open_pin(address="198.51.100.1")
    assert failed_tries(gateway) == [3]
    PinApplicant().type_pin(gateway, code)
    gateway.pass_time(601)
    gateway.open_pin(address="198.51.100.1")


def test_sessions_that_were_opened_before(gateway: Gateway) -> None:
    """A source that opens many sessions first has no more guesses than by one after the other."""
    code = gateway.pin()
    proofs = [PinApplicant().pin_proof(gateway.open_pin(), wrong(code)) for _ in range(8)]
    refusals = []
    for proof in proofs:
        with pytest.raises((PairingFailed, PairingLimited)) as caught:
            gateway.complete(proof)
        refusals.append(type(caught.value))
    assert refusals == [PairingFailed] * 3 + [PairingLimited] * 5
    assert failed_tries(gateway) == [3]


def test_parallel_guesses_of_one_source(gateway: Gateway) -> None:
    """What is being verified counts as failed until it is known not to be."""
    code = gateway.pin()
    beside = Beside()
    proofs = [PinApplicant().pin_proof(gateway.open_pin(), wrong(code)) for _ in range(6)]
    gateway.in_thread = beside
    answers = [gateway.desk.complete(proof, HOME) for proof in proofs]
    assert len(beside.waiting) == 1, "one after the other"
    beside.work()
    gateway.clock.advance(0.06)
    refusals = []
    for answer in answers:
        with pytest.raises((PairingFailed, PairingLimited)) as caught:
            result_of(answer)
        refusals.append(type(caught.value))
    assert refusals == [PairingFailed] * 3 + [PairingLimited] * 3
    assert failed_tries(gateway) == [3]


def test_parallel_guesses_of_many_sources(gateway: Gateway) -> None:
    """Ten sources try at the same time: five are compared, a right one beyond them is refused as
    they are, and the code is burnt."""
    code = gateway.pin()
    beside = Beside()
    proofs = [
        PinApplicant().pin_proof(gateway.open_pin(address=address), wrong(code))
        for address in sources(9)
    ]
    proofs.append(PinApplicant().pin_proof(gateway.open_pin(), code))
    gateway.in_thread = beside
    answers = [gateway.desk.complete(proof, HOME) for proof in proofs]
    beside.work()
    gateway.clock.advance(0.06)
    for answer in answers:
        with pytest.raises(PairingFailed):
            result_of(answer)
    (burnt,) = gateway.codes.burnt()
    assert burnt.failed == 5 and gateway.all_requests() == []
    assert len(failures(gateway)) == 10


def test_a_right_proof_gives_its_try_back(gateway: Gateway) -> None:
    """Four wrong tries and one that proves: the fault of that one burns nothing."""
    code = gateway.pin()
    for address in sources(4):
        guess(gateway, code, address)
    applicant = PinApplicant()
    with pytest.raises(VerificationFailed):
        gateway.complete(applicant.pin_proof(gateway.open_pin(), code, purpose=Purpose.PAIR_URI))
    assert failed_tries(gateway) == [4]
    applicant.type_pin(gateway, code)


def test_a_failure_that_cannot_be_kept(gateway: Gateway) -> None:
    """It is a guess all the same: a full disk makes none free, for its code and for its source."""
    code = gateway.pin()
    store: Any = gateway.store
    store.save_code = lambda _: fail(DiskFull("/var/lib/palyra"))
    for address in sources(5):
        with pytest.raises(PairingFailed):
            PinApplicant().type_pin(gateway, wrong(code), address)
    del store.save_code
    assert len(failures(gateway)) == 5
    with pytest.raises(PairingFailed):
        PinApplicant().type_pin(gateway, code)


def test_a_proof_that_was_never_compared(gateway: Gateway) -> None:
    """Where the work fails, as when the gateway stops, nobody guessed: the try is given back."""
    code = gateway.pin()
    proofs = [PinApplicant().pin_proof(gateway.open_pin(), code) for _ in range(6)]
    gateway.in_thread = lambda *_: fail(RuntimeError("the thread is gone"))
    for proof in proofs:
        with pytest.raises(RuntimeError):
            gateway.complete(proof)
    assert failed_tries(gateway) == [0] and failures(gateway) == []
    (active,) = result_of(Deferred.fromCoroutine(gateway.codes.active()))
    assert active.reserved == 0


# -- the same for all that is no code ---------------------------------------------------


@pytest.mark.parametrize("what", ["unknown", "expired", "burnt", "used", "of a network"])
def test_what_is_no_code_looks_like_a_wrong_pin(gateway: Gateway, what: str) -> None:
    """A session is opened, SPAKE2 runs, the proof fails, the source is charged: in no order and
    with no word is it different."""
    runs: list[Any] = []
    code = gateway.pin(source="203.0.113.0/24" if what == "of a network" else "")
    if what == "expired":
        gateway.pass_time(601)
    elif what == "burnt":
        for address in sources(5):
            guess(gateway, code, address)
    elif what == "used":
        PinApplicant(9).type_pin(gateway, code)
    elif what == "unknown":
        code = PinCode(17, code.pin)
    in_thread = gateway.in_thread

    def counted(work: Any, *given: Any) -> Deferred[Any]:
        runs.append(work)
        return in_thread(work, *given)

    gateway.in_thread = counted
    with pytest.raises(PairingFailed) as caught:
        PinApplicant().type_pin(gateway, code)
    assert attrs.asdict(caught.value) == {"pin": True, "tries": 1} and len(runs) == 2
    assert (HOME, 1) in failures(gateway)


@pytest.mark.parametrize("nameplate", [0, 21, 2**32 - 1])
def test_a_nameplate_that_cannot_be(gateway: Gateway, nameplate: int) -> None:
    """It is one that nobody has."""
    with pytest.raises(PairingFailed):
        PinApplicant().type_pin(gateway, PinCode(nameplate, "123456"))
    assert failures(gateway) == [(HOME, 1)]


def test_a_code_for_one_network_is_not_touched_from_others(gateway: Gateway) -> None:
    """Their guesses are theirs."""
    code = gateway.pin(source="203.0.113.0/24")
    for address in sources(6):
        guess(gateway, code, address)
    assert failed_tries(gateway) == [0]
    PinApplicant().type_pin(gateway, code, "203.0.113.5")


# -- the pause ---------------------------------------------------


def test_fifty_failures_pause_all_pins(gateway: Gateway) -> None:
    """Over all sources, for ten minutes; pairing lines go on; the operator sees until when."""
    absent = PinCode(20, "123456")
    for number, address in enumerate(sources(50)):
        if number % 15 == 0:
            gateway.pass_time(1)  # so many a second
        guess(gateway, absent, address)
    with pytest.raises(PairingPaused) as caught:
        gateway.open_pin()
    assert 598 < caught.value.retry_after_s <= 600
    Applicant().apply(gateway)
    listed = result_of(gateway.control.pairing_requests(None, None, 50, None))
    paused_ms = listed.pins_paused_until_unix_ms
    assert paused_ms is not None and 590_000 < paused_ms - gateway.now_ms() <= 600_000
    assert len(listed.failed_tries) == 50
    gateway.pass_time(601)
    PinApplicant(2).type_pin(gateway, gateway.pin())
    listed = result_of(gateway.control.pairing_requests(None, None, 50, None))
    assert listed.pins_paused_until_unix_ms is None


def test_a_session_opened_before_the_pause(gateway: Gateway) -> None:
    """It is refused too, and no code is touched by it."""
    code = gateway.pin()
    proof = PinApplicant().pin_proof(gateway.open_pin(), code)
    for address in sources(50):
        gateway.ledger.proof_failed(address, gateway.now_ms())
    with pytest.raises(PairingPaused):
        gateway.complete(proof)
    assert failed_tries(gateway) == [0] and gateway.all_requests() == []


def test_too_many_at_once(gateway: Gateway) -> None:
    """Strangers cannot keep the gateway busy: the next is told to wait, and holds no session."""
    beside = Beside()
    gateway.in_thread = beside
    begin = Begin(ClientKind.NODE, CodeMethod.PIN, nameplate=1)
    from_desk = [gateway.desk.begin(begin, address) for address in sources(6)]
    gateway.clock.advance(0.06)
    with pytest.raises(LimitReached):
        result_of(from_desk.pop())
    assert not any(fired(each) for each in from_desk) and gateway.ledger.open_sessions == 5
    beside.work()
    gateway.clock.advance(0.06)
    assert all(result_of(each).share for each in from_desk)


# -- faults of a device that knows the PIN ---------------------------------------------------


FAULTS: dict[str, dict[str, Any]] = {
    "another purpose": {"purpose": Purpose.PAIR_URI},
    "no CSR": {"csr_der": b"not a CSR"},
    "another's CSR": {"csr_der": make_csr(CSR_KEY, Applicant(4).device_id)},
    "a weak CSR": {
        "csr_der": make_csr(ec.generate_private_key(ec.SECP384R1()), Applicant().device_id)
    },
    "no JSON": {"announcement": b"{"},
}


@pytest.mark.parametrize("what", FAULTS)
def test_a_fault_is_no_guess(gateway: Gateway, what: str) -> None:
    """It is refused with its reason; code and source are not charged, and the code still pairs."""
    code = gateway.pin()
    applicant = PinApplicant()
    with pytest.raises(PalyraError) as caught:
        gateway.complete(applicant.pin_proof(gateway.open_pin(), code, **FAULTS[what]))
    assert not isinstance(caught.value, PairingFailed) and failures(gateway) == []
    assert failed_tries(gateway) == [0] and gateway.all_requests() == []
    applicant.csr_der = b""
    applicant.type_pin(gateway, code)


def test_five_faults_and_no_more(gateway: Gateway) -> None:
    """Then the code is of no use, as if there were none."""
    code = gateway.pin()
    for _ in range(5):
        with pytest.raises(VerificationFailed):
            gateway.complete(
                PinApplicant().pin_proof(gateway.open_pin(), code, purpose=Purpose.PAIR_URI)
            )
    with pytest.raises(PairingFailed):
        PinApplicant().type_pin(gateway, code)


def test_a_revoked_device_is_told_so(gateway: Gateway) -> None:
    """After it has proved the PIN and its key, and only then; the code is for another one."""
    first = Applicant(1)
    first.pair(gateway)
    device = gateway.inventory.paired(first.device_id)
    result_of(gateway.control.revoke(device.device_id, models.Revoke("lost"), ANA))
    code = gateway.pin()
    again = PinApplicant(1)
    guess(gateway, code, HOME)
    with pytest.raises(DeviceRevoked) as caught:
        again.type_pin(gateway, code)
    assert caught.value.reason == "lost"
    PinApplicant(2).type_pin(gateway, code)


def test_a_request_that_cannot_be_kept(gateway: Gateway) -> None:
    """Then the code is not used up, and nobody was answered that it was."""
    code = gateway.pin()
    store: Any = gateway.store
    store.open_request = lambda *_: fail(DiskFull("/var/lib/palyra"))
    with pytest.raises(DiskFull):
        PinApplicant().type_pin(gateway, code)
    del store.open_request
    assert failed_tries(gateway) == [0]
    PinApplicant().type_pin(gateway, code)
