"""Tests of :mod:`palyra.node.rejoin`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock

from palyra.config.addresses import HostPort
from palyra.core.announcement import Announcement
from palyra.core.devices import ClientKind
from palyra.core.handshake import GatewayHandshake, Verified
from palyra.core.pairing import CodeMethod, RequestState
from palyra.core.transcript import (
    DeviceProof,
    Purpose,
    status_payload,
    verify_identity_signature,
)
from palyra.errors import (
    GatewayUnreachable,
    PairingRejected,
    PalyraError,
    RejoinRefused,
    RemoteRefusal,
    VerificationFailed,
)
from palyra.node.gatewaytime import GatewayTime
from palyra.node.identity import PairingFile
from palyra.node.pickup import MAX_UNKNOWN
from palyra.node.rejoin import PATIENCE, Rejoin, is_final
from palyra.pki.authority import Authority
from palyra.pki.csr import check_csr
from palyra.transport.statuses import STRANGE
from palyra.wire.pairing import Begin, Completed, SessionOpened, StatusAnswer, StatusQuestion
from tests.node.fakes import DEVICE_ID, NOW_MS, PairedDevice, new_authority

OLD, NEW = new_authority(), new_authority()
OLD_PEM, NEW_PEM = OLD.ca_pem.decode(), NEW.ca_pem.decode()
ADDRESS = HostPort("gw.example", 7443)
LATER_MS = NOW_MS + 40 * 86_400_000


class Gateway:
    """An enrolment listener that shows a leaf of ``ca`` and issues by ``issuer``."""

    def __init__(self, device: PairedDevice) -> None:
        self.device = device
        self.ca = self.issuer = OLD
        self.bundle_pem = OLD_PEM
        self.now_ms = LATER_MS
        self.in_time = True
        self.away: PalyraError | None = None
        self.refusal: PalyraError | None = None
        self.answers: list[StatusAnswer] = []
        self.channels: list[Channel] = []
        self.addresses: list[HostPort] = []
        self.dead: HostPort | None = None
        self.verified: list[Verified] = []
        self.hold: Deferred[Any] | None = None
        self.unknown = False

    def channel(self, address: HostPort, root_pem: bytes) -> Any:
        self.addresses.append(address)
        if address == self.dead:
            return DeadChannel(address)
        assert address == ADDRESS
        self.channels.append(Channel(self, root_pem))
        return self.channels[-1]

    def answer(self, status: RequestState, **given: str) -> None:
        """What the next status question is answered."""
        self.answers.append(StatusAnswer(status.value, "", "R", "", "", "", **given))  # type: ignore[arg-type]


class DeadChannel:
    """One connection to where nobody listens."""

    def __init__(self, address: HostPort) -> None:
        self.away = GatewayUnreachable(str(address), "connection refused")

    def begin(self, begin: Begin) -> Deferred[SessionOpened]:
        return fail(self.away)

    def status(self, question: StatusQuestion) -> Deferred[StatusAnswer]:
        return fail(self.away)

    def close(self) -> Deferred[None]:
        return succeed(None)


class Channel:
    """One connection to it."""

    def __init__(self, gateway: Gateway, root_pem: bytes) -> None:
        self.gateway = gateway
        self.root_pem = root_pem
        self.calls: list[str] = []
        self.closed = False

    def begin(self, begin: Begin) -> Deferred[SessionOpened]:
        gateway = self.gateway
        if gateway.away is not None or self.root_pem != gateway.ca.ca_pem:
            return fail(gateway.away or GatewayUnreachable(str(ADDRESS), "not its CA"))
        self.calls.append("begin")
        assert begin == Begin(ClientKind.NODE, CodeMethod.REJOIN, device_id=DEVICE_ID)
        self.handshake = GatewayHandshake.begin(
            begin.client_kind, Purpose.REJOIN, os.urandom, gateway.now_ms
        )
        opened = SessionOpened(self.handshake.begun, ClientKind.NODE, 0, gateway.now_ms)
        return succeed(opened)

    def complete(self, proof: DeviceProof) -> Deferred[Completed]:
        self.calls.append("complete")
        gateway = self.gateway
        verified = self.handshake.verify(
            proof,
            ca_hashes=[bytes.fromhex(gateway.ca.ca_hash)],
            proof_expected="",
            now_ms=gateway.now_ms,
            recorded_identity=gateway.device.identity.key.public_key().public_bytes_raw(),
        )
        gateway.verified.append(verified)
        if gateway.refusal is not None:
            return fail(gateway.refusal)
        completed = Completed("01M80NKQCNREQUEST000000001", "", "")
        if gateway.in_time:
            pem = gateway.device.issue(verified.csr_der, gateway.now_ms, gateway.issuer)
            completed = Completed("", "", "", certificate_pem=pem, ca_pem=gateway.bundle_pem)
        return succeed(completed)

    def status(self, question: StatusQuestion) -> Deferred[StatusAnswer]:
        self.calls.append("status")
        gateway = self.gateway
        if gateway.away is not None or self.root_pem != gateway.ca.ca_pem:
            return fail(gateway.away or GatewayUnreachable(str(ADDRESS), STRANGE))
        if gateway.unknown:
            return fail(RemoteRefusal("pairing_session_unknown", "Unknown."))
        if gateway.hold is not None:
            return gateway.hold
        ca_hash = bytes.fromhex(gateway.ca.ca_hash)
        device = gateway.device.identity
        payload = status_payload(question.session_id, DEVICE_ID, ca_hash, question.counter)
        verify_identity_signature(
            device.key.public_key().public_bytes_raw(), question.signature, payload
        )
        return succeed(self.gateway.answers.pop(0))

    def close(self) -> Deferred[None]:
        self.closed = True
        return succeed(None)


class Node:
    """A device whose certificate ran out."""

    def __init__(self, path: Path, addresses: Sequence[HostPort] = (ADDRESS,)) -> None:
        self.clock = Clock()
        self.clock.advance(LATER_MS / 1000)
        self.device = PairedDevice(path, OLD)
        self.store = self.device.store
        self.gateway = Gateway(self.device)
        self.time = GatewayTime(lambda: int(self.clock.seconds() * 1000))
        self.seen: list[str] = []
        self.rejoin = Rejoin(
            reactor=self.clock,
            addresses=addresses,
            channel=self.gateway.channel,
            identity=self.device.identity,
            store=self.store,
            announcement=lambda: Announcement("pi", "linux", "1"),
            witness=self,
            entropy=os.urandom,
        )

    def identity_shown(self, name: str, device_id: str, fingerprint: str) -> None:
        self.seen.append(f"identity {name}")

    def waiting(self, request_id: str) -> None:
        self.seen.append("waiting")

    def retrying(self, cause: str) -> None:
        self.seen.append("retrying")

    def rejoined(self, ends_ms: int) -> None:
        self.seen.append(f"rejoined for {(ends_ms - LATER_MS) // 3_600_000} h")

    def run(self, expired: bool = False) -> Deferred[None]:
        return Deferred.fromCoroutine(self.rejoin.run(self.time, expired=expired))

    def refused(self, kind: type[PalyraError]) -> None:
        """A rejoin that ends so."""
        failed: list[Any] = []
        self.run().addErrback(lambda failure: failed.append(failure.value))
        assert [type(each) for each in failed] == [kind]

    def came_back(self) -> bool:
        """Whether there is one certificate, and it is a new one."""
        client = self.store.client()
        alone = client.next is None and client.pending is None
        return alone and client.usable(LATER_MS) == [client.current]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """Every connection is closed in the end, whatever happened."""
    made = Node(tmp_path / "identity")
    yield made
    assert all(each.closed for each in made.gateway.channels)
    assert not made.clock.getDelayedCalls()


def test_in_time(node: Node) -> None:
    """A certificate comes at once, for the identity key; older certificates are over."""
    node.device.make_next()
    node.run()
    assert node.came_back()
    assert node.seen == ["rejoined for 24 h"]
    (verified,) = node.gateway.verified
    assert verified.device_id == DEVICE_ID
    assert verified.announcement.name == "pi"
    assert node.store.waiting() is None


def lost(node: Node) -> PairingFile:
    """The answer to a Complete gets lost; what the device knows of the session then."""
    node.gateway.refusal = GatewayUnreachable(str(ADDRESS), "no answer")
    node.refused(GatewayUnreachable)
    node.gateway.refusal = None
    waiting = node.store.waiting()
    assert waiting is not None and not waiting.request_id
    return waiting


def test_the_same_csr_until_it_is_answered(node: Node) -> None:
    """A lost answer brings the same certificate again, once the gateway had time to say whether
    the session led to a request."""
    lost(node)
    node.gateway.unknown = True
    done = node.run()
    node.clock.pump([2.0] * MAX_UNKNOWN)
    assert done.called
    first, again = node.gateway.verified
    assert first.csr_der == again.csr_der
    assert node.came_back()
    assert node.store.waiting() is None


def test_a_request_whose_answer_got_lost(node: Node) -> None:
    """Is found again by its session, and no second one is made."""
    session_id = lost(node).session_id
    node.gateway.answer(RequestState.PENDING)
    node.gateway.answer(RequestState.PENDING)
    node.run()
    node.clock.advance(2)
    waiting = node.store.waiting()
    assert waiting is not None
    assert (waiting.session_id, waiting.request_id) == (session_id, "R")
    assert node.seen == ["identity pi", "waiting"]
    pem = node.device.issue(node.gateway.verified[0].csr_der, LATER_MS)
    node.gateway.answer(RequestState.APPROVED, certificate_pem=pem)
    node.clock.advance(1)
    assert node.came_back()
    assert len(node.gateway.verified) == 1


def test_a_refused_complete(node: Node) -> None:
    """There is nothing to ask for later."""
    node.gateway.refusal = RejoinRefused()
    node.refused(RejoinRefused)
    assert node.store.waiting() is None


def waits(node: Node) -> Deferred[None]:
    """A rejoin that waits for an operator."""
    node.gateway.in_time = False
    node.gateway.answer(RequestState.PENDING)
    return node.run()


def test_a_gateway_that_changes_its_ca_meanwhile(node: Node) -> None:
    """It is asked under the other root, for which the question is signed."""
    node.store.trust(OLD_PEM + NEW_PEM)
    done = waits(node)
    node.gateway.ca, node.gateway.bundle_pem = NEW, NEW_PEM
    ended: list[Any] = []
    done.addErrback(lambda failure: ended.append(failure.type))
    node.clock.pump([2.0] * PATIENCE)
    assert ended == [GatewayUnreachable]
    pem = node.device.issue(node.gateway.verified[0].csr_der, LATER_MS)
    node.gateway.answer(RequestState.APPROVED, certificate_pem=pem, ca_pem=OLD_PEM + NEW_PEM)
    node.run()
    node.clock.pump([2.0] * PATIENCE)
    assert node.came_back()
    assert node.gateway.channels[-1].root_pem == NEW.ca_pem
    assert len(node.gateway.verified) == 1


def test_a_gateway_that_is_away_while_an_operator_thinks(node: Node) -> None:
    """The wait is given up and taken up: the certificates are tried in between, and what a person
    sees is said once."""
    done = waits(node)
    node.gateway.away = GatewayUnreachable(str(ADDRESS), "connection refused")
    done.addErrback(lambda failure: failure.trap(GatewayUnreachable) and None)
    node.clock.pump([2.0] * PATIENCE)
    assert done.called
    assert node.store.waiting() is not None
    node.gateway.away = None
    node.gateway.answer(RequestState.REJECTED)
    node.refused(PairingRejected)
    assert node.seen == ["identity pi", "waiting", "retrying"]


def test_an_approval_that_is_over(node: Node) -> None:
    """The gateway does not know the session any more: the device asks anew, at once."""
    node.store.keep_waiting(PairingFile(1, "ab" * 16, "R", str(ADDRESS), OLD_PEM))
    node.gateway.unknown = True
    node.run()
    assert node.came_back()


@pytest.mark.parametrize(("shown", "bundle_pem"), [(OLD, OLD_PEM + NEW_PEM), (NEW, NEW_PEM)])
def test_while_the_gateway_changes_its_ca(node: Node, shown: Authority, bundle_pem: str) -> None:
    """Each root is tried alone; what is signed names the one that the gateway shows."""
    node.store.trust(OLD_PEM + NEW_PEM)
    node.gateway.ca, node.gateway.issuer, node.gateway.bundle_pem = shown, NEW, bundle_pem
    node.run()
    assert node.came_back()
    assert node.store.client().ca_bundle_pem == bundle_pem


def test_a_bundle_of_strangers(node: Node) -> None:
    """Is refused; what there was stays."""
    stranger = new_authority()
    node.gateway.bundle_pem = stranger.ca_pem.decode()
    node.refused(VerificationFailed)
    assert node.store.client().current == node.device.first


def test_only_this_clock_says_so(node: Node) -> None:
    """By the gateway's clock the certificate is good: nothing is asked for."""
    node.gateway.now_ms = NOW_MS
    node.run(expired=True)
    assert node.gateway.channels[0].calls == ["begin"]
    assert node.store.client().current == node.device.first
    assert node.time.now_ms() == NOW_MS
    assert node.store.client().usable(node.time.now_ms())
    assert node.seen == []


def test_the_gateway_said_so(node: Node) -> None:
    """Then a certificate that looks good is no reason to stop."""
    node.gateway.now_ms = NOW_MS
    node.run()
    assert len(node.gateway.verified) == 1
    assert node.store.client().current != node.device.first


def test_an_approval_is_needed(node: Node) -> None:
    """The device waits for an operator, and picks its certificate up."""
    node.gateway.in_time = False
    node.gateway.answer(RequestState.PENDING)
    done = node.run()
    waiting = node.store.waiting()
    assert waiting is not None
    assert (waiting.gateway, waiting.ca_pem) == (str(ADDRESS), OLD_PEM)
    assert node.seen == ["identity pi", "waiting"]
    assert not done.called
    csr_der = node.gateway.verified[0].csr_der
    pem = node.device.issue(csr_der, LATER_MS)
    node.gateway.answer(RequestState.APPROVED, certificate_pem=pem, ca_pem=OLD_PEM)
    node.clock.advance(1)
    assert done.called
    assert node.came_back()
    assert node.store.waiting() is None


def test_a_restart_while_it_waits(node: Node) -> None:
    """The same approval is waited for."""
    node.gateway.in_time = False
    node.gateway.hold = Deferred()
    done = node.run()
    ended: list[Any] = []
    done.addErrback(lambda failure: ended.append(failure.check(CancelledError)))
    done.cancel()
    assert ended == [CancelledError]
    assert node.store.waiting() is not None
    node.gateway.hold = None
    pem = node.device.issue(node.gateway.verified[0].csr_der, LATER_MS)
    node.gateway.answer(RequestState.APPROVED, certificate_pem=pem)
    node.run()
    assert node.gateway.channels[-1].calls == ["status"]
    assert node.came_back()


@pytest.mark.parametrize(
    ("gateway", "ca_pem"),
    [("other:7443", OLD_PEM), (str(ADDRESS), NEW_PEM), (str(ADDRESS), "damaged")],
)
def test_an_approval_that_is_not_this_gateways(node: Node, gateway: str, ca_pem: str) -> None:
    """A pairing with another gateway was given up: this device comes back without it."""
    other = PairingFile(1, "ab" * 16, "R", gateway, ca_pem)
    node.store.keep_waiting(other)
    node.run()
    assert node.came_back()
    assert "status" not in node.gateway.channels[0].calls


def test_an_operator_says_no(node: Node) -> None:
    """That is final; it is not waited for again."""
    node.gateway.in_time = False
    node.gateway.answer(RequestState.REJECTED)
    node.refused(PairingRejected)
    assert node.store.waiting() is None
    assert node.store.client().current == node.device.first


@pytest.mark.parametrize(
    "refusal", [RejoinRefused(), RemoteRefusal("device_revoked", "Revoked.", final=True)]
)
def test_not_let_in(node: Node, refusal: PalyraError) -> None:
    """Final, and nothing has changed."""
    node.gateway.refusal = refusal
    node.refused(type(refusal))
    assert is_final(refusal)
    assert node.store.client().current == node.device.first


def test_the_gateway_is_away(node: Node) -> None:
    """Nothing was asked, and no other root is tried where nobody is heard."""
    node.store.trust(OLD_PEM + NEW_PEM)
    node.gateway.away = GatewayUnreachable(str(ADDRESS), "connection refused")
    node.refused(GatewayUnreachable)
    assert len(node.gateway.channels) == 1
    assert node.gateway.verified == []


DEAD = HostPort("dead.example", 7443)


@pytest.fixture
def astray(tmp_path: Path) -> Iterator[Node]:
    """A device with two gateways, where nobody is at the first one; two roots are trusted."""
    made = Node(tmp_path / "identity", (DEAD, ADDRESS))
    made.gateway.dead = DEAD
    made.store.trust(OLD_PEM + NEW_PEM)
    yield made
    assert all(each.closed for each in made.gateway.channels)
    assert not made.clock.getDelayedCalls()


def test_the_first_gateway_is_away(astray: Node) -> None:
    """The next one is asked, in their order."""
    astray.run()
    assert astray.came_back()
    assert astray.gateway.addresses == [DEAD, ADDRESS]


def test_every_gateway_is_away(astray: Node) -> None:
    """The first one's word stands."""
    astray.gateway.away = GatewayUnreachable(str(ADDRESS), "no answer")
    failed: list[Any] = []
    astray.run().addErrback(lambda failure: failed.append(failure.value))
    assert [each.address for each in failed] == [str(DEAD)]
    assert astray.gateway.addresses == [DEAD, ADDRESS]


def test_where_it_was_begun_is_away_now(astray: Node) -> None:
    """Another gateway is asked what became of the request, which it knows too."""
    lost(astray)
    waiting = astray.store.waiting()
    assert waiting is not None and waiting.gateway == str(ADDRESS)
    begun_there = msgspec.structs.replace(waiting, gateway=str(DEAD), request_id="R")
    astray.store.keep_waiting(begun_there)
    pem = astray.device.issue(astray.gateway.verified[0].csr_der, LATER_MS)
    astray.gateway.answer(RequestState.APPROVED, certificate_pem=pem)
    astray.run()
    astray.clock.pump([2.0] * PATIENCE)
    assert astray.came_back()
    assert len(astray.gateway.verified) == 1


def test_a_limit(node: Node) -> None:
    """What Begin is refused with is passed on."""
    node.gateway.away = RemoteRefusal("limit_reached", "Too many.", transient=True)
    node.refused(RemoteRefusal)
    assert not is_final(node.gateway.away)
    assert len(node.gateway.channels) == 1


def test_a_certificate_for_another_key(node: Node) -> None:
    """A gateway that answers with another one's certificate is not believed."""
    node.gateway.in_time = False
    key = check_csr(node.store.new_csr(DEVICE_ID), DEVICE_ID)
    assert key is not None
    other = PairedDevice(node.store.path.parent / "other", OLD)
    node.gateway.answer(
        RequestState.APPROVED, certificate_pem=other.first.certificate_pem, ca_pem=OLD_PEM
    )
    node.refused(VerificationFailed)
    assert node.store.client().current == node.device.first
