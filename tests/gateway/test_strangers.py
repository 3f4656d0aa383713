"""What strangers cost: those who flood one way of asking keep nobody from the others."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from palyra.core.devices import ClientKind
from palyra.core.pairing import CodeMethod
from palyra.core.pairing_uri import spell_token
from palyra.errors import (
    LimitReached,
    PairingFailed,
    PairingLimited,
    PairingPaused,
    PairingSessionUnknown,
    RejoinRefused,
)
from palyra.gateway.enrolment import MAX_QUESTIONS
from palyra.gateway.pinwork import MAX_A_SECOND
from palyra.wire.pairing import Begin, Completed, StatusQuestion
from tests.gateway.applicants import (
    Beside,
    PinApplicant,
    admitted,
    device_of,
    failed_tries,
    failures,
    rejoin,
    rejoin_proof,
    sources,
    wrong,
)
from tests.gateway.enrolling import HOME, Applicant, Gateway
from tests.gateway.house import fired, result_of


def begin_pin(gateway: Gateway, address: str) -> Deferred[Any]:
    return gateway.desk.begin(Begin(ClientKind.NODE, CodeMethod.PIN, nameplate=1), address)


# -- status questions ---------------------------------------------------


def test_so_many_questions_a_minute(gateway: Gateway) -> None:
    """Beyond them a source is told to wait, before anything is looked up; others are answered."""
    applicant = Applicant()
    applicant.apply(gateway)
    question = StatusQuestion("0" * 32, applicant.device_id, 1, bytes(64))
    looked_up: list[str] = []
    store: Any = gateway.store
    real = store.store.request_by_session

    def counted(digest: str) -> Any:
        looked_up.append(digest)
        return real(digest)

    store.request_by_session = counted
    for _ in range(MAX_QUESTIONS):
        with pytest.raises(PairingSessionUnknown):
            result_of(gateway.desk.status(question, "198.51.100.1"))
    with pytest.raises(PairingLimited) as caught:
        result_of(gateway.desk.status(question, "198.51.100.1"))
    assert 0 < caught.value.retry_after_s <= 60 and len(looked_up) == MAX_QUESTIONS
    assert gateway.status(applicant.question()).status == "pending_approval"
    gateway.pass_time(60.25)
    with pytest.raises(PairingSessionUnknown):
        result_of(gateway.desk.status(question, "198.51.100.1"))
    assert failures(gateway) == []


# -- sessions that do not open ---------------------------------------------------


def test_a_flood_of_pins_stops_no_pairing_line() -> None:
    """What is refused at Begin takes no room from sessions that start, nor from those open."""
    gateway = Gateway(session_starts_per_minute=MAX_A_SECOND + 5, open_sessions=MAX_A_SECOND + 5)
    token = spell_token(gateway.code().token)
    refused = []
    asked = [begin_pin(gateway, address) for address in sources(80)]
    gateway.clock.advance(0.06)
    for each in asked:
        try:
            result_of(each)
        except LimitReached as refusal:
            refused.append(refusal)
    assert len(refused) == 80 - MAX_A_SECOND
    assert gateway.ledger.open_sessions == MAX_A_SECOND
    completed = gateway.complete(Applicant().proof(gateway.open(token), token))
    assert completed.request_id
    gateway.end()


def test_unknown_tokens_and_the_pause_use_nothing_up() -> None:
    """Nor do tokens that nobody minted, nor PINs while they are paused."""
    gateway = Gateway(session_starts_per_minute=2, open_sessions=2)
    token = spell_token(gateway.code().token)
    for address in sources(50):
        with pytest.raises(PairingFailed):
            gateway.open("A" * 22, address)
    assert gateway.ledger.pin_paused_until_ms is None
    for address in sources(50):
        gateway.ledger.proof_failed(address, gateway.now_ms())
    for number in range(5):
        with pytest.raises(PairingPaused):
            gateway.open_pin(address=f"203.0.113.{number}")
    assert gateway.ledger.open_sessions == 0
    gateway.complete(Applicant().proof(gateway.open(token), token))
    gateway.end()


# -- a pause that comes while proofs wait ---------------------------------------------------


def test_a_pause_while_proofs_wait_for_their_turn(gateway: Gateway) -> None:
    """They are worked on one after another, and those whose turn comes when PIN pairing is paused
    are refused unseen: nothing is compared, and no try is taken."""
    code = gateway.pin()
    addresses = sources(6)
    proofs = [
        PinApplicant().pin_proof(gateway.open_pin(address=each), wrong(code)) for each in addresses
    ]
    for number in range(49):
        gateway.ledger.proof_failed(f"203.0.113.{number}", gateway.now_ms())
    beside = Beside()
    gateway.in_thread = beside
    answers = [
        gateway.desk.complete(proof, each) for proof, each in zip(proofs, addresses, strict=True)
    ]
    worked = 0
    while beside.waiting:
        assert len(beside.waiting) == 1, "one at a time"
        beside.work(1)
        worked += 1
    gateway.clock.advance(0.06)
    ends = [refusal_of(each) for each in answers]
    assert ends[0] is PairingFailed and set(ends[2:]) == {PairingPaused} and worked <= 2
    assert failed_tries(gateway) == [ends.count(PairingFailed)]
    (active,) = result_of(Deferred.fromCoroutine(gateway.codes.active()))
    assert active.reserved == 0


def refusal_of(answer: Deferred[Completed]) -> type[BaseException]:
    assert fired(answer)
    with pytest.raises((PairingFailed, PairingPaused)) as caught:
        result_of(answer)
    return type(caught.value)


# -- rejoins ---------------------------------------------------


def test_failing_rejoins_pause_nobody(gateway: Gateway) -> None:
    """From however many sources: PINs are taken, and no source is shown as one that guesses."""
    known = Applicant(1)
    known.pair(gateway)
    thief = Applicant(2, device_id=known.device_id)
    for address in sources(60):
        opened = gateway.open_rejoin(known.device_id, address)
        with pytest.raises(RejoinRefused):
            gateway.complete(rejoin_proof(thief, opened), address)
    assert gateway.ledger.pin_paused_until_ms is None and failures(gateway) == []
    PinApplicant(3).type_pin(gateway, gateway.pin())


@pytest.mark.parametrize("text", ["x", "123456", "A" * 22])
def test_a_rejoin_proves_nothing_else(gateway: Gateway, text: str) -> None:
    """A code beside the identity key is refused in the same word, whoever sends it."""
    applicant = Applicant()
    applicant.pair(gateway)
    for who in (applicant, Applicant(2, device_id=applicant.device_id), Applicant(3)):
        with pytest.raises(RejoinRefused):
            rejoin(who, gateway, proof=text)
    assert failures(gateway) == []


def test_a_source_of_many_devices(gateway: Gateway) -> None:
    """Its rejoins have its room for open sessions, and no more."""
    applicant = Applicant()
    applicant.pair(gateway)
    opened = [gateway.open_rejoin(applicant.device_id) for _ in range(8)]
    with pytest.raises(PairingLimited):
        gateway.open_rejoin(applicant.device_id)
    back = gateway.complete(rejoin_proof(applicant, opened[0]), HOME)
    assert admitted(gateway, back).device_id == device_of(gateway, applicant).device_id
    gateway.open_rejoin(applicant.device_id)
