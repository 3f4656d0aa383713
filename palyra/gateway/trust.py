"""Taking trust away: committed first, then felt everywhere within a second."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from twisted.logger import Logger

from palyra.core.devices import Device, Removal, Revocation, clean_text
from palyra.core.identifiers import DeviceId, short_id
from palyra.core.interfaces import IDeviceDirectory
from palyra.errors import DeviceRevoked, NotFound, PalyraError
from palyra.gateway.dispatch import Dispatcher
from palyra.gateway.inventory import Inventory
from palyra.gateway.sessions import Sessions

T = TypeVar("T")


class Revoker:
    """Revokes and removes devices."""

    _log = Logger()

    def __init__(
        self,
        *,
        now_ms: Callable[[], int],
        directory: IDeviceDirectory,
        inventory: Inventory,
        sessions: Sessions,
        dispatcher: Dispatcher,
        snapshot: Callable[[], Awaitable[object]],
        published: Callable[[], object],
    ) -> None:
        """``published`` renews the revocation list."""
        self._published = published
        self._now_ms = now_ms
        self._directory = directory
        self._inventory = inventory
        self._sessions = sessions
        self._dispatcher = dispatcher
        self._snapshot = snapshot

    async def revoke(self, device: Device, by: str, reason: str) -> Revocation:
        """Revoke a device: id, identity key, all certificates; its sessions end at once.

        Answered only after the snapshot on disk says so too, so that even a gateway that starts
        from the snapshot keeps the device out.
        """
        return await self._silenced(
            device, self._revoke(device, clean_text(by, 64), clean_text(reason, 240))
        )

    async def remove(self, device: Device, by: str, reason: str) -> Removal:
        """Forget a device, which is revoked by it if it was not; tombstones keep it out.

        Its certificates stay refused; its id and its key reach an approval that shows all this.
        """
        removal = await self._remove_one(device, by, reason)
        await self._snapshot()
        self._published()
        return removal

    async def remove_all(self, devices: Iterable[Device], by: str, reason: str) -> list[Removal]:
        """Forget several devices; one that is gone by then is nothing to do."""
        removals = []
        for device in devices:
            with contextlib.suppress(NotFound):
                removals.append(await self._remove_one(device, by, reason))
        await self._snapshot()
        self._published()
        return removals

    async def _remove_one(self, device: Device, by: str, reason: str) -> Removal:
        return await self._silenced(
            device, self._remove(device, clean_text(by, 64), clean_text(reason, 240))
        )

    async def _silenced(self, device: Device, act: Awaitable[T]) -> T:
        """While trust is being taken away, what the device says changes nothing."""
        self._dispatcher.silence(device.device_id)
        try:
            return await act
        except PalyraError:
            # What it reported meanwhile was not heard: it says that again on its next session.
            self._sessions.reconnect(device.device_id)
            raise
        finally:
            self._dispatcher.listen_to(device.device_id)

    async def _revoke(self, device: Device, by: str, text: str) -> Revocation:
        revocation = await self._directory.revoke(device.device_id, by, text, self._now_ms())
        self._inventory.revoke(revocation)
        await self.expel(device.device_id, text)
        await self._snapshot()
        self._published()
        self._log.info("{name} revoked by {by}: {reason}", name=device.name, by=by, reason=text)
        return revocation

    async def _remove(self, device: Device, by: str, text: str) -> Removal:
        removal = await self._directory.remove(device.device_id, by, text, self._now_ms())
        self._inventory.remove(removal)
        await self.expel(device.device_id, text or "removed")
        self._log.info("{name} removed by {by}: {reason}", name=device.name, by=by, reason=text)
        return removal

    async def revoke_self(self, device: Device, reason: str) -> None:
        """A device takes its own trust away: it is revoked, and removed."""
        await self.remove(device, device.name, reason or "the device left")

    async def identity_replaced(self, device_id: DeviceId, reason: str) -> None:
        """A device id has another key by an operator's word: its old identity ends here too."""
        await self.expel(device_id, reason)
        await self._snapshot()
        self._published()

    async def expel(self, device_id: DeviceId, reason: str) -> None:
        """End a device's sessions and the jobs that the store has ended with it."""
        self._sessions.expel(device_id, DeviceRevoked(short_id(device_id), reason=reason))
        await self._dispatcher.device_ended(device_id)
