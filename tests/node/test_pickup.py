"""Tests of :mod:`palyra.node.pickup`."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock

from palyra.core.devices import ClientKind
from palyra.core.transcript import status_payload, verify_identity_signature
from palyra.errors import (
    DiskFull,
    GatewayUnreachable,
    PairingExpired,
    PairingLimited,
    PairingRejected,
    PalyraError,
    RemoteRefusal,
)
from palyra.node.files import NodeFiles
from palyra.node.identity import PairingFile
from palyra.node.pickup import AHEAD_MS, STRANGERS, PickUp
from palyra.pki.authority import Authority
from palyra.transport.statuses import STRANGE
from palyra.wire.pairing import StatusAnswer, StatusQuestion
from tests.node.fakes import DEVICE_ID, NOW_MS

CA = Authority.create(trust_domain="palyra", now_ms=NOW_MS, entropy=os.urandom)
NEXT_CA = Authority.create(trust_domain="palyra", now_ms=NOW_MS, entropy=os.urandom)
WAITING = PairingFile(1, "ab" * 16, "R", "gw:7443", (CA.ca_pem + NEXT_CA.ca_pem).decode())
PENDING = StatusAnswer("pending_approval", "", "R", "", "", "", 500)
ISSUED = StatusAnswer("completed", "", "R", "", "", "", certificate_pem="PEM", device_name="pi")
AWAY = GatewayUnreachable("gw:7443", "connection refused")


class FakeChannel:
    """Answers status questions with what it was given, the last one again and again."""

    def __init__(self, *answers: StatusAnswer | PalyraError) -> None:
        self.answers = list(answers)
        self.questions: list[StatusQuestion] = []
        self.closed = 0

    def status(self, question: StatusQuestion) -> Deferred[StatusAnswer]:
        self.questions.append(question)
        answer = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
        return fail(answer) if isinstance(answer, PalyraError) else succeed(answer)

    def close(self) -> Deferred[None]:
        self.closed += 1
        return succeed(None)


class Device:
    """A device that waits; it is the witness of that."""

    def __init__(self, root: Path) -> None:
        files = NodeFiles(root)
        files.make()
        self.clock = Clock()
        self.clock.advance(NOW_MS / 1000)
        self.ahead_ms = 0
        self.root = root
        self.kept: list[PairingFile] = []
        self.disk: Exception | None = None
        self.identity = files.identity.open(NOW_MS, os.urandom, DEVICE_ID)
        self.seen: list[tuple[Any, ...]] = []
        self.pickup = PickUp(
            reactor=self.clock,
            identity=self.identity,
            client_kind=ClientKind.NODE,
            name="pi",
            witness=self,
            now_ms=lambda: int(self.clock.seconds() * 1000) + self.ahead_ms,
            keep=self.keep,
        )

    def keep(self, waiting: PairingFile) -> None:
        if self.disk is not None:
            raise self.disk
        self.kept.append(waiting)

    def wait(self, channel: Any, waiting: PairingFile = WAITING) -> Deferred[StatusAnswer]:
        return Deferred.fromCoroutine(self.pickup.wait(channel, waiting))

    def identity_shown(self, name: str, device_id: str, fingerprint: str) -> None:
        self.seen.append(("identity", name, device_id, fingerprint))

    def waiting(self, request_id: str) -> None:
        self.seen.append(("waiting", request_id))

    def retrying(self, cause: str) -> None:
        self.seen.append(("retrying", cause))


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


def result_of(fired: Deferred[Any]) -> Any:
    """What a Deferred has fired with; raises what it failed with."""
    results: list[Any] = []
    errors: list[Any] = []
    fired.addCallbacks(results.append, errors.append)
    if errors:
        errors[0].raiseException()
    return results[0]


def test_the_answer_that_has_a_certificate(device: Device) -> None:
    """It is asked for until it comes, as often as the gateway wants."""
    channel = FakeChannel(PENDING, PENDING, ISSUED)
    waited = device.wait(channel)
    assert device.seen == [
        ("identity", "pi", DEVICE_ID, device.identity.fingerprint),
        ("waiting", "R"),
    ]
    device.clock.advance(0.4)
    assert len(channel.questions) == 1
    device.clock.advance(0.1)
    assert not waited.called
    device.clock.advance(0.5)
    assert result_of(waited) == ISSUED
    assert not device.clock.getDelayedCalls()


def test_each_question_is_proved_anew(device: Device) -> None:
    """Under the CA that the pairing session was opened under, with a number that only rises."""
    channel = FakeChannel(PENDING, PENDING, PENDING, ISSUED)
    waited = device.wait(channel)
    device.ahead_ms = -60_000  # the clock is set back
    device.clock.pump([0.5] * 3)
    result_of(waited)
    numbers = [question.counter for question in channel.questions]
    assert len(numbers) == 4 and numbers == sorted(set(numbers))
    ca_hash = hashlib.sha256(CA.ca_der).digest()
    public = device.identity.key.public_key().public_bytes_raw()
    for each in channel.questions:
        payload = status_payload(WAITING.session_id, DEVICE_ID, ca_hash, each.counter)
        verify_identity_signature(public, each.signature, payload)


def test_a_restart_with_a_clock_that_was_set_back(device: Device) -> None:
    """The numbers go on rising: what is on disk is above all of them, and is written rarely."""
    device.ahead_ms = 600_000
    first, second = FakeChannel(PENDING), FakeChannel(PENDING)
    waited = device.wait(first)
    device.clock.pump([0.5] * 100)
    (kept,) = device.kept
    waited.addErrback(lambda failure: failure.trap(CancelledError) and None).cancel()
    again = Device(device.root.parent / "again")
    waited = again.wait(second, kept)
    again.clock.pump([0.5] * 10)
    numbers = [each.counter for each in first.questions + second.questions]
    assert len(numbers) == 112 and numbers == sorted(set(numbers))
    waited.addErrback(lambda failure: failure.trap(CancelledError) and None).cancel()


def test_the_number_is_written_again(device: Device) -> None:
    """Before the reserve is used up; and for another session."""
    waited = device.wait(FakeChannel(PENDING))
    device.clock.advance(AHEAD_MS / 1000)
    device.clock.advance(1)
    assert len(device.kept) == 2
    waited.addErrback(lambda failure: failure.trap(CancelledError) and None).cancel()
    other = msgspec.structs.replace(WAITING, session_id="cd" * 16)
    result_of(device.wait(FakeChannel(ISSUED), other))
    assert device.kept[-1].session_id == "cd" * 16


@pytest.mark.parametrize("error", [DiskFull("/"), OSError("read-only")])
def test_a_number_that_cannot_be_written(device: Device, error: Exception) -> None:
    """Is no reason not to ask."""
    device.disk = error
    assert result_of(device.wait(FakeChannel(ISSUED))) == ISSUED


def test_restarts_while_nothing_can_be_written(device: Device) -> None:
    """Each life goes on above the numbers of the one before, though all read the same file."""
    first = FakeChannel(ISSUED)
    result_of(device.wait(first))
    (kept,) = device.kept
    numbers = [first.questions[0].counter]
    for life in range(3):
        again = Device(device.root.parent / str(life))
        again.ahead_ms = (life + 1) * 1000
        again.disk = DiskFull("/")
        channel = FakeChannel(PENDING, ISSUED)
        waited = again.wait(channel, kept)
        again.clock.advance(0.5)
        result_of(waited)
        numbers += [each.counter for each in channel.questions]
    assert numbers == sorted(set(numbers))


def test_the_name_that_was_asked_for(device: Device) -> None:
    """Is shown after a restart as well, whatever the device would be called now."""
    result_of(device.wait(FakeChannel(ISSUED), msgspec.structs.replace(WAITING, name="attic")))
    assert device.seen[0] == ("identity", "attic", DEVICE_ID, device.identity.fingerprint)


def test_another_ca(device: Device) -> None:
    """A gateway that moved to a CA which this device does not know: it ends, with a sentence."""
    strange = GatewayUnreachable("gw:7443", STRANGE)
    channel = FakeChannel(*[strange] * (STRANGERS - 1), AWAY, *[strange] * STRANGERS, ISSUED)
    waited = device.wait(channel)
    device.clock.pump([2.0] * (2 * STRANGERS))
    with pytest.raises(GatewayUnreachable, match="not signed by the CA"):
        result_of(waited)
    assert channel.answers == [ISSUED]


@pytest.mark.parametrize(
    "cause",
    [AWAY, PairingLimited(60.0), RemoteRefusal("disk_full", "No space left.", transient=True)],
)
def test_a_gateway_that_cannot_answer_now(device: Device, cause: PalyraError) -> None:
    """Is asked again over a new connection; that is told once, until it answered."""
    channel = FakeChannel(cause, cause, PENDING, cause, ISSUED)
    waited = device.wait(channel)
    device.clock.pump([2.0] * 4)
    assert result_of(waited) == ISSUED
    assert device.seen[2:] == [("retrying", cause.sentence)] * 2
    assert channel.closed == 3


@pytest.mark.parametrize(
    ("status", "error"),
    [("rejected", PairingRejected), ("expired", PairingExpired), ("strange", PairingExpired)],
)
def test_no_certificate_will_come(device: Device, status: str, error: type[PalyraError]) -> None:
    """An operator said no, nobody decided, or the gateway knows more words than this device."""
    answer = StatusAnswer(status, "not ours", "R", "", "", "")
    with pytest.raises(error) as caught:
        result_of(device.wait(FakeChannel(answer)))
    assert status != "rejected" or "not ours" in str(caught.value)


def test_a_gateway_that_refuses_to_say(device: Device) -> None:
    """There is nothing to wait for any more."""
    with pytest.raises(RemoteRefusal):
        result_of(device.wait(FakeChannel(RemoteRefusal("pairing_session_unknown", "Unknown."))))
    assert not device.clock.getDelayedCalls()


@pytest.mark.parametrize(("wanted_ms", "pause_s"), [(0, 0.5), (3_000, 3.0), (3_600_000, 10.0)])
def test_how_often_it_asks(device: Device, wanted_ms: int, pause_s: float) -> None:
    """Neither without pause nor hours later, whatever a gateway wants."""
    answer = StatusAnswer("pending_approval", "", "R", "", "", "", wanted_ms)
    waited = device.wait(FakeChannel(answer))
    (call,) = device.clock.getDelayedCalls()
    assert call.getTime() - device.clock.seconds() == pytest.approx(pause_s)
    waited.cancel()
    with pytest.raises(CancelledError):
        result_of(waited)
    assert not device.clock.getDelayedCalls()
