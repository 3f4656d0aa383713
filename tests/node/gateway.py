"""A gateway's enrolment, for real: its desk and its listener on the loopback, over a store in
memory."""

from __future__ import annotations

import os
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from palyra._reactor import the_reactor
from palyra.config.addresses import HostPort
from palyra.config.enrolment import EnrolmentSection
from palyra.core.pairing import PairingRequest
from palyra.core.pairing_uri import PairingUri
from palyra.errors import PalyraError
from palyra.gateway.approvals import Approvals, Verdict
from palyra.gateway.desk import EnrolmentDesk
from palyra.gateway.enrolment import Enrolment
from palyra.gateway.inventory import Inventory
from palyra.pki.authority import Authority
from palyra.pki.trust import ChainVerifier
from palyra.store.memory import MemoryStore
from palyra.transport.asyncbridge import as_deferred
from palyra.transport.grpclistener import ENROLMENT_OPTIONS, MAX_PAIRING_MESSAGE, GrpcListener
from palyra.transport.grpcserver import EnrolmentServicer
from palyra.transport.interfaces import IEnrolmentDesk

GATEWAY_ID = "01M80NKQCNGATEWAYZT9B3FVHD"
NODE_RPC = "127.0.0.1:7444"


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


class Gateway:
    """One gateway that only enrols."""

    def __init__(self) -> None:
        self.reactor = the_reactor()
        self.store = MemoryStore(now_ms=self.now_ms)
        self.authority = Authority.create(
            trust_domain="palyra", now_ms=self.now_ms(), entropy=os.urandom
        )
        chain = ChainVerifier([self.authority.ca_certificate], "palyra")
        inventory = Inventory(chain)
        self.approvals = Approvals(
            clock=self.reactor,
            store=self.store,
            inventory=inventory,
            identity_replaced=lambda *_: succeed(None),
            changed=lambda: None,
        )
        self.enrolment = Enrolment(
            clock=self.reactor,
            elapsed_ms=lambda: int(self.reactor.seconds() * 1000),
            entropy=os.urandom,
            store=self.store,
            inventory=inventory,
            authority=self.authority,
            limits=EnrolmentSection(),
            node_rpc_address=lambda: NODE_RPC,
            approvals=self.approvals,
            changed=lambda: None,
        )
        self.desk = WatchedDesk(EnrolmentDesk(self.enrolment))
        self.address = HostPort("127.0.0.1", 0)
        self._listener: GrpcListener | None = None
        self._served = self._certificate()

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
        new = await self.enrolment.mint(issued_by="ana", ttl_ms=None, labels={}, source="")
        ca = bytes.fromhex(self.authority.ca_hash)
        return PairingUri(self.address.host, self.address.port, ca, new.token)

    async def approve(self, request_id: Any) -> PairingRequest:
        """An operator's yes."""
        return await self.approvals.approve(request_id, Verdict("ana"))

    async def reject(self, request_id: Any) -> PairingRequest:
        """An operator's no."""
        return await self.approvals.reject(request_id, Verdict("ana", "not ours"))
