"""What every store keeps of webhooks that are under way."""

from __future__ import annotations

import attrs

from palyra.core.webhooks import Message
from tests.contract.ways import Ways
from tests.store.samples import NOW_MS


def a_message(number: int, next_try_at_ms: int = 0) -> Message:
    body = b'{"n":%d}' % number
    return Message(f"w{number}", "on-call", "job.failed", body, NOW_MS, 0, next_try_at_ms)


class WebhookLogContract(Ways):
    """Messages stay until they are delivered or given up, and are bounded."""

    def test_the_next_one_comes_first(self) -> None:
        """In the order of their times, not of their coming."""
        late, soon = a_message(1, NOW_MS + 9), a_message(2, NOW_MS + 1)
        assert self.wait(self.store.queue_webhooks([late, soon], 10)) == 2
        assert self.wait(self.store.due_webhooks(5)) == [soon, late]
        assert self.wait(self.store.due_webhooks(1)) == [soon]

    def test_a_message_is_put_off(self) -> None:
        """What changes is how often it was tried, and when next."""
        message = a_message(1)
        self.wait(self.store.queue_webhooks([message], 10))
        later = attrs.evolve(message, tries=3, next_try_at_ms=NOW_MS + 5_000)
        self.wait(self.store.put_off_webhook(later))
        assert self.wait(self.store.due_webhooks(5)) == [later]

    def test_a_message_is_forgotten(self) -> None:
        """Again: nothing; and one that is gone is not put off."""
        message = a_message(1)
        self.wait(self.store.queue_webhooks([message], 10))
        self.wait(self.store.forget_webhook("w1"))
        self.wait(self.store.forget_webhook("w1"))
        self.wait(self.store.put_off_webhook(message))
        assert self.wait(self.store.due_webhooks(5)) == []

    def test_there_are_only_so_many(self) -> None:
        """What does not fit is not kept, and whoever asks hears how many were."""
        some = [a_message(number) for number in range(3)]
        assert self.wait(self.store.queue_webhooks(some, 2)) == 2
        assert self.wait(self.store.queue_webhooks([a_message(9)], 2)) == 0
        assert self.wait(self.store.due_webhooks(5)) == some[:2]
