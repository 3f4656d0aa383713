"""Approvals: pairing requests that wait for an operator, and what he says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable

import attrs
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from palyra.core.devices import (
    INVOKE_OTHERS,
    ClientKind,
    Device,
    DeviceState,
    Risk,
    clean_text,
    free_name,
)
from palyra.core.identifiers import DeviceId, RequestId, short_id
from palyra.core.interfaces import IStore, RequestQuery
from palyra.core.pairing import PairingRequest, RequestState, request_machine
from palyra.errors import ApprovalFinal, IdentityChanged, Malformed, NotFound
from palyra.gateway.inventory import Inventory
from palyra.gateway.wheel import TimerWheel

MAX_PENDING = 10_000


@attrs.frozen
class Verdict:
    """An operator's decision on a pairing request.  ``grants`` None grants what was announced."""

    by: str
    reason: str = ""
    grants: tuple[str, ...] | None = None
    grant_risk: Risk = Risk.LOW
    """Up to which risk a capability that is announced later is granted by itself."""
    accept_new_identity: bool = False


@attrs.frozen
class _Waiting:
    """What is kept of a request that nobody has decided yet."""

    approval_id: str
    device_id: DeviceId
    name: str


class Approvals:
    """Every pairing request that nobody has decided yet."""

    _log = Logger()

    def __init__(
        self,
        *,
        clock: IReactorTime,
        store: IStore,
        inventory: Inventory,
        identity_replaced: Callable[[DeviceId, str], Awaitable[object]],
        changed: Callable[[], object],
    ) -> None:
        self._clock = clock
        self._store = store
        self._inventory = inventory
        self._identity_replaced = identity_replaced
        self._changed = changed
        self.watchers: list[Callable[[str], object]] = []
        """Hear the approval id of each request that waits, or that waits no more."""
        self._waiting: dict[RequestId, _Waiting] = {}
        inventory.watchers.append(self._device_changed)
        # One decision at a time: each is judged by what the one before it made of the device.
        self._deciding = DeferredLock()
        self._wheel = TimerWheel(clock, self._now_ms, self._due, tick_ms=500)

    async def start(self) -> None:
        """Watch the requests that were pending when this gateway stopped."""
        self._wheel.start()
        pending = frozenset({RequestState.PENDING})
        for request in await self._store.requests(RequestQuery(pending, MAX_PENDING)):
            self.opened(request)

    def stop(self) -> None:
        """Stop watching."""
        self._wheel.stop()

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    def opened(self, request: PairingRequest) -> None:
        """A request was committed: it waits until its end."""
        waiting = _Waiting(request.approval_id, request.device_id, request.name)
        self._waiting[request.request_id] = waiting
        self._wheel.set(request.request_id, request.expires_at_ms)
        self._tell(waiting)

    def name_for(self, device_id: DeviceId, wanted: str) -> str:
        """A known device keeps its name; a new one gets the first that is free."""
        known = self._inventory.device(device_id)
        if known is not None:
            return known.name
        waiting = {each.name for each in self._waiting.values()}
        return free_name(wanted, self._inventory.names() | waiting)

    async def approve(self, request_id: RequestId, verdict: Verdict) -> PairingRequest:
        """An operator says yes.

        :raises NotFound, ApprovalFinal: there is nothing to decide.
        :raises IdentityChanged: the device id has another key and nobody accepted that.
        :raises KeyInUse: another device was paired with that key meanwhile.
        :raises Malformed: a grant names a capability that was not announced.
        """
        async with self._deciding:
            return await self._approve(request_id, verdict)

    async def _approve(self, request_id: RequestId, verdict: Verdict) -> PairingRequest:
        request = await self._pending(request_id)
        known = self._inventory.device(request.device_id)
        changed = known is not None and known.identity_fingerprint != request.identity_fingerprint
        if changed and known is not None and not verdict.accept_new_identity:
            raise IdentityChanged(
                known.name,
                short_id(request_id),
                known.identity_fingerprint,
                request.identity_fingerprint,
            )
        self._inventory.refuse_key_of_another(request.device_id, request.identity_fingerprint)
        now_ms = self._now_ms()
        grants = granted(request, verdict.grants, known)
        by = clean_text(verdict.by, 64)
        reason = clean_text(verdict.reason, 240)
        request_machine(request).approved(by, reason, grants, verdict.grant_risk, now_ms)
        approved = await self._store.approve_request(request, device_of(request, now_ms))
        if approved.replaced is not None:
            self._inventory.revoke(approved.replaced, identity_only=True)
        self._inventory.put(approved.device)
        self._inventory.allowed(approved.device)
        self._decided(request)
        if approved.replaced is not None:
            await self._identity_replaced(request.device_id, "paired again with another key")
        return request

    async def reject(self, request_id: RequestId, verdict: Verdict) -> PairingRequest:
        """An operator says no.

        :raises NotFound, ApprovalFinal: there is nothing to decide.
        """
        async with self._deciding:
            request = await self._pending(request_id)
            by, reason = clean_text(verdict.by, 64), clean_text(verdict.reason, 240)
            request_machine(request).rejected(by, reason, self._now_ms())
            await self._store.close_request(request)
            self._decided(request)
            return request

    async def _pending(self, request_id: RequestId) -> PairingRequest:
        request = await self._store.request(request_id)
        if request is None:
            raise NotFound("pairing request", request_id)
        if request.state is RequestState.PENDING and self._now_ms() >= request.expires_at_ms:
            await self._expire(request)
        if request.state is not RequestState.PENDING:
            raise ApprovalFinal(short_id(request_id), request.state.value)
        return request

    def _decided(self, request: PairingRequest) -> None:
        self._wheel.discard(request.request_id)
        self._ended(request.request_id)
        self._changed()
        self._log.info(
            "pairing request {request} ({name}): {state} by {by}",
            request=short_id(request.request_id),
            name=request.name,
            state=request.state.value,
            by=request.decided_by,
        )

    def _due(self, key: Hashable, now_ms: int) -> None:
        expired = Deferred.fromCoroutine(self._expire_by_id(RequestId(str(key))))
        expired.addErrback(
            lambda failure: self._log.failure("a pairing request did not expire", failure)
        )

    async def _expire_by_id(self, request_id: RequestId) -> None:
        request = await self._store.request(request_id)
        if request is not None and request.state is RequestState.PENDING:
            await self._expire(request)
        self._ended(request_id)  # whatever became of it

    async def _expire(self, request: PairingRequest) -> None:
        request_machine(request).time_passed()
        await self._store.close_request(request)
        self._ended(request.request_id)
        self._changed()

    def _device_changed(self, device_id: DeviceId) -> None:
        """What a device that was removed had asked went with it."""
        if self._waiting and self._inventory.device(device_id) is None:
            for request_id, waiting in list(self._waiting.items()):
                if waiting.device_id == device_id:
                    self._ended(request_id)

    def _ended(self, request_id: RequestId) -> None:
        """It waits no more."""
        waiting = self._waiting.pop(request_id, None)
        if waiting is not None:
            self._tell(waiting)

    def _tell(self, waiting: _Waiting) -> None:
        for watcher in self.watchers:
            watcher(waiting.approval_id)

    def _now_ms(self) -> int:
        return int(self._clock.seconds() * 1000)


def granted(
    request: PairingRequest, wanted: tuple[str, ...] | None, known: Device | None
) -> frozenset[str]:
    """The capabilities a yes grants; without a choice, what :func:`usual_grants` says."""
    announced = {item.name for item in request.capabilities}
    if wanted is None:
        return usual_grants(request, known)
    # A cli or desktop client may be granted more than it announces: to address other devices.
    allowed = announced if request.client_kind is ClientKind.NODE else announced | {INVOKE_OTHERS}
    unknown = sorted(set(wanted) - allowed)
    if unknown:
        raise Malformed("grants", f"{clean_text(unknown[0], 64)} was not announced")
    return frozenset(wanted)


def usual_grants(request: PairingRequest, known: Device | None) -> frozenset[str]:
    """What was announced, but for what was withheld from the same identity before.

    To address other devices is never granted just because a client announces it.
    """
    announced = frozenset(item.name for item in request.capabilities)
    if known is not None and known.identity_fingerprint == request.identity_fingerprint:
        announced -= known.withheld
    return announced - {INVOKE_OTHERS}


def device_of(request: PairingRequest, now_ms: int) -> Device:
    """The device that an approved request makes."""
    return Device(
        device_id=request.device_id,
        client_kind=request.client_kind,
        name=request.name,
        platform=request.platform,
        version=request.version,
        identity_public=request.identity_public,
        identity_fingerprint=request.identity_fingerprint,
        grants=request.grants,
        capabilities=request.capabilities,
        labels=dict(request.labels),
        approved_by=request.decided_by,
        paired_at_ms=now_ms,
        state=DeviceState.PAIRED,
        grant_risk=request.grant_risk,
    )
