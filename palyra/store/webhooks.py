"""Webhooks under way, in SQL (:class:`palyra.core.webhooklog.IWebhookLog`)."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from sqlalchemy import Connection, delete, func, insert, select, update

from palyra.core.webhooks import Message
from palyra.store.tables import webhooks


def queue(connection: Connection, messages: Sequence[Message], most: int) -> int:
    """Keep as many of these as there is room for; how many."""
    kept = connection.scalar(select(func.count()).select_from(webhooks)) or 0
    fitting = messages[: max(0, most - kept)]
    if fitting:
        connection.execute(insert(webhooks), [attrs.asdict(each) for each in fitting])
    return len(fitting)


def due(connection: Connection, limit: int) -> list[Message]:
    """The messages to be tried next, the first one first."""
    statement = select(webhooks).order_by(webhooks.c.next_try_at_ms, webhooks.c.webhook_id)
    return [Message(**row) for row in connection.execute(statement.limit(limit)).mappings()]


def put_off(connection: Connection, message: Message) -> None:
    """Keep when a message is tried again."""
    changed = {"tries": message.tries, "next_try_at_ms": message.next_try_at_ms}
    which = webhooks.c.webhook_id == message.webhook_id
    connection.execute(update(webhooks).where(which).values(changed))


def forget(connection: Connection, webhook_id: str) -> None:
    """Delete a message."""
    connection.execute(delete(webhooks).where(webhooks.c.webhook_id == webhook_id))
