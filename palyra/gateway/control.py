"""What operators ask, from the console and the CLI, answered by the rooms behind it."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, execute
from zope.interface import implementer

from palyra.config.addresses import HostPort
from palyra.console import models
from palyra.console.control import IControl
from palyra.core.devices import (
    DeviceChange,
    clean_name,
    valid_label,
)
from palyra.core.interfaces import IStore
from palyra.core.operators import Caller
from palyra.core.rates import SourceLedger
from palyra.errors import Malformed
from palyra.gateway.approvals import Approvals
from palyra.gateway.capabilitycontrol import CapabilityControl
from palyra.gateway.carotation import CaRotator
from palyra.gateway.codes import Codes
from palyra.gateway.crl import RevocationLists
from palyra.gateway.descriptors import Descriptors
from palyra.gateway.dispatch import Dispatcher
from palyra.gateway.fanouts import Fanouts
from palyra.gateway.following import Followers
from palyra.gateway.health import HealthCheck
from palyra.gateway.inventory import Inventory
from palyra.gateway.jobcontrol import JobControl
from palyra.gateway.nodeview import NodeView
from palyra.gateway.pairingcontrol import PairingControl
from palyra.gateway.presence import PresenceBoard
from palyra.gateway.queries import number_cursor
from palyra.gateway.renewals import Renewals
from palyra.gateway.roster import Roster, Wish
from palyra.gateway.sessions import Sessions
from palyra.gateway.submission import Submission
from palyra.gateway.targets import Targets
from palyra.gateway.trust import Revoker
from palyra.gateway.trustcontrol import Serving, TrustControl
from palyra.gateway.views import CONTRACT


class NodeControl:
    """What operators ask about devices, and about the gateway itself."""

    def __init__(
        self,
        *,
        store: IStore,
        inventory: Inventory,
        roster: Roster,
        waiting: Callable[[], int],
        view: NodeView,
        revoker: Revoker,
        health: HealthCheck,
        changed: Callable[[], object],
    ) -> None:
        self._store = store
        self._inventory = inventory
        self._roster = roster
        self._waiting = waiting
        self._view = view
        self._revoker = revoker
        self._health = health
        self._changed = changed

    def nodes(
        self, limit: int, cursor: str | None, where: str, search: str = "", trust: str = ""
    ) -> Deferred[models.NodeList]:
        return execute(self._nodes, limit, cursor, Wish(where, search, trust))

    def _nodes(self, limit: int, cursor: str | None, wish: Wish) -> models.NodeList:
        page = self._roster.page(wish, limit, cursor)
        more = page.cursor is not None
        return models.NodeList(
            contract=CONTRACT,
            page=models.Page(limit, len(page.devices), more, page.cursor),
            nodes=[self._view.item(device) for device in page.devices],
            waiting_for_approval=self._waiting(),
            total=page.total,
        )

    def node(self, target: str) -> Deferred[models.NodeAnswer]:
        return Deferred.fromCoroutine(self._node(target))

    async def _node(self, target: str) -> models.NodeAnswer:
        return models.NodeAnswer(CONTRACT, self._view.item(self._inventory.resolve(target)))

    def journal(self, target: str, limit: int, cursor: str | None) -> Deferred[models.JournalList]:
        return Deferred.fromCoroutine(self._journal(target, limit, cursor))

    async def _journal(self, target: str, limit: int, cursor: str | None) -> models.JournalList:
        """Newest first; the cursor is the number of the last event that was shown.

        Numbers have no holes, so those before one are found by counting back.
        """
        device = self._inventory.resolve(target)
        if cursor is not None:
            before = number_cursor(cursor)
        else:
            ends = await self._store.journal(device.device_id, 0, 1)
            before = ends.newest_seq + 1
        after = max(0, before - 1 - limit)
        found = await self._store.journal(device.device_id, after, limit)
        events = [each for each in found.events if each.seq < before]
        more = bool(events) and events[0].seq > found.oldest_seq
        return models.JournalList(
            contract=CONTRACT,
            page=models.Page(limit, len(events), more, str(events[0].seq) if more else None),
            events=[
                models.JournalItem(each.seq, each.at_ms, each.kind, dict(each.details))
                for each in reversed(events)
            ],
            oldest_seq=found.oldest_seq,
        )

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
class Control(NodeControl, PairingControl, JobControl, TrustControl, CapabilityControl):
    """Provides :class:`palyra.console.control.IControl`; ``roster`` and ``view`` are what it
    lists devices with."""

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
        descriptors: Descriptors,
        pairing_address: Callable[[], HostPort],
        changed: Callable[[], object],
    ) -> None:
        targets = Targets(inventory, board)
        self.roster = Roster(inventory, board)
        self.view = view = NodeView(
            inventory=inventory, board=board, dispatcher=dispatcher, sessions=sessions
        )
        NodeControl.__init__(
            self,
            store=store,
            inventory=inventory,
            roster=self.roster,
            waiting=lambda: approvals.waiting,
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
        CapabilityControl.__init__(self, descriptors=descriptors)
