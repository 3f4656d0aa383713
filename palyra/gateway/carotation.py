"""The gateway's CAs while one replaces the other (PROTOCOL: Trust, CA rotation).

In the overlap both are trusted, new certificates come from the new one, and the listeners still
show a certificate of the old one, which every device knows.  Then they show one of the new CA; at
last the old one is trusted no more.  No step is taken before every device can follow it, or has
been away for longer than it may.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from twisted.logger import Logger

from palyra.core.audit import AuditEntry, acting
from palyra.core.devices import ClientKind, Device, DeviceState
from palyra.core.identifiers import grouped
from palyra.gateway.inventory import Inventory
from palyra.gateway.renewals import Renewals
from palyra.pki.keystore import GatewayIdentity
from palyra.pki.trust import ChainVerifier

REASON = "the gateway's CA is rotated"
JUMP_MS = 3_600_000
EXPIRY_MARGIN_MS = 300_000
"""A session may outlive its certificate by as much."""


class CaRotator:
    """Moves the gateway and its devices from one CA to the next."""

    _log = Logger()

    def __init__(
        self,
        *,
        identity: GatewayIdentity,
        inventory: Inventory,
        renewals: Renewals,
        trust_domain: str,
        device_life_ms: int,
        grace_ms: int,
        now_ms: Callable[[], int],
        elapsed_ms: Callable[[], int],
        published: Callable[[], object],
        record: Callable[[Sequence[AuditEntry]], Awaitable[object]],
    ) -> None:
        """``grace_ms`` is how long a device may be away and still rejoin; ``published`` renews the
        revocation lists, ``record`` keeps audit rows."""
        self._elapsed_ms = elapsed_ms
        self._ticked = (now_ms(), elapsed_ms())
        self._doubt_ends_ms = 0
        self.identity = identity
        self._inventory = inventory
        self._renewals = renewals
        self._trust_domain = trust_domain
        self._device_life_ms = device_life_ms
        self._grace_ms = grace_ms
        self._now_ms = now_ms
        self._published = published
        self._record = record

    @property
    def phase(self) -> str:
        """``steady``, ``overlap`` or ``switched``."""
        rotation = self.identity.rotation
        return "steady" if rotation is None else rotation.phase

    async def begin(self, by: str, reason: str) -> None:
        """Make a new CA, trust both, and order every device to renew under the new one.

        :raises RotationRunning: a rotation is under way.
        """
        rotation = self.identity.begin_rotation(self._now_ms())
        self._changed()
        self._log.warn(
            "CA rotation by {by}: from {old} to {new}",
            by=by,
            old=grouped(rotation.old),
            new=grouped(rotation.new),
        )
        begun = AuditEntry(
            self._now_ms(),
            "ca.rotation_begun",
            reason=reason,
            who="" if acting() else by,
            details={"old": rotation.old, "new": rotation.new},
        )
        await self._record([begun])
        await self._renewals.order(self._paired(), by, reason or REASON)

    def left(self) -> list[Device]:
        """The devices that have not registered with a certificate of the newest CA."""
        if self.phase != "overlap":
            return []
        newest = self.identity.issuing.ca_hash
        return [device for device in self._paired() if not self._moved(device, newest)]

    def next_step_ms(self) -> int | None:
        """When the next step is taken at the latest, whoever is left; None in a steady time."""
        rotation = self.identity.rotation
        if rotation is None:
            return None
        if rotation.phase == "overlap":
            return rotation.started_at_ms + self._grace_ms
        switched_ms = rotation.switched_at_ms or rotation.started_at_ms
        return switched_ms + self._device_life_ms + EXPIRY_MARGIN_MS

    async def tick(self) -> None:
        """Take the next step if it is time for it, and order whoever nobody has ordered yet."""
        doubtful = self._clock_jumped()
        rotation, now_ms = self.identity.rotation, self._now_ms()
        due_ms = self.next_step_ms()
        if rotation is None or due_ms is None:
            return
        if rotation.phase == "overlap":
            unasked = [each for each in self.left() if each.rotate_asked_at_ms is None]
            if unasked:
                await self._renewals.order(unasked, "the gateway", REASON)
        if doubtful and now_ms >= due_ms:
            return  # no step back: whether so much time has passed is seen in an hour
        if rotation.phase == "overlap" and (now_ms >= due_ms or not self.left()):
            self.identity.switch(now_ms)
            self._log.warn("CA rotation: the listeners show a certificate of the new CA")
            self._changed()
            await self._record([AuditEntry(now_ms, "ca.rotation_switched")])
        elif rotation.phase == "switched" and now_ms >= due_ms:
            self.identity.finish(now_ms)
            self._log.warn("CA rotation: the old CA is trusted no more")
            self._changed()
            await self._record([AuditEntry(now_ms, "ca.rotation_ended")])

    def _clock_jumped(self) -> bool:
        """Whether the wall clock has leapt forward of late: it may be about to be put right."""
        wall_ms, elapsed_ms = self._now_ms(), self._elapsed_ms()
        before_wall_ms, before_ms = self._ticked
        self._ticked = (wall_ms, elapsed_ms)
        if wall_ms - before_wall_ms > elapsed_ms - before_ms + JUMP_MS:
            self._doubt_ends_ms = elapsed_ms + JUMP_MS
        return elapsed_ms < self._doubt_ends_ms

    def _changed(self) -> None:
        self._inventory.gate.replace_chain(ChainVerifier(self.identity.roots, self._trust_domain))
        self._published()

    def _moved(self, device: Device, newest: str) -> bool:
        """Whether it uses a certificate of the newest CA, and so was told of that CA.

        A node proves that by registering.  Other clients never do: they were answered at least.
        """
        inventory, device_id = self._inventory, device.device_id
        if device.client_kind is ClientKind.NODE:
            held = inventory.current_certificate(device_id)
        else:
            held = inventory.newest_certificate(device_id)
        return held is not None and held.issuer == newest

    def _paired(self) -> list[Device]:
        known = self._inventory.devices()
        return [device for device in known if device.state is DeviceState.PAIRED]
