"""Webhooks and what they tell of, composed."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Sequence
from typing import Any

from palyra.config.webhooks import WebhookSection
from palyra.core.identifiers import Entropy
from palyra.core.interfaces import IStore
from palyra.gateway.alarms import Alarms
from palyra.gateway.anchoring import Anchoring
from palyra.gateway.callapprovals import CallApprovals
from palyra.gateway.dispatch import Dispatcher
from palyra.gateway.inventory import Inventory
from palyra.gateway.presence import PresenceBoard
from palyra.gateway.requests import PairingRequests
from palyra.gateway.webhooks import Hook, Webhooks
from palyra.transport.webhookclient import WebhookClient


class AlarmRooms:
    """Nothing is listened to where nobody is to be told.

    :raises ConfigInvalid: what a target names cannot be read.
    """

    def __init__(
        self,
        targets: Sequence[WebhookSection],
        *,
        reactor: Any,
        store: IStore,
        entropy: Entropy,
        now_ms: Callable[[], int],
        inventory: Inventory,
        board: PresenceBoard,
    ) -> None:
        self.webhooks = Webhooks(
            clock=reactor,
            store=store,
            entropy=entropy,
            gateway_id=store.gateway_id,
            hooks=[Hook.of(section) for section in targets],
            deliver=WebhookClient(reactor, socket.getaddrinfo).deliver,
            jitter=random.Random(entropy(16)),
        )
        self.alarms = Alarms(
            webhooks=self.webhooks, inventory=inventory, board=board, now_ms=now_ms
        )
        self._board = board
        self._anybody = bool(targets)

    def listen(
        self,
        *,
        dispatcher: Dispatcher,
        requests: PairingRequests,
        calls: CallApprovals,
        anchoring: Anchoring,
    ) -> None:
        """Hear of what may be worth telling."""
        if not self._anybody:
            return
        dispatcher.watchers.append(self.alarms)
        self._board.watchers.append(self.alarms.presence)
        requests.opened = self.alarms.pairing_opened
        calls.asked = self.alarms.approval_opened
        anchoring.anchored = self.alarms.anchored
