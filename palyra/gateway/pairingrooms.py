"""The rooms of pairing, composed: codes, requests, approvals, and the proofs of strangers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from palyra.core.identifiers import DeviceId
from palyra.core.rates import RateLimits, SourceLedger
from palyra.gateway.approvals import Approvals
from palyra.gateway.codes import Codes
from palyra.gateway.enrolment import Enrolment
from palyra.gateway.ground import Doors, Ground
from palyra.gateway.inventory import Inventory
from palyra.gateway.issuing import Issuer
from palyra.gateway.onethread import OneThread
from palyra.gateway.pinwork import PinWork
from palyra.gateway.proofs import Office, Verifier
from palyra.gateway.rejoin import Rejoins
from palyra.gateway.requests import PairingRequests


class PairingRooms:
    """What an unpaired device meets, and what operators decide about it."""

    def __init__(
        self,
        ground: Ground,
        doors: Doors,
        *,
        inventory: Inventory,
        issuer: Issuer,
        rejoins: Rejoins,
        identity_replaced: Callable[[DeviceId, str], Awaitable[object]],
        changed: Callable[[], object],
    ) -> None:
        store, limits = ground.store, ground.config.enrolment
        self.approvals = Approvals(
            clock=ground.reactor,
            store=store,
            inventory=inventory,
            identity_replaced=identity_replaced,
            changed=changed,
        )
        self.codes = Codes(
            log=store,
            sealer=ground.identity.sealer,
            entropy=ground.entropy,
            limits=limits,
            now_ms=ground.now_ms,
        )
        self.requests = PairingRequests(
            now_ms=ground.now_ms,
            entropy=ground.entropy,
            store=store,
            inventory=inventory,
            approvals=self.approvals,
            issuer=issuer,
            sealer=ground.identity.sealer,
            limits=limits,
            node_rpc_address=lambda: str(doors.node_rpc_address()),
            quic_address=doors.quic_address,
            changed=changed,
        )
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
            verifier=Verifier(ca_hashes=lambda: ground.identity.ca_hashes, inventory=inventory),
            requests=self.requests,
            ledger=self.ledger,
            limits=limits,
            entropy=ground.entropy,
            now_ms=ground.now_ms,
            elapsed_ms=ground.elapsed_ms,
        )
        self.pin_thread = OneThread(ground.reactor, "palyra-pin")
        self.enrolment = Enrolment(
            clock=ground.reactor,
            elapsed_ms=ground.elapsed_ms,
            office=office,
            pins=PinWork(
                in_thread=self.pin_thread, entropy=ground.entropy, elapsed_ms=ground.elapsed_ms
            ),
            rejoins=rejoins,
        )

    async def start(self) -> None:
        """Take over the codes and requests that are on record."""
        await self.approvals.start()
        await self.codes.start()
        self.enrolment.start()
        self.pin_thread.start()

    def stop(self) -> None:
        """Stop what watches; nothing is asked of these rooms any more."""
        self.enrolment.stop()
        self.approvals.stop()
