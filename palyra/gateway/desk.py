"""The desk: what carriers ask, answered by the rooms behind it."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from zope.interface import implementer

from palyra.config.jobs import JobsSection
from palyra.core.devices import INVOKE_OTHERS, ClientKind
from palyra.core.frames import Hello, NodeEvent, Welcome
from palyra.core.identifiers import DeviceId, short_id
from palyra.core.jobs import Job
from palyra.core.transcript import DeviceProof
from palyra.errors import PolicyDenied
from palyra.gateway.dispatch import Dispatcher
from palyra.gateway.enrolment import Enrolment
from palyra.gateway.inventory import Inventory
from palyra.gateway.orders import CALLER_MARGIN_MS, Order
from palyra.gateway.sessions import NodeSession, Sessions
from palyra.gateway.trust import Revoker
from palyra.transport.interfaces import ICarrier, IEnrolmentDesk, INodeDesk, Peer
from palyra.wire.pairing import Begin, Completed, SessionOpened, StatusAnswer, StatusQuestion


@implementer(IEnrolmentDesk)
class EnrolmentDesk:
    """What an unpaired peer may ask."""

    def __init__(self, enrolment: Enrolment) -> None:
        self._enrolment = enrolment

    def begin(self, message: Begin, address: str) -> Deferred[SessionOpened]:
        return Deferred.fromCoroutine(self._enrolment.begin(message, address))

    def complete(self, message: DeviceProof, address: str) -> Deferred[Completed]:
        return Deferred.fromCoroutine(self._enrolment.complete(message, address))

    def status(self, message: StatusQuestion, address: str) -> Deferred[StatusAnswer]:
        return Deferred.fromCoroutine(self._enrolment.status(message))


@implementer(INodeDesk)
class NodeDesk:
    """What a paired client may ask."""

    def __init__(
        self,
        *,
        now_ms: Callable[[], int],
        inventory: Inventory,
        sessions: Sessions,
        dispatcher: Dispatcher,
        revoker: Revoker,
        limits: JobsSection,
    ) -> None:
        self._now_ms = now_ms
        self._inventory = inventory
        self._sessions = sessions
        self._dispatcher = dispatcher
        self._revoker = revoker
        self._limits = limits

    def admit(self, pem: bytes, claimed: str | None, address: str, transport: str) -> Peer:
        admitted = self._inventory.gate.admit(pem, self._now_ms(), claimed)
        return Peer(
            device_id=admitted.device_id,
            fingerprint=admitted.fingerprint,
            not_after_ms=admitted.not_after_ms,
            address=address,
            transport=transport,
        )

    def register(self, peer: Peer, hello: Hello) -> Deferred[Welcome]:
        device = self._inventory.paired(peer.device_id)
        if device.client_kind is not ClientKind.NODE:
            raise PolicyDenied(device.name, "register as a node", "it was paired as another kind")
        return Deferred.fromCoroutine(self._sessions.register(peer, hello))

    def attach(self, peer: Peer, first: NodeEvent, carrier: ICarrier) -> NodeSession:
        return self._sessions.attach(peer, first, carrier)

    def execute(
        self,
        peer: Peer,
        device_id: DeviceId,
        capability: str,
        input_json: bytes,
        max_payload_bytes: int | None,
        timeout_ms: int | None,
    ) -> Deferred[Job]:
        caller = self._inventory.paired(peer.device_id)
        if device_id != caller.device_id:
            if caller.client_kind is ClientKind.NODE:
                raise PolicyDenied(caller.name, "run on other devices", "it is a node")
            if INVOKE_OTHERS not in caller.grants:
                raise PolicyDenied(caller.name, "run on other devices", "that was not granted")
        order = Order(
            device_id=device_id,
            capability=capability,
            input_json=input_json,
            requested_by=f"{caller.name} ({short_id(caller.device_id)})",
            max_payload_bytes=max_payload_bytes,
            timeout_ms=timeout_ms,
        )
        wait_ms = (timeout_ms or int(self._limits.timeout_s * 1000)) + CALLER_MARGIN_MS
        return self._dispatcher.run(order, wait_ms)

    def revoke_self(self, peer: Peer, reason: str) -> Deferred[None]:
        device = self._inventory.paired(peer.device_id)
        return Deferred.fromCoroutine(self._revoker.revoke_self(device, reason))
