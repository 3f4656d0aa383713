"""What webhooks need of the store: messages that are under way outlive the process."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

from zope.interface import Interface

from palyra.core.webhooks import Message


class IWebhookLog(Interface):
    """Messages that were not delivered yet."""

    def queue_webhooks(messages: Sequence[Message], most: int) -> Awaitable[int]:
        """Keep new messages, as long as there are fewer than ``most``; how many were kept."""

    def due_webhooks(limit: int) -> Awaitable[list[Message]]:
        """The messages whose next try comes first, whenever that is."""

    def put_off_webhook(message: Message) -> Awaitable[None]:
        """Keep how often a message was tried, and when next."""

    def forget_webhook(webhook_id: str) -> Awaitable[None]:
        """A message was delivered, or given up."""
