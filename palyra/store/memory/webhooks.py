"""Webhooks under way, in memory."""

from __future__ import annotations

from collections.abc import Sequence

from palyra.core.webhooks import Message
from palyra.store.memory.records import Records, fired


class WebhookLog(Records):
    """Provides :class:`palyra.core.webhooklog.IWebhookLog`."""

    @fired
    def queue_webhooks(self, messages: Sequence[Message], most: int) -> int:
        fitting = messages[: max(0, most - len(self._webhooks))]
        self._webhooks.update((each.webhook_id, each) for each in fitting)
        return len(fitting)

    @fired
    def due_webhooks(self, limit: int) -> list[Message]:
        order = sorted(
            self._webhooks.values(), key=lambda each: (each.next_try_at_ms, each.webhook_id)
        )
        return order[:limit]

    @fired
    def put_off_webhook(self, message: Message) -> None:
        if message.webhook_id in self._webhooks:
            self._webhooks[message.webhook_id] = message

    @fired
    def forget_webhook(self, webhook_id: str) -> None:
        self._webhooks.pop(webhook_id, None)
