"""A device as operators see it: its record, and what is true of it right now."""

from __future__ import annotations

from palyra import __version__
from palyra.console import models
from palyra.core.devices import Device, DeviceState
from palyra.core.versions import skew
from palyra.gateway.dispatch import Dispatcher
from palyra.gateway.inventory import Inventory
from palyra.gateway.issuing import renewal_ms
from palyra.gateway.presence import PresenceBoard
from palyra.gateway.sessions import Sessions
from palyra.gateway.views import capability_item


class NodeView:
    """Makes the rows of the inventory."""

    def __init__(
        self,
        *,
        inventory: Inventory,
        board: PresenceBoard,
        dispatcher: Dispatcher,
        sessions: Sessions,
    ) -> None:
        self._inventory = inventory
        self._board = board
        self._dispatcher = dispatcher
        self._sessions = sessions

    def item(self, device: Device) -> models.NodeItem:
        """One row."""
        certificate = self._inventory.newest_certificate(device.device_id)
        heard_ms = self._board.last_heard_ms(device.device_id) or device.last_heard_ms
        trusted = device.state is DeviceState.PAIRED
        granted, suspended = device.grants, device.suspended
        session = self._sessions.owner(device.device_id)
        return models.NodeItem(
            device_id=device.device_id,
            name=device.name,
            client_kind=device.client_kind.value,
            presence=self._board.state(device.device_id).value,
            trust="trusted" if trusted else device.state.value,
            platform=device.platform,
            version=device.version,
            capabilities=[
                capability_item(item, granted, suspended) for item in device.capabilities
            ],
            jobs_running=self._dispatcher.running(device.device_id),
            last_heard_unix_ms=heard_ms,
            transport=device.transport,
            address=session.peer.address if session is not None else device.address,
            certificate_expires_unix_ms=certificate.not_after_ms if certificate else None,
            labels=dict(device.labels),
            identity_fingerprint=device.identity_fingerprint,
            approved_by=device.approved_by,
            paired_at_unix_ms=device.paired_at_ms,
            certificate_renews_unix_ms=renewal_ms(certificate) if certificate else None,
            certificate_ca=(certificate.issuer or "") if certificate else "",
            rotate_asked_unix_ms=device.rotate_asked_at_ms,
            rotate_asked_by=device.rotate_asked_by,
            clock_ahead_ms=self._sessions.clocks.get(device.device_id),
            grant_risk=device.grant_risk.value,
            version_skew=skew(device.version, __version__),
        )
