"""A gateway's enrolment, for real: its desk and its listener on the loopback, over a store in
memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.internet.defer import Deferred, execute, succeed
from zope.interface import implementer

from palyra._reactor import the_reactor
from palyra.config.addresses import HostPort
from palyra.config.enrolment import EnrolmentSection
from palyra.core.pairing import CodeMethod, PairingRequest
from palyra.core.pairing_uri import PairingUri
from palyra.core.pin import PinCode
from palyra.core.rates import RateLimits, SourceLedger
from palyra.errors import PalyraError
from palyra.gateway.approvals import Approvals, Verdict
from palyra.gateway.codes import Codes, CodeWish
from palyra.gateway.desk import EnrolmentDesk
from palyra.gateway.enrolment import Enrolment
from palyra.gateway.inventory import Inventory
from palyra.gateway.issuing import Issuer
from palyra.gateway.pinwork import PinWork
from palyra.gateway.proofs import Office, Verifier
from palyra.gateway.rejoin import Rejoins
from palyra.gateway.requests import PairingRequests
from palyra.pki.authority import DAY_MS, Authority
from palyra.pki.sealing import Sealer
from palyra.pki.trust import ChainVerifier
from palyra.store.memory import MemoryStore
from palyra.transport.asyncbridge import as_deferred
from palyra.transport.grpclistener import ENROLMENT_OPTIONS, MAX_PAIRING_MESSAGE, GrpcListener
from palyra.transport.grpcserver import EnrolmentServicer
from palyra.transport.interfaces import IEnrolmentDesk

GATEWAY_ID = "01M80NKQCNGATEWAYZT9B3FVHD"
T = TypeVar("T")
NODE_RPC = "127.0.0.1:7444"
QUIC = "127.0.0.1:9444"


@implementer(IEnrolmentDesk)
class WatchedDesk:
    """The enrolment's desk; it counts calls and can be made to fail."""

    def __init__(self, desk: EnrolmentDesk) -> None:
        self._desk = desk
        self.calls: list[str] = []
        self.status_error: PalyraError | None = None

    def begin(self, message: Any, address: str) -> Deferred[Any]:
        self.calls.append("begin")
        return self._desk.begin(message, address)

    def complete(self, message: Any, address: str) -> Deferred[Any]:
        self.calls.append("complete")
        return self._desk.complete(message, address)

    def status(self, message: Any, address: str) -> Deferred[Any]:
        self.calls.append("status")
        if self.status_error is not None:
            raise self.status_error
        return self._desk.status(message, address)


def _at_once(work: Callable[..., T], *arguments: Any) -> Deferred[T]:
    return execute(work, *arguments)


class OneCa:
    """The identity of a gateway with one CA, on no disk (as far as enrolment uses it)."""

    def __init__(self, authority: Authority) -> None:
        self.issuing = authority
        self.ca_bundle_pem = authority.ca_pem
        self.ca_hashes = (bytes.fromhex(authority.ca_hash),)
        self.sealer = Sealer(bytes(32), entropy=os.urandom)


class Gateway:
    """One gateway that only enrols."""

    def __init__(self) -> None:
        self.reactor = the_reactor()
        self.store = MemoryStore(now_ms=self.now_ms)
        self.authority = Authority.create(
            trust_domain="palyra", now_ms=self.now_ms(), entropy=os.urandom
        )
        inventory = Inventory(ChainVerifier([self.authority.ca_certificate], "palyra"))
        self.approvals = Approvals(
            clock=self.reactor,
            store=self.store,
            inventory=inventory,
            identity_replaced=lambda *_: succeed(None),
            changed=lambda: None,
        )
        self._compose(OneCa(self.authority), inventory, EnrolmentSection())
        self.desk = WatchedDesk(EnrolmentDesk(self.enrolment))
        self.address = HostPort("127.0.0.1", 0)
        self._listener: GrpcListener | None = None
        self._served = self._certificate()

    def _compose(self, trust: Any, inventory: Inventory, limits: EnrolmentSection) -> None:
        self.codes = Codes(
            log=self.store,
            sealer=trust.sealer,
            entropy=os.urandom,
            limits=limits,
            now_ms=self.now_ms,
        )
        issuer = Issuer(trust=trust, life_ms=DAY_MS, now_ms=self.now_ms)
        requests = PairingRequests(
            now_ms=self.now_ms,
            entropy=os.urandom,
            store=self.store,
            inventory=inventory,
            approvals=self.approvals,
            issuer=issuer,
            sealer=trust.sealer,
            limits=limits,
            node_rpc_address=lambda: NODE_RPC,
            quic_address=lambda: QUIC,
            changed=lambda: None,
        )
        office = Office(
            codes=self.codes,
            verifier=Verifier(ca_hashes=lambda: trust.ca_hashes, inventory=inventory),
            requests=requests,
            ledger=SourceLedger(RateLimits()),
            limits=limits,
            entropy=os.urandom,
            now_ms=self.now_ms,
            elapsed_ms=self.now_ms,
        )
        self.enrolment = Enrolment(
            clock=self.reactor,
            elapsed_ms=self.now_ms,
            office=office,
            pins=PinWork(in_thread=_at_once, entropy=os.urandom, elapsed_ms=self.now_ms),
            rejoins=Rejoins(
                directory=self.store,
                inventory=inventory,
                issuer=issuer,
                grace_ms=limits.rejoin_grace_s * 1000,
                old_sessions=lambda *_: succeed(None),
                changed=lambda: None,
            ),
        )

    def now_ms(self) -> int:
        """The time of day."""
        return int(self.reactor.seconds() * 1000)

    def _certificate(self) -> tuple[bytes, bytes]:
        key = ec.generate_private_key(ec.SECP256R1())
        issued = self.authority.issue_gateway(key.public_key(), GATEWAY_ID, (), self.now_ms())
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return pem, issued.pem + self.authority.ca_pem

    async def start(self) -> None:
        """Listen; again after ``stop``, on the same port."""
        await self.approvals.start()
        self.enrolment.start()
        self._listener = GrpcListener(
            name="enrolment",
            address=self.address,
            servicer=EnrolmentServicer(self.desk),
            certificate=lambda: self._served,
            client_ca_pem=None,
            max_message=MAX_PAIRING_MESSAGE,
            max_connections=64,
            options=ENROLMENT_OPTIONS,
        )
        await as_deferred(self._listener._start())
        self.address = self._listener.address

    async def stop(self) -> None:
        """Go away."""
        self.enrolment.stop()
        self.approvals.stop()
        if self._listener is not None:
            await self._listener.stop(0)
            self._listener = None

    async def line(self) -> PairingUri:
        """A new pairing line."""
        new = await self.codes.mint(CodeWish(CodeMethod.QR, "ana"))
        ca = bytes.fromhex(self.authority.ca_hash)
        return PairingUri(self.address.host, self.address.port, ca, new.token)

    async def pin(self) -> PinCode:
        """A new PIN."""
        new = await self.codes.mint(CodeWish(CodeMethod.PIN, "ana"))
        assert new.pin is not None
        return new.pin

    async def approve(self, request_id: Any) -> PairingRequest:
        """An operator's yes."""
        return await self.approvals.approve(request_id, Verdict("ana"))

    async def reject(self, request_id: Any) -> PairingRequest:
        """An operator's no."""
        return await self.approvals.reject(request_id, Verdict("ana", "not ours"))
