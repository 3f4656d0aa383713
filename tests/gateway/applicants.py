"""What devices do beyond pairing by a line: a PIN, version 1, renewal and rejoin."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, TypeVar

import attrs
import pytest
from twisted.internet.defer import Deferred, execute

from palyra.core.devices import CertificateState, Device
from palyra.core.pake import Confirmations, DevicePake, PakeTranscript, with_pake
from palyra.core.pin import PinCode
from palyra.core.transcript import DeviceProof, Purpose, renewal_payload
from palyra.errors import PairingFailed
from palyra.pki.csr import make_csr
from palyra.testing.carrier import ScriptedNode
from palyra.transport.interfaces import Peer
from palyra.wire.pairing import (
    Completed,
    RenewalAsked,
    Renewed,
    SessionOpened,
    StatusAnswer,
    StatusQuestion,
)
from tests.gateway.enrolling import CSR_KEY, HOME, Applicant, Gateway
from tests.gateway.house import result_of

T = TypeVar("T")


class Beside:
    """A thread beside the reactor whose work happens when a test says so."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], object]] = []

    def __call__(self, work: Callable[..., T], *given: Any) -> Deferred[T]:
        done: Deferred[T] = Deferred()
        self.waiting.append(lambda: execute(work, *given).chainDeferred(done))
        return done

    def work(self, count: int | None = None) -> None:
        """Do what waits, and what comes to wait by it; or the first so many of it."""
        while self.waiting and count != 0:
            self.waiting.pop(0)()
            count = None if count is None else count - 1


@attrs.define
class PinApplicant(Applicant):
    """A device at which a person types a PIN."""

    expected: bytes = b""
    """cB: what only a gateway that knows the PIN can answer."""

    def pin_proof(self, opened: SessionOpened, code: PinCode, **changes: Any) -> DeviceProof:
        """What it answers to a session that was opened with the nameplate."""
        run = DevicePake(code.pin, random.Random(self.seed).randbytes)
        key = run.finish(opened.share)
        proof = self.proof(opened, "", **{"purpose": Purpose.PAIR_PIN, **changes})
        transcript = PakeTranscript(
            begun=opened.begun,
            nameplate=code.nameplate,
            ca_hash=self.ca_hash,
            gateway_share=opened.share,
            device_share=run.share,
            proof=proof,
        )
        confirmations = Confirmations.of(key, transcript)
        self.expected = confirmations.gateway
        return with_pake(proof, run.share, confirmations.device)

    def type_pin(self, gateway: Gateway, code: PinCode, address: str = HOME) -> Completed:
        """Pair by a PIN up to the point where an operator must decide."""
        opened = gateway.open_pin(code.nameplate, address, self.kind)
        return gateway.complete(self.pin_proof(opened, code), address)


def wrong(code: PinCode) -> PinCode:
    """Another PIN under the same nameplate."""
    return PinCode(code.nameplate, f"{(int(code.pin) + 1) % 1_000_000:06}")


def failures(gateway: Gateway) -> list[tuple[str, int]]:
    return gateway.ledger.failing(gateway.now_ms())


def failed_tries(gateway: Gateway) -> list[int]:
    active = result_of(Deferred.fromCoroutine(gateway.codes.active()))
    return [code.failed for code in active]


def guess(gateway: Gateway, code: PinCode, address: str) -> None:
    """A wrong PIN, refused."""
    with pytest.raises(PairingFailed):
        PinApplicant().type_pin(gateway, wrong(code), address)


def sources(count: int) -> list[str]:
    return [f"198.51.100.{number}" for number in range(1, count + 1)]


@attrs.define
class VersionOne(Applicant):
    """A device that knows only version 1: a code in clear, no CSR, no status proof."""

    def old_proof(self, opened: SessionOpened, code: str) -> DeviceProof:
        """The published fields alone."""
        return attrs.evolve(self.proof(opened, code), enrolment=None)

    def old_question(self) -> StatusQuestion:
        """What became of it?  The session's secret is the only proof."""
        return StatusQuestion(self.session_id, self.device_id)


def rejoin_proof(applicant: Applicant, opened: SessionOpened, **changes: Any) -> DeviceProof:
    """What a device answers to the session it opened to come back; with a new CSR each time."""
    csr_der = make_csr(CSR_KEY, applicant.device_id)
    return applicant.proof(opened, "", **{"purpose": Purpose.REJOIN, "csr_der": csr_der, **changes})


def rejoin(applicant: Applicant, gateway: Gateway, **changes: Any) -> Completed:
    """Come back by the identity key."""
    opened = gateway.open_rejoin(applicant.device_id)
    return gateway.complete(rejoin_proof(applicant, opened, **changes))


def renewal(applicant: Applicant, peer: Peer, csr_der: bytes = b"", **changes: Any) -> RenewalAsked:
    """What a device asks over one of its certificates; with a new CSR where none is given."""
    csr_der = csr_der or make_csr(CSR_KEY, applicant.device_id)
    given: dict[str, Any] = {
        "device_id": applicant.device_id,
        "ca_hash": applicant.ca_hash,
        "over": peer.fingerprint,
        "csr_der": csr_der,
        **changes,
    }
    signature = applicant.identity_key.sign(renewal_payload(**given))
    return RenewalAsked(applicant.device_id, csr_der, signature)


def renewed(gateway: Gateway, peer: Peer, asked: RenewalAsked) -> Renewed:
    """The answer to it."""
    return result_of(gateway.node_desk.renew(peer, asked))


def admitted(gateway: Gateway, answer: StatusAnswer | Completed | Renewed) -> Peer:
    """The device as it passes the gate with a certificate it was given."""
    return gateway.node_desk.admit(answer.certificate_pem.encode(), None, HOME, "grpc")


def device_of(gateway: Gateway, applicant: Applicant) -> Device:
    """Its record."""
    return gateway.inventory.paired(applicant.device_id)


def online(gateway: Gateway, applicant: Applicant) -> ScriptedNode:
    """A device that has paired and is connected."""
    answer = applicant.pair(gateway)
    node = gateway.node(device_of(gateway, applicant))
    node.peer = admitted(gateway, answer)
    result_of(node.connect())
    node.take()
    return node


def states(gateway: Gateway, applicant: Applicant) -> list[CertificateState]:
    """Of all its certificates, oldest first, in the record and in memory."""
    held = result_of(gateway.store.certificates_of(applicant.device_id))
    ordered = sorted(held, key=lambda each: each.issued_at_ms)
    for each in ordered:
        here = gateway.inventory.certificate(each.fingerprint)
        assert here is None or here.state is each.state
    return [each.state for each in ordered]
