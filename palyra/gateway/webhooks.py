"""Webhooks: what happens here is told to the outside, at least once, for as long as a day.

What happens within a second is told in one message: a gateway that loses its network tells of ten
thousand devices at once.  Messages wait in the store, so a restart loses none.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import msgspec
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from palyra.config.webhooks import WebhookSection
from palyra.core.audit import AuditEntry
from palyra.core.identifiers import Entropy, new_ulid
from palyra.core.interfaces import IStore
from palyra.core.webhooks import (
    MAX_QUEUED,
    Message,
    WebhookEvent,
    read_secret,
    signed_headers,
    tried,
)
from palyra.errors import ConfigInvalid, Malformed, PalyraError
from palyra.gateway.waits import deferred
from palyra.transport.webhookclient import Target

GATHER_S = 1.0
AGAIN_S = 10.0
"""When to try again what the store could not do."""
AT_ONCE = 8
"""Deliveries under way at a time."""
LISTED = 100
"""Things that one message names; beyond them only their number is told."""

Deliver = Callable[[Target, Mapping[str, str], bytes], Deferred[None]]
Item = Mapping[str, str | int | None]


@attrs.frozen
class Hook:
    """One target and what it is told; the secret is never shown."""

    target_id: str
    target: Target
    secret: bytes = attrs.field(repr=False)
    events: frozenset[str]

    @classmethod
    def of(cls, section: WebhookSection) -> Hook:
        """Read what a section names.

        :raises ConfigInvalid: its secret, or its CA, cannot be read.
        """
        path = f"webhook.{section.id}"
        try:
            secret = read_secret(Path(section.secret_file).expanduser().read_text())
            target = Target.of(section.url, section.allow_private, section.ca_file)
        except Malformed as error:
            raise ConfigInvalid(section.secret_file, f"{path}.secret_file", error.problem) from None
        except (OSError, ValueError) as error:
            raise ConfigInvalid(path, "file", f"cannot be read ({error})") from error
        return cls(section.id, target, secret, frozenset(section.events))


class Webhooks:
    """Gathers what happened, keeps it, and delivers it; ``deliver`` is one try."""

    _log = Logger()

    def __init__(
        self,
        *,
        clock: IReactorTime,
        store: IStore,
        entropy: Entropy,
        gateway_id: str,
        hooks: Sequence[Hook],
        deliver: Deliver,
        jitter: random.Random,
    ) -> None:
        self._clock = clock
        self._store = store
        self._entropy = entropy
        self._gateway_id = gateway_id
        self._hooks = {hook.target_id: hook for hook in hooks}
        self._deliver = deliver
        self._jitter = jitter
        self._wanted = frozenset().union(*(hook.events for hook in hooks))
        self._gathered: dict[WebhookEvent, tuple[list[Item], int]] = {}
        self._unkept: list[Message] = []
        """Messages that the store could not take."""
        self._gathering: IDelayedCall | None = None
        self._next: IDelayedCall | None = None
        self._under_way: dict[str, Deferred[Any]] = {}
        self._looking = False
        self._stopped = False

    # -- what is told ---------------------------------------------------------------------------

    def wants(self, event: WebhookEvent) -> bool:
        """Whether anybody is told of this."""
        return event.value in self._wanted and not self._stopped

    def tell(self, event: WebhookEvent, item: Item) -> None:
        """Something happened: ids and states only."""
        if not self.wants(event):
            return
        items, count = self._gathered.get(event, ([], 0))
        if count < LISTED:
            items.append(item)
        self._gathered[event] = items, count + 1
        self._gather_in(GATHER_S)

    def _gather_in(self, seconds: float) -> None:
        if self._gathering is None and not self._stopped:
            self._gathering = self._clock.callLater(seconds, self._gather)

    def _gather(self) -> None:
        self._gathering = None
        self._own(self._keep(), "webhooks could not be kept")

    async def _keep(self) -> None:
        """Make one message for each target of what has gathered, and put it on record."""
        gathered, self._gathered = self._gathered, {}
        self._unkept += [
            self._message(hook, event, items, count)
            for event, (items, count) in gathered.items()
            for hook in self._hooks.values()
            if event.value in hook.events
        ]
        messages, self._unkept = self._unkept, []
        if not messages:
            return
        try:
            kept = await self._store.queue_webhooks(messages, MAX_QUEUED)
        except Exception:
            self._unkept = (messages + self._unkept)[:MAX_QUEUED]
            self._gather_in(AGAIN_S)
            raise
        for lost in messages[kept:]:
            await self._given_up(lost, f"{MAX_QUEUED} others wait")
        self._look_in(0)

    def _message(
        self, hook: Hook, event: WebhookEvent, items: Sequence[Item], count: int
    ) -> Message:
        now_ms = self._now_ms()
        body = {
            "type": event.value,
            "timestamp_unix_ms": now_ms,
            "data": {"gateway_id": self._gateway_id, "count": count, "items": items},
        }
        return Message(
            webhook_id=f"msg_{new_ulid(now_ms, self._entropy)}",
            target=hook.target_id,
            event=event.value,
            body=msgspec.json.encode(body),
            created_at_ms=now_ms,
            next_try_at_ms=now_ms,
        )

    # -- delivery -------------------------------------------------------------------------------

    def start(self) -> None:
        """Go on with what an earlier life of this gateway left."""
        self._look_in(0)

    def stop(self) -> Deferred[None]:
        """End what is under way; it is tried again after the next start.

        What has gathered in the last second is kept first.
        """
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        with contextlib.suppress(PalyraError):  # a full disk does not keep the gateway from ending
            await self._keep()
        self._stopped = True
        for call in (self._gathering, self._next):
            if call is not None and call.active():
                call.cancel()
        under_way = list(self._under_way.values())
        for each in under_way:
            each.cancel()
        await DeferredList(under_way, consumeErrors=True)

    def _look_in(self, seconds: float) -> None:
        if self._stopped:
            return
        if self._next is not None:
            if self._next.getTime() <= self._clock.seconds() + seconds:
                return
            self._next.cancel()
        self._next = self._clock.callLater(max(0.0, seconds), self._look)

    def _look(self) -> None:
        self._next = None
        if not self._looking:
            self._looking = True
            self._own(self._begin(), "webhooks could not be read")

    async def _begin(self) -> None:
        """Begin what is due, as far as there is room; else look when the next one is."""
        try:
            found = await self._store.due_webhooks(AT_ONCE + len(self._under_way))
        except Exception:
            self._look_in(AGAIN_S)
            raise
        finally:
            self._looking = False
        now_ms = self._now_ms()
        waiting = [each for each in found if each.webhook_id not in self._under_way]
        for message in waiting:
            if len(self._under_way) >= AT_ONCE:
                return  # the end of one of them looks again
            if message.next_try_at_ms > now_ms:
                self._look_in((message.next_try_at_ms - now_ms) / 1000)
                return
            self._try(message)

    def _try(self, message: Message) -> None:
        hook = self._hooks.get(message.target)
        if hook is None:  # the configuration does not name it any more
            self._own(self._drop(message, "its target is not configured"), "a webhook is left")
            return
        headers = signed_headers(message, hook.secret, self._now_ms())
        delivery = self._deliver(hook.target, headers, message.body)
        self._under_way[message.webhook_id] = delivery
        delivery.addCallbacks(
            lambda _: deferred(self._store.forget_webhook(message.webhook_id)),
            lambda failure: self._not_delivered(failure, message),
        )
        delivery.addErrback(
            lambda failure: self._log.failure("a webhook's fate was not kept", failure)
        )
        delivery.addBoth(self._ended, message)

    def _not_delivered(self, failure: Failure, message: Message) -> Deferred[None] | None:
        if self._stopped:
            return None
        cause = str(failure.value)[:240]
        again = tried(message, self._now_ms(), self._jitter)
        if again is None:
            return Deferred.fromCoroutine(self._drop(message, cause))
        self._log.info(
            "webhook {target} was not told: {cause}; again in {s:g}s",
            target=message.target,
            cause=cause,
            s=(again.next_try_at_ms - self._now_ms()) / 1000,
        )
        return deferred(self._store.put_off_webhook(again))

    def _ended(self, _: Any, message: Message) -> None:
        self._under_way.pop(message.webhook_id, None)
        self._look_in(0)

    async def _drop(self, message: Message, cause: str) -> None:
        await self._store.forget_webhook(message.webhook_id)
        await self._given_up(message, cause)
        self._look_in(0)

    async def _given_up(self, message: Message, cause: str) -> None:
        self._log.error("webhook {id} is given up: {cause}", id=message.webhook_id, cause=cause)
        entry = AuditEntry(
            at_ms=self._now_ms(),
            action="webhook.given_up",
            subject=f"webhook:{message.webhook_id}",
            subject_name=message.target,
            result=message.event,
            reason=cause,
        )
        await self._store.record([entry])

    def _own(self, work: Any, complaint: str) -> None:
        done = Deferred.fromCoroutine(work)
        done.addErrback(lambda failure: self._log.failure(complaint, failure))

    def _now_ms(self) -> int:
        return int(self._clock.seconds() * 1000)
