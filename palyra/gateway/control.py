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
    PresenceState,
    clean_name,
    valid_label,
)
from palyra.core.interfaces import IStore, RequestQuery
from palyra.core.operators import Caller
from palyra.core.pairing import RequestState
from palyra.core.rates import SourceLedger
from palyra.errors import Malformed
from palyra.gateway.approvals import Approvals
from palyra.gateway.carotation import CaRotator
from palyra.gateway.codes import Codes
from palyra.gateway.crl import RevocationLists
from palyra.gateway.dispatch import Dispatcher
from palyra.gateway.fanouts import Fanouts
from palyra.gateway.following import Followers
from palyra.gateway.health import HealthCheck
from palyra.gateway.inventory import Inventory
from palyra.gateway.jobcontrol import JobControl
from palyra.gateway.nodeview import NodeView
from palyra.gateway.pairingcontrol import PairingControl
from palyra.gateway.presence import PresenceBoard
from palyra.gateway.queries import offset_cursor
from palyra.gateway.renewals import Renewals
from palyra.gateway.sessions import Sessions
from palyra.gateway.submission import Submission
from palyra.gateway.targets import Targets
from palyra.gateway.trust import Revoker
from palyra.gateway.trustcontrol import Serving, TrustControl
from palyra.gateway.views import CONTRACT

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
        view: NodeView,
        revoker: Revoker,
        health: HealthCheck,
        changed: Callable[[], object],
    ) -> None:
        self._store = store
        self._inventory = inventory
        self._board = board
        self._targets = targets
        self._view = view
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
            nodes=[self._view.item(device) for device in shown],
            waiting_for_approval=len(waiting),
        )

    def _place(self, device: Device) -> tuple[int, str]:
        return _ORDER[self._board.state(device.device_id)], device.name

    def node(self, target: str) -> Deferred[models.NodeAnswer]:
        return Deferred.fromCoroutine(self._node(target))

    async def _node(self, target: str) -> models.NodeAnswer:
        return models.NodeAnswer(CONTRACT, self._view.item(self._inventory.resolve(target)))

    def label(self, target: str, body: models.LabelNode, by: Caller) -> Deferred[models.NodeAnswer]:
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
        return models.NodeAnswer(CONTRACT, self._view.item(changed))

    def revoke(self, target: str, body: models.Revoke, by: Caller) -> Deferred[models.RevokeAnswer]:
        return Deferred.fromCoroutine(self._revoke(target, body, by))

    async def _revoke(self, target: str, body: models.Revoke, by: Caller) -> models.RevokeAnswer:
        device = self._inventory.resolve(target)
        revocation = await self._revoker.revoke(device, by.name, body.reason)
        return models.RevokeAnswer(
            CONTRACT, device.device_id, device.name, len(revocation.certificates)
        )

    def health(self) -> Deferred[models.Health]:
        return Deferred.fromCoroutine(self._health.report())


@implementer(IControl)
class Control(NodeControl, PairingControl, JobControl, TrustControl):
    """Provides :class:`palyra.console.control.IControl`."""

    def __init__(
        self,
        *,
        store: IStore,
        inventory: Inventory,
        board: PresenceBoard,
        sessions: Sessions,
        dispatcher: Dispatcher,
        fanouts: Fanouts,
        followers: Followers,
        submission: Submission,
        codes: Codes,
        ledger: SourceLedger,
        elapsed_ms: Callable[[], int],
        approvals: Approvals,
        revoker: Revoker,
        renewals: Renewals,
        rotator: CaRotator,
        lists: RevocationLists,
        serving: Serving,
        health: HealthCheck,
        pairing_address: Callable[[], HostPort],
        changed: Callable[[], object],
    ) -> None:
        targets = Targets(inventory, board)
        view = NodeView(inventory=inventory, board=board, dispatcher=dispatcher, sessions=sessions)
        NodeControl.__init__(
            self,
            store=store,
            inventory=inventory,
            board=board,
            targets=targets,
            view=view,
            revoker=revoker,
            health=health,
            changed=changed,
        )
        PairingControl.__init__(
            self,
            store=store,
            inventory=inventory,
            codes=codes,
            ledger=ledger,
            elapsed_ms=elapsed_ms,
            approvals=approvals,
            now_ms=health.now_ms,
            ca_hash=lambda: rotator.identity.serving_ca_hash,
            pairing_address=pairing_address,
            changed=changed,
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
        TrustControl.__init__(
            self,
            store=store,
            inventory=inventory,
            targets=targets,
            view=view,
            revoker=revoker,
            renewals=renewals,
            rotator=rotator,
            lists=lists,
            serving=serving,
            changed=changed,
        )
