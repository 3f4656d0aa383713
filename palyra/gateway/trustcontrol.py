"""What operators ask about trust: grants, rotation, removal, the CAs, a restored state."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from twisted.internet.defer import Deferred, succeed

from palyra.console import models
from palyra.core.audit import acts_for
from palyra.core.devices import ClientKind, Device, DeviceChange, DeviceState, Removal, Risk
from palyra.core.interfaces import IStore
from palyra.core.operators import Caller
from palyra.errors import Malformed, NoTargets
from palyra.gateway.carotation import CaRotator
from palyra.gateway.crl import RevocationLists
from palyra.gateway.inventory import Inventory
from palyra.gateway.nodeview import NodeView
from palyra.gateway.renewals import Renewals
from palyra.gateway.targets import Targets
from palyra.gateway.trust import Revoker
from palyra.gateway.views import CONTRACT
from palyra.pki.authority import Authority
from palyra.pki.certificates import unix_ms

MAX_LEFT_SHOWN = 100


class Serving(Protocol):
    """Whether devices are served (:class:`palyra.gateway.service.GatewayService`)."""

    @property
    def serving(self) -> bool:
        """Whether the listeners of devices are open."""

    def serve(self) -> Awaitable[object]:
        """Open them."""


class TrustControl:
    """Provides the part of :class:`palyra.console.control.IControl` that is about trust."""

    def __init__(
        self,
        *,
        store: IStore,
        inventory: Inventory,
        targets: Targets,
        view: NodeView,
        revoker: Revoker,
        renewals: Renewals,
        rotator: CaRotator,
        lists: RevocationLists,
        serving: Serving,
        changed: Callable[[], object],
    ) -> None:
        self._store = store
        self._inventory = inventory
        self._targets = targets
        self._view = view
        self._revoker = revoker
        self._renewals = renewals
        self._rotator = rotator
        self._lists = lists
        self._serving = serving
        self._changed = changed

    # -- one device, or some --------------------------------------------------------------------

    def grant(self, target: str, body: models.GrantNode, by: Caller) -> Deferred[models.NodeAnswer]:
        return Deferred.fromCoroutine(self._grant(target, body))

    async def _grant(self, target: str, body: models.GrantNode) -> models.NodeAnswer:
        device = self._inventory.resolve(target)
        grant, withhold = frozenset(body.grant), frozenset(body.withhold)
        if grant & withhold:
            raise Malformed("grant", f"{sorted(grant & withhold)[0][:64]} is withheld too")
        change = DeviceChange(
            device.device_id,
            grant=grant,
            withhold=withhold,
            grant_risk=None if body.grant_risk is None else risk_named(body.grant_risk),
            contracts=body.contracts,
        )
        changed = await self._store.change(change)
        self._inventory.put(changed)
        self._changed()
        return models.NodeAnswer(CONTRACT, self._view.item(changed))

    def rotate(self, body: models.Rotate, by: Caller) -> Deferred[models.RotateAnswer]:
        return Deferred.fromCoroutine(self._rotate(body, by))

    async def _rotate(self, body: models.Rotate, by: Caller) -> models.RotateAnswer:
        ordered = await self._renewals.order(self._chosen(body), by.name, body.reason)
        return models.RotateAnswer(CONTRACT, [self._view.item(device) for device in ordered])

    def _chosen(self, body: models.Rotate) -> list[Device]:
        """The paired nodes that a request means; at least one."""
        if sum((bool(body.targets), bool(body.where), body.everything)) != 1:
            raise Malformed("targets", "name devices, an expression, or everything: one of them")
        if body.targets:
            found = [self._inventory.resolve(target) for target in body.targets]
            return [self._paired_node(device) for device in found]
        known = self._targets.matching(body.where) if body.where else self._inventory.devices()
        nodes = [
            device
            for device in known
            if device.state is DeviceState.PAIRED and device.client_kind is ClientKind.NODE
        ]
        if not nodes:
            raise NoTargets(body.where or "a node")
        return nodes

    def _paired_node(self, device: Device) -> Device:
        paired = self._inventory.paired(device.device_id)
        if paired.client_kind is not ClientKind.NODE:
            raise Malformed("targets", f"{device.name} is no node; it renews by itself")
        return paired

    def remove(self, target: str, body: models.Remove, by: Caller) -> Deferred[models.RemoveAnswer]:
        return Deferred.fromCoroutine(self._remove(self._inventory.resolve(target), body, by))

    async def _remove(self, device: Device, body: models.Remove, by: Caller) -> models.RemoveAnswer:
        return removal_answer(await self._revoker.remove(device, by.name, body.reason))

    def clear(self, body: models.Remove, by: Caller) -> Deferred[models.ClearAnswer]:
        return Deferred.fromCoroutine(self._clear(body, by))

    async def _clear(self, body: models.Remove, by: Caller) -> models.ClearAnswer:
        known = self._inventory.devices()
        revoked = [device for device in known if device.state is DeviceState.REVOKED]
        removals = await self._revoker.remove_all(revoked, by.name, body.reason)
        return models.ClearAnswer(CONTRACT, [removal_answer(each) for each in removals])

    # -- the CAs ------------------------------------------------------------------------------

    def ca(self) -> Deferred[models.CaAnswer]:
        return succeed(self._ca())

    def rotate_ca(self, body: models.RotateCa, by: Caller) -> Deferred[models.CaAnswer]:
        return Deferred.fromCoroutine(self._rotate_ca(body, by))

    async def _rotate_ca(self, body: models.RotateCa, by: Caller) -> models.CaAnswer:
        await self._rotator.begin(by.name, body.reason)
        return self._ca()

    def _ca(self) -> models.CaAnswer:
        left = self._rotator.left()
        rotation = self._rotator.identity.rotation
        return models.CaAnswer(
            contract=CONTRACT,
            phase=self._rotator.phase,
            cas=[self._ca_item(each) for each in self._rotator.identity.authorities],
            started_unix_ms=rotation.switched_at_ms or rotation.started_at_ms if rotation else None,
            next_step_unix_ms=self._rotator.next_step_ms(),
            left=[self._view.item(device) for device in left[:MAX_LEFT_SHOWN]],
            left_total=len(left),
        )

    def _ca_item(self, authority: Authority) -> models.CaItem:
        identity = self._rotator.identity
        return models.CaItem(
            fingerprint=authority.ca_hash,
            issues=authority.ca_hash == identity.issuing.ca_hash,
            serves=authority.ca_hash == identity.serving_ca_hash,
            not_after_unix_ms=unix_ms(authority.ca_certificate.not_valid_after_utc),
        )

    def crl(self) -> Deferred[bytes]:
        return self._lists.when_published().addCallback(lambda _: self._lists.pem)

    # -- a restored state -----------------------------------------------------------------------

    def state(self) -> Deferred[models.StateAnswer]:
        return succeed(self._state())

    def confirm_state(self, by: Caller) -> Deferred[models.StateAnswer]:
        return Deferred.fromCoroutine(self._confirm())

    async def _confirm(self) -> models.StateAnswer:
        if self._store.unconfirmed_since_ms is not None:
            await self._store.confirm()
        with acts_for(None):  # what devices ask of the listeners is not asked by the operator
            await self._serving.serve()
        return self._state()

    def _state(self) -> models.StateAnswer:
        return models.StateAnswer(CONTRACT, self._serving.serving, self._store.unconfirmed_since_ms)


def removal_answer(removal: Removal) -> models.RemoveAnswer:
    """What a removal did, for whoever asked for it."""
    return models.RemoveAnswer(
        contract=CONTRACT,
        device_id=removal.device.device_id,
        name=removal.device.name,
        revoked=removal.device.state is DeviceState.PAIRED,
        certificates=removal.certificates,
        pairing_requests=removal.requests,
    )


def risk_named(text: str) -> Risk:
    """:raises Malformed: it is none of the four."""
    try:
        return Risk(text)
    except ValueError as error:
        raise Malformed("grant_risk", "must be none, low, medium or high") from error
