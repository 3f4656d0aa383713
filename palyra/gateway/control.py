"""What operators ask, from the console and the CLI, answered by the rooms behind it."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from zope.interface import implementer

from palyra.config.addresses import HostPort
from palyra.console import models
from palyra.console.control import IControl
from palyra.core.devices import (
    Device,
    DeviceChange,
    DeviceState,
    PresenceState,
    clean_name,
    valid_label,
)
from palyra.core.interfaces import IStore, RequestQuery
from palyra.core.pairing import RequestState
from palyra.errors import Malformed
from palyra.gateway.approvals import Approvals
from palyra.gateway.dispatch import Dispatcher
from palyra.gateway.enrolment import Enrolment
from palyra.gateway.fanouts import Fanouts
from palyra.gateway.following import Followers
from palyra.gateway.health import HealthCheck
from palyra.gateway.inventory import Inventory
from palyra.gateway.jobcontrol import JobControl
from palyra.gateway.pairingcontrol import PairingControl
from palyra.gateway.presence import PresenceBoard
from palyra.gateway.queries import offset_cursor
from palyra.gateway.submission import Submission
from palyra.gateway.targets import Targets
from palyra.gateway.trust import Revoker
from palyra.gateway.views import CONTRACT, capability_item

_ORDER = {PresenceState.ONLINE: 0, PresenceState.STALE: 1, PresenceState.OFFLINE: 2}


class NodeControl:
    """What operators ask about devices, and about the gateway itself."""

    def __init__(
        self,
        *,
        store: IStore,
        inventory: Inventory,
        board: PresenceBoard,
        targets: Targets,
        dispatcher: Dispatcher,
        revoker: Revoker,
        health: HealthCheck,
        changed: Callable[[], object],
    ) -> None:
        self._store = store
        self._inventory = inventory
        self._board = board
        self._targets = targets
        self._dispatcher = dispatcher
        self._revoker = revoker
        self._health = health
        self._changed = changed

    def nodes(self, limit: int, cursor: str | None, where: str) -> Deferred[models.NodeList]:
        return Deferred.fromCoroutine(self._nodes(limit, cursor, where))

    async def _nodes(self, limit: int, cursor: str | None, where: str) -> models.NodeList:
        """Devices online first, then stale, then offline, each by name; the cursor is an offset."""
        known = self._targets.matching(where) if where else self._inventory.devices()
        devices = sorted(known, key=self._place)
        begin = offset_cursor(cursor)
        shown = devices[begin : begin + limit]
        more = begin + limit < len(devices)
        waiting = await self._store.requests(
            RequestQuery(states=frozenset({RequestState.PENDING}), limit=1_000)
        )
        return models.NodeList(
            contract=CONTRACT,
            page=models.Page(limit, len(shown), more, str(begin + limit) if more else None),
            nodes=[self._node_item(device) for device in shown],
            waiting_for_approval=len(waiting),
        )

    def _place(self, device: Device) -> tuple[int, str]:
        return _ORDER[self._board.state(device.device_id)], device.name

    def node(self, target: str) -> Deferred[models.NodeAnswer]:
        return Deferred.fromCoroutine(self._node(target))

    async def _node(self, target: str) -> models.NodeAnswer:
        return models.NodeAnswer(CONTRACT, self._node_item(self._inventory.resolve(target)))

    def _node_item(self, device: Device) -> models.NodeItem:
        certificate = self._inventory.newest_certificate(device.device_id)
        heard_ms = self._board.last_heard_ms(device.device_id) or device.last_heard_ms
        trusted = device.state is DeviceState.PAIRED
        return models.NodeItem(
            device_id=device.device_id,
            name=device.name,
            client_kind=device.client_kind.value,
            presence=self._board.state(device.device_id).value,
            trust="trusted" if trusted else device.state.value,
            platform=device.platform,
            version=device.version,
            capabilities=[capability_item(item, device.grants) for item in device.capabilities],
            jobs_running=self._dispatcher.running(device.device_id),
            last_heard_unix_ms=heard_ms,
            transport=device.transport,
            address=device.address,
            certificate_expires_unix_ms=certificate.not_after_ms if certificate else None,
            labels=dict(device.labels),
            identity_fingerprint=device.identity_fingerprint,
            approved_by=device.approved_by,
            paired_at_unix_ms=device.paired_at_ms,
        )

    def label(self, target: str, body: models.LabelNode, by: str) -> Deferred[models.NodeAnswer]:
        return Deferred.fromCoroutine(self._label(target, body))

    async def _label(self, target: str, body: models.LabelNode) -> models.NodeAnswer:
        device = self._inventory.resolve(target)
        if body.name is not None and body.name != clean_name(body.name):
            raise Malformed("name", f"must be like {clean_name(body.name)!r}")
        for key, value in body.labels.items():
            if not valid_label(key, value):
                raise Malformed("labels", f"must not hold {key[:64]!r}={value[:64]!r}")
        change = DeviceChange(device.device_id, body.name, body.labels, frozenset(body.unlabel))
        changed = await self._store.change(change)
        self._inventory.put(changed)
        self._changed()
        return models.NodeAnswer(CONTRACT, self._node_item(changed))

    def revoke(self, target: str, body: models.Revoke, by: str) -> Deferred[models.RevokeAnswer]:
        return Deferred.fromCoroutine(self._revoke(target, body, by))

    async def _revoke(self, target: str, body: models.Revoke, by: str) -> models.RevokeAnswer:
        device = self._inventory.resolve(target)
        revocation = await self._revoker.revoke(device, by, body.reason)
        return models.RevokeAnswer(
            CONTRACT, device.device_id, device.name, len(revocation.certificates)
        )

    def health(self) -> Deferred[models.Health]:
        return Deferred.fromCoroutine(self._health.report())


@implementer(IControl)
class Control(NodeControl, PairingControl, JobControl):
    """Provides :class:`palyra.console.control.IControl`."""

    def __init__(
        self,
        *,
        store: IStore,
        inventory: Inventory,
        board: PresenceBoard,
        dispatcher: Dispatcher,
        fanouts: Fanouts,
        followers: Followers,
        submission: Submission,
        enrolment: Enrolment,
        approvals: Approvals,
        revoker: Revoker,
        health: HealthCheck,
        ca_hash: str,
        pairing_address: Callable[[], HostPort],
        changed: Callable[[], object],
    ) -> None:
        targets = Targets(inventory, board)
        NodeControl.__init__(
            self,
            store=store,
            inventory=inventory,
            board=board,
            targets=targets,
            dispatcher=dispatcher,
            revoker=revoker,
            health=health,
            changed=changed,
        )
        PairingControl.__init__(
            self,
            store=store,
            inventory=inventory,
            enrolment=enrolment,
            approvals=approvals,
            now_ms=health.now_ms,
            ca_hash=ca_hash,
            pairing_address=pairing_address,
        )
        JobControl.__init__(
            self,
            store=store,
            inventory=inventory,
            targets=targets,
            dispatcher=dispatcher,
            fanouts=fanouts,
            followers=followers,
            submission=submission,
        )
