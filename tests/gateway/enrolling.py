"""A gateway with a real authority, and devices that really pair with it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import attrs
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.internet.defer import Deferred, execute

from palyra.config.addresses import HostPort
from palyra.config.enrolment import EnrolmentSection
from palyra.config.jobs import JobsSection
from palyra.core.announcement import Announcement, encode_announcement
from palyra.core.devices import AnnouncedCapability, ClientKind
from palyra.core.handshake import DeviceHandshake
from palyra.core.identifiers import DeviceId, RequestId, new_ulid
from palyra.core.interfaces import RequestQuery
from palyra.core.pairing import CodeMethod, PairingRequest
from palyra.core.pairing_uri import spell_token
from palyra.core.pin import PinCode
from palyra.core.rates import RateLimits, SourceLedger
from palyra.core.transcript import DeviceProof, Purpose
from palyra.gateway.approvals import Approvals, Verdict
from palyra.gateway.carotation import CaRotator
from palyra.gateway.clones import CloneAlarms
from palyra.gateway.codes import Codes, CodeWish, NewCode
from palyra.gateway.control import Control
from palyra.gateway.crl import RevocationLists
from palyra.gateway.desk import EnrolmentDesk, NodeDesk
from palyra.gateway.enrolment import Enrolment
from palyra.gateway.health import HealthCheck
from palyra.gateway.inventory import Inventory
from palyra.gateway.issuing import Issuer
from palyra.gateway.journal import Journal
from palyra.gateway.onethread import InThread
from palyra.gateway.pinwork import PinWork
from palyra.gateway.proofs import Office, Verifier
from palyra.gateway.rejoin import Rejoins
from palyra.gateway.renewals import Renewals
from palyra.gateway.requests import PairingRequests
from palyra.gateway.trust import Revoker
from palyra.pki.authority import DAY_MS, Authority
from palyra.pki.csr import make_csr
from palyra.pki.sealing import Sealer
from palyra.pki.trust import ChainVerifier
from palyra.wire.pairing import Begin, Completed, SessionOpened, StatusAnswer, StatusQuestion
from tests.gateway.house import CAPABILITIES, House, result_of
from tests.store.samples import NOW_MS

T = TypeVar("T")
DOMAIN = "palyra.test"
HOME = "192.0.2.7"
_random = random.Random(11)
AUTHORITY = Authority.create(trust_domain=DOMAIN, now_ms=NOW_MS - DAY_MS, entropy=_random.randbytes)
CSR_KEY = ec.generate_private_key(ec.SECP256R1())


class FakeTrust:
    """The identity of a gateway with one CA, on no disk (as far as rooms use it)."""

    def __init__(self) -> None:
        self.issuing = AUTHORITY
        self.authorities = (AUTHORITY,)
        self.roots = (AUTHORITY.ca_certificate,)
        self.ca_bundle_pem = AUTHORITY.ca_pem
        self.ca_hashes = (bytes.fromhex(AUTHORITY.ca_hash),)
        self.serving_ca_hash = AUTHORITY.ca_hash
        self.rotation = None
        self.sealer = Sealer(bytes(32), entropy=_random.randbytes)
        self.gateway_certificate = attrs.make_class("Leaf", {"not_after_ms": attrs.field()})(
            NOW_MS + 30 * DAY_MS
        )


def at_once(work: Callable[..., T], *arguments: Any) -> Deferred[T]:
    """A thread that has done its work before anybody waits for it."""
    return execute(work, *arguments)


class Gateway(House):
    """The house with enrolment, trust and control on it; ``identity`` is kept over restarts."""

    def __init__(
        self, *, jobs: JobsSection | None = None, identity: Any = None, **limits: Any
    ) -> None:
        self.enrolment_limits = EnrolmentSection(**limits)
        self.identity: Any = identity or FakeTrust()
        self.snapshots = 0
        self.published = 0
        self.serving = True
        self.in_thread: InThread = at_once
        super().__init__(limits=jobs)

    def begin(self) -> None:
        super().begin()
        limits = self.enrolment_limits
        self.inventory.gate.replace_chain(ChainVerifier(self.identity.roots, DOMAIN))
        self.revoker = Revoker(
            now_ms=self.now_ms,
            directory=self.store,
            inventory=self.inventory,
            sessions=self.sessions,
            dispatcher=self.dispatcher,
            snapshot=self._snapshot,
            published=self._publish,
        )
        self.approvals = Approvals(
            clock=self.clock,
            store=self.store,
            inventory=self.inventory,
            identity_replaced=self.revoker.identity_replaced,
            changed=self._changed,
        )
        self.issuer = Issuer(trust=self.identity, life_ms=DAY_MS, now_ms=self.now_ms)
        self.renewals = Renewals(
            now_ms=self.now_ms,
            directory=self.store,
            inventory=self.inventory,
            issuer=self.issuer,
            sessions=self.sessions,
            limits=limits,
            changed=self._changed,
        )
        self.rotator = CaRotator(
            identity=self.identity,
            inventory=self.inventory,
            renewals=self.renewals,
            trust_domain=DOMAIN,
            device_life_ms=DAY_MS,
            grace_ms=limits.rejoin_grace_s * 1000,
            now_ms=self.now_ms,
            elapsed_ms=self.now_ms,
            published=self._publish,
            record=self.store.record,
        )
        self._begin_enrolment(limits)
        self.desk = EnrolmentDesk(self.enrolment)
        self.journal = Journal(log=self.store, now_ms=self.now_ms)
        self.sessions.noted = self.journal.noted
        self.node_desk = NodeDesk(
            now_ms=self.now_ms,
            inventory=self.inventory,
            sessions=self.sessions,
            dispatcher=self.dispatcher,
            submission=self.submission,
            followers=self.followers,
            revoker=self.revoker,
            renewals=self.renewals,
            journal=self.journal,
        )
        self.lists = self._lists()
        self.control = Control(
            store=self.store,
            inventory=self.inventory,
            board=self.board,
            sessions=self.sessions,
            dispatcher=self.dispatcher,
            fanouts=self.fanouts,
            followers=self.followers,
            submission=self.submission,
            codes=self.codes,
            ledger=self.ledger,
            elapsed_ms=self.now_ms,
            approvals=self.approvals,
            revoker=self.revoker,
            renewals=self.renewals,
            rotator=self.rotator,
            lists=self.lists,
            serving=self,
            health=self._health(self.inventory),
            descriptors=self.descriptors,
            pairing_address=lambda: HostPort("gateway.test", 7443),
            changed=self._changed,
        )

    def _begin_enrolment(self, limits: EnrolmentSection) -> None:
        self.codes = Codes(
            log=self.store,
            sealer=self.identity.sealer,
            entropy=self.entropy,
            limits=limits,
            now_ms=self.now_ms,
        )
        self.requests = PairingRequests(
            now_ms=self.now_ms,
            entropy=self.entropy,
            store=self.store,
            inventory=self.inventory,
            approvals=self.approvals,
            issuer=self.issuer,
            sealer=self.identity.sealer,
            limits=limits,
            node_rpc_address=lambda: "gateway.test:7444",
            quic_address=lambda: "gateway.test:9444",
            changed=self._changed,
        )
        self.sessions.certificate_used = self.requests.certificate_used
        self.ledger = SourceLedger(
            RateLimits(
                failures_per_source=limits.failed_proofs_per_source,
                starts=limits.session_starts_per_minute,
                open_sessions=limits.open_sessions,
                open_per_source=limits.open_sessions_per_source,
            )
        )
        office = Office(
            codes=self.codes,
            verifier=Verifier(ca_hashes=lambda: self.identity.ca_hashes, inventory=self.inventory),
            requests=self.requests,
            ledger=self.ledger,
            limits=limits,
            entropy=self.entropy,
            now_ms=self.now_ms,
            elapsed_ms=self.now_ms,
        )
        self.rejoins = Rejoins(
            directory=self.store,
            inventory=self.inventory,
            issuer=self.issuer,
            grace_ms=limits.rejoin_grace_s * 1000,
            old_sessions=self.sessions.replaced,
            changed=self._changed,
        )
        self.enrolment = Enrolment(
            clock=self.clock,
            elapsed_ms=self.now_ms,
            office=office,
            pins=PinWork(
                in_thread=lambda work, *given: self.in_thread(work, *given),
                entropy=self.entropy,
                elapsed_ms=self.now_ms,
            ),
            rejoins=self.rejoins,
        )
        result_of(Deferred.fromCoroutine(self.approvals.start()))
        result_of(Deferred.fromCoroutine(self.codes.start()))
        self.enrolment.start()

    def _lists(self) -> RevocationLists:
        return RevocationLists(
            Path("/dev/null"),
            identity=self.identity,
            inventory=self.inventory,
            now_ms=self.now_ms,
            in_thread=at_once,
        )

    def ca_bundle_pem(self) -> str:
        bundle: bytes = self.identity.ca_bundle_pem
        return bundle.decode()

    async def serve(self) -> None:
        """Devices are served from now on."""
        self.serving = True

    def _publish(self) -> None:
        self.published += 1

    def end(self) -> None:
        super().end()
        self.enrolment.stop()
        self.approvals.stop()

    def _health(self, inventory: Inventory) -> HealthCheck:
        return HealthCheck(
            state_root=Path("/"),
            now_ms=self.now_ms,
            rotator=self.rotator,
            listeners=dict,
            snapshot_error=lambda: None,
            unconfirmed_since_ms=lambda: self.store.unconfirmed_since_ms,
            inventory=inventory,
            sessions=self.sessions,
            clones=CloneAlarms(self.now_ms),
        )

    async def _snapshot(self) -> None:
        self.snapshots += 1

    # -- what devices and operators do ------------------------------------------------------------

    def answer(self, asked: Deferred[T]) -> T:
        """An answer of the enrolment desk: never sooner than 50 ms, and not later either."""
        self.clock.advance(0.049)
        assert not asked.called, "answered too soon"
        self.clock.advance(0.002)
        return result_of(asked)

    def code(self, **changes: Any) -> NewCode:
        """A new code."""
        wish = CodeWish(**{"method": CodeMethod.QR, "issued_by": "ana", **changes})
        return result_of(Deferred.fromCoroutine(self.codes.mint(wish)))

    def pin(self, **changes: Any) -> PinCode:
        """A new PIN, as it is shown once."""
        minted = self.code(method=CodeMethod.PIN, **changes)
        assert minted.pin is not None
        return minted.pin

    def open(
        self,
        token: str,
        address: str = HOME,
        kind: ClientKind = ClientKind.NODE,
        method: CodeMethod = CodeMethod.QR,
    ) -> SessionOpened:
        """BeginPairingSession with a code."""
        return self.begun(Begin(kind, method, token), address)

    def open_pin(
        self, nameplate: int = 1, address: str = HOME, kind: ClientKind = ClientKind.NODE
    ) -> SessionOpened:
        """BeginPairingSession with a nameplate: the PIN itself is not sent."""
        return self.begun(Begin(kind, CodeMethod.PIN, nameplate=nameplate), address)

    def open_rejoin(self, device_id: DeviceId, address: str = HOME) -> SessionOpened:
        """BeginPairingSession of a device that wants to come back."""
        return self.begun(Begin(ClientKind.NODE, CodeMethod.REJOIN, device_id=device_id), address)

    def begun(self, message: Begin, address: str = HOME) -> SessionOpened:
        """BeginPairingSession."""
        return self.answer(self.desk.begin(message, address))

    def complete(self, proof: DeviceProof, address: str = HOME) -> Completed:
        """CompletePairingSession."""
        return self.answer(self.desk.complete(proof, address))

    def status(self, question: StatusQuestion) -> StatusAnswer:
        """GetPairingRequestStatus."""
        return result_of(self.desk.status(question, HOME))

    def approve(self, request_id: str, **changes: Any) -> PairingRequest:
        """An operator's yes."""
        verdict = Verdict(**{"by": "ana", **changes})
        act = self.approvals.approve(RequestId(request_id), verdict)
        return result_of(Deferred.fromCoroutine(act))

    def reject(self, request_id: str) -> PairingRequest:
        """An operator's no."""
        act = self.approvals.reject(RequestId(request_id), Verdict("ana", "not mine"))
        return result_of(Deferred.fromCoroutine(act))

    def request(self, request_id: str) -> PairingRequest:
        """A pairing request as it is kept."""
        kept: PairingRequest | None = result_of(self.store.request(RequestId(request_id)))
        assert kept is not None
        return kept

    def all_requests(self) -> list[PairingRequest]:
        """Every pairing request."""
        return result_of(self.store.requests(RequestQuery()))


@attrs.define
class Applicant:
    """A device that wants to pair."""

    seed: int = 1
    name: str = "pi"
    kind: ClientKind = ClientKind.NODE
    device_id: DeviceId = attrs.field(
        default=attrs.Factory(
            lambda self: DeviceId(new_ulid(NOW_MS, random.Random(self.seed).randbytes)),
            takes_self=True,
        )
    )
    session_id: str = ""
    counter: int = 0
    csr_der: bytes = b""
    ca_hash: bytes = bytes.fromhex(AUTHORITY.ca_hash)
    """Of the CA that it saw, and has as its only root."""
    capabilities: tuple[AnnouncedCapability, ...] = CAPABILITIES

    @property
    def identity_key(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(bytes([self.seed]) * 32)

    @property
    def handshake(self) -> DeviceHandshake:
        return DeviceHandshake(self.identity_key, self.device_id, self.kind)

    def proof(self, opened: SessionOpened, token: str, **changes: Any) -> DeviceProof:
        """What it answers to a session that was opened."""
        self.session_id = opened.begun.session_id
        self.csr_der = self.csr_der or make_csr(CSR_KEY, self.device_id)
        said = Announcement(self.name, "linux", "0.1.0", self.capabilities)
        given: dict[str, Any] = {
            "proof": token,
            "ca_hash": self.ca_hash,
            "csr_der": self.csr_der,
            "announcement": encode_announcement(said),
            "purpose": Purpose.PAIR_URI,
            "entropy": random.Random(self.seed).randbytes,
            **changes,
        }
        return self.handshake.complete(opened.begun, **given)

    def question(self, **changes: Any) -> StatusQuestion:
        """What became of it?"""
        self.counter += 1
        signature = self.handshake.status_proof(self.session_id, self.ca_hash, self.counter)
        asked = StatusQuestion(self.session_id, self.device_id, self.counter, signature)
        return attrs.evolve(asked, **changes)

    def apply(self, gateway: Gateway, **code: Any) -> Completed:
        """Pair up to the point where an operator must decide."""
        token = spell_token(gateway.code(**code).token)
        return gateway.complete(self.proof(gateway.open(token, kind=self.kind), token))

    def pair(self, gateway: Gateway, **verdict: Any) -> StatusAnswer:
        """Pair, with an operator who says yes."""
        gateway.approve(self.apply(gateway).request_id, **verdict)
        return gateway.status(self.question())


def wall_ms() -> int:
    """The time of TLS libraries, which no test can set."""
    return int(time.time() * 1000)
