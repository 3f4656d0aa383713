"""Offerings: what nodes say in their sessions of the capabilities they have from now on, and the
descriptors that they were asked for."""

from __future__ import annotations

from collections import deque

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from palyra.core.descriptors import Descriptor
from palyra.core.devices import MAX_CAPABILITIES, AnnouncedCapability, Device, Offering, clean_text
from palyra.core.frames import CatalogAnswer, NodeEvent
from palyra.core.identifiers import DeviceId
from palyra.core.interfaces import IDeviceDirectory
from palyra.core.windows import Windows
from palyra.errors import LimitReached, Malformed, NotFound, NotRegistered, PalyraError
from palyra.gateway.descriptors import Descriptors
from palyra.gateway.inventory import Inventory
from palyra.gateway.nodesession import NodeSession

MAX_CATALOGS = 30
WINDOW_MS = 60_000
MAX_DESCRIBED = 1_024
DESCRIBED_MS = 3_600_000
"""So many descriptors of one device are looked at in an hour: each may take some 20 ms."""
MAX_FAULTS = 16
"""Descriptors that cannot be used, in one session; a node that sends more is ended."""
MAX_SHOWN = 240
"""Characters of names that a device chose, in one line of the log."""


@attrs.define(eq=False)
class _Told:
    """What one session has said and is not taken yet, in order."""

    catalogs: int = 0
    descriptors: int = 0
    faults: int = 0
    waiting: deque[NodeEvent] = attrs.Factory(deque)
    busy: bool = False


class Offerings:
    """Takes catalogs and descriptors, one at a time for each session."""

    _log = Logger()

    def __init__(
        self,
        *,
        directory: IDeviceDirectory,
        inventory: Inventory,
        descriptors: Descriptors,
        gateway_id: str,
        clock: IReactorTime,
    ) -> None:
        self._directory = directory
        self._inventory = inventory
        self._descriptors = descriptors
        self._gateway_id = gateway_id
        self._clock = clock
        self._catalogs = Windows(MAX_CATALOGS, WINDOW_MS)
        self._described = Windows(MAX_DESCRIBED, DESCRIBED_MS)
        self._told: dict[NodeSession, _Told] = {}

    def registered(self, before: Device | None, device: Device) -> None:
        """A device offers what it says now; ``before`` is it as it was known here."""
        self._inventory.put(device)
        names = sorted(device.suspended - (before.suspended if before else frozenset()))
        if names:
            self._log.warn(
                "what {device} offers as {names} is not what it was granted for",
                device=device.name,
                names=clean_text(", ".join(names), MAX_SHOWN),
            )

    def believed(self, offered: tuple[AnnouncedCapability, ...]) -> tuple[AnnouncedCapability, ...]:
        """What a device offers, as far as it does not contradict what is known."""
        return self._descriptors.believed(offered)

    def unknown(self, device: Device) -> tuple[str, ...]:
        """The digests of the descriptors that the device is asked for."""
        if self._described.wait_ms(device.device_id, self._now_ms()):
            return ()
        return self._descriptors.unknown(device)

    def said(self, session: NodeSession, event: NodeEvent) -> None:
        """A node says what it offers from now on, or describes it."""
        if not session.live:
            return  # what it said before in this event has ended it
        told = self._told.setdefault(session, _Told())
        try:
            self._count(session.device_id, told, event)
        except PalyraError as error:
            self._end(session, error)
            return
        told.waiting.append(event)
        if not told.busy:
            work = Deferred.fromCoroutine(self._take_all(session, told))
            work.addErrback(self._failed, session)

    def ended(self, session: NodeSession) -> None:
        """The session is over: what it said and was not taken yet is left."""
        told = self._told.pop(session, None)
        if told is not None:
            told.waiting.clear()

    # -- inside -----------------------------------------------------------------------------------

    def _count(self, device_id: DeviceId, told: _Told, event: NodeEvent) -> None:
        """Refuse a node that says more than it was asked for, or changes too often."""
        now_ms = self._now_ms()
        if event.catalog is not None:
            wait_ms = self._catalogs.wait_ms(device_id, now_ms)
            if wait_ms:
                what = "catalogs of one device in a minute"
                raise LimitReached(what, MAX_CATALOGS, wait_ms / 1000)
            self._catalogs.add(device_id, now_ms)
        told.descriptors += len(event.descriptors)
        if told.descriptors > MAX_CAPABILITIES:
            raise Malformed("descriptors", f"must be at most {MAX_CAPABILITIES} of one catalog")

    async def _take_all(self, session: NodeSession, told: _Told) -> None:
        told.busy = True
        try:
            while told.waiting and session.live:
                await self._take(session, told, told.waiting.popleft())
        finally:
            told.busy = False

    async def _take(self, session: NodeSession, told: _Told, event: NodeEvent) -> None:
        try:
            if event.catalog is not None:
                await self._offer(session, told, event.catalog)
            if event.descriptors:
                await self._describe(session, told, event.descriptors)
        except NotRegistered:
            return  # a newer registration says what this device offers
        except PalyraError as error:
            # Nothing is on record of it: the node comes back and says it again.
            self._log.warn(
                "{d} could not say what it offers: {e}", d=session.device_id, e=error.sentence
            )
            self._end(session, error)

    async def _offer(
        self, session: NodeSession, told: _Told, catalog: tuple[AnnouncedCapability, ...]
    ) -> None:
        before = self._inventory.device(session.device_id)
        device = await self._directory.offer(
            Offering(
                device_id=session.device_id,
                gateway_id=self._gateway_id,
                session_epoch=session.epoch,
                capabilities=self.believed(catalog),
                at_ms=self._now_ms(),
            )
        )
        self.registered(before, device)
        told.descriptors = sum(len(each.descriptors) for each in told.waiting)
        session.answer_catalog(CatalogAnswer(tuple(sorted(device.grants)), self.unknown(device)))

    async def _describe(
        self, session: NodeSession, told: _Told, descriptors: tuple[bytes, ...]
    ) -> None:
        device = self._inventory.device(session.device_id)
        if device is None:
            raise NotFound("device", session.device_id)
        checked: dict[str, tuple[bytes, Descriptor]] = {}
        for number, data in enumerate(descriptors):
            if number:  # heartbeats must not wait for hundreds of them
                await deferLater(self._clock, 0)
            now_ms = self._now_ms()
            if not session.live or self._described.wait_ms(session.device_id, now_ms):
                break
            self._described.add(session.device_id, now_ms)
            try:
                digest, said = self._descriptors.check(device, data)
                checked[digest] = data, said
            except Malformed as error:
                told.faults += 1
                self._log.warn("of {device}: {why}", device=device.name, why=error.sentence)
                if told.faults > MAX_FAULTS:
                    raise
        try:
            await self._descriptors.keep(checked, self._now_ms())
        except PalyraError as error:  # the next registration asks for them again
            self._log.error("{n} descriptors are not kept: {e}", n=len(checked), e=error.sentence)

    def _end(self, session: NodeSession, error: PalyraError) -> None:
        session.close(error)
        session.ended(error.code)

    def _now_ms(self) -> int:
        return int(self._clock.seconds() * 1000)

    def _failed(self, failure: Failure, session: NodeSession) -> None:
        self._log.failure("what {d} offers was not taken", failure, d=session.device_id)
