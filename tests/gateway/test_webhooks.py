"""Webhooks: gathered, kept, delivered, tried again, given up."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import msgspec
import pytest
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock

from palyra.config.webhooks import WebhookSection
from palyra.core.auditlog import AuditQuery
from palyra.core.webhooks import GIVE_UP_MS, WebhookEvent, signed_headers
from palyra.errors import ConfigInvalid, DiskFull
from palyra.gateway.webhooks import AT_ONCE, LISTED, Hook, Webhooks
from palyra.store.memory import MemoryStore
from palyra.transport.webhookclient import NotDelivered, Target
from tests.gateway.house import result_of
from tests.store.samples import NOW_MS

SECRET = b"s" * 24


@attrs.define(eq=False)
class Try:
    target: Target
    headers: Mapping[str, str]
    body: bytes
    done: Deferred[None] = attrs.Factory(Deferred)

    @property
    def said(self) -> Any:
        return msgspec.json.decode(self.body)


class Outside:
    """Webhooks over a memory store, and every try to deliver one."""

    def __init__(self, *events: str) -> None:
        self.clock = Clock()
        self.clock.advance(NOW_MS / 1000)
        self.store: Any = MemoryStore(now_ms=lambda: int(self.clock.seconds() * 1000))
        self.tries: list[Try] = []
        told = frozenset(events or ("job.failed", "device.offline"))
        self.hooks = [Hook("on-call", Target("https://a.example/"), SECRET, told)]
        self.begin()

    def begin(self) -> None:
        self.webhooks = Webhooks(
            clock=self.clock,
            store=self.store,
            entropy=random.Random(5).randbytes,
            gateway_id="G",
            hooks=self.hooks,
            deliver=self._deliver,
            jitter=random.Random(6),
        )
        self.webhooks.start()
        self.clock.advance(0)

    def _deliver(self, target: Target, headers: Mapping[str, str], body: bytes) -> Deferred[None]:
        self.tries.append(Try(target, headers, body))
        return self.tries[-1].done

    def tell(self, **item: str) -> None:
        self.webhooks.tell(WebhookEvent.JOB_FAILED, item)

    def pass_time(self, seconds: float) -> None:
        self.clock.pump([0.25] * int(seconds * 4))

    def audited(self) -> list[tuple[str, str]]:
        page = result_of(self.store.audit_rows(AuditQuery(limit=9, action="webhook.")))
        return [(each.line.action, each.line.reason) for each in page.rows]


@pytest.fixture
def outside() -> Outside:
    return Outside()


def test_what_happens_within_a_second_is_one_message(outside: Outside) -> None:
    """With every id up to a hundred, and how many there were."""
    for number in range(LISTED + 5):
        outside.tell(job_id=f"J{number}")
    assert outside.tries == []
    outside.pass_time(1)
    (tried,) = outside.tries
    assert (tried.said["type"], tried.said["data"]["count"]) == ("job.failed", LISTED + 5)
    assert [each["job_id"] for each in tried.said["data"]["items"]][:2] == ["J0", "J1"]
    assert len(tried.said["data"]["items"]) == LISTED


def test_nobody_is_told_what_they_did_not_ask_for(outside: Outside) -> None:
    """An event without a target costs nothing."""
    outside.webhooks.tell(WebhookEvent.AUDIT_HEAD, {"seq": 1})
    outside.pass_time(5)
    assert outside.tries == [] and not outside.webhooks.wants(WebhookEvent.AUDIT_HEAD)


def test_a_message_is_signed_and_then_forgotten(outside: Outside) -> None:
    """The signature is of the body that is sent; what was taken is not sent again."""
    outside.tell(job_id="J")
    outside.pass_time(1)
    (tried,) = outside.tries
    (kept,) = result_of(outside.store.due_webhooks(9))
    now_ms = int(outside.clock.seconds() * 1000)
    assert tried.headers == signed_headers(kept, SECRET, now_ms)
    tried.done.callback(None)
    outside.pass_time(20)
    assert len(outside.tries) == 1 and result_of(outside.store.due_webhooks(9)) == []


def test_it_is_tried_again_with_the_same_id(outside: Outside) -> None:
    """After a pause of some seconds, with a new time in its signature."""
    outside.tell(job_id="J")
    outside.pass_time(1)
    outside.tries[0].done.errback(NotDelivered("it answered 500"))
    outside.pass_time(2)
    assert len(outside.tries) == 1
    outside.pass_time(4)
    first, second = outside.tries
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.headers["webhook-timestamp"] != second.headers["webhook-timestamp"]


def test_a_restart_goes_on(outside: Outside) -> None:
    """What was under way is sent again, by the same id; what had gathered is not lost."""
    outside.tell(job_id="J1")
    outside.pass_time(1)
    outside.tell(job_id="J2")
    result_of(outside.webhooks.stop())
    assert outside.clock.getDelayedCalls() == []
    before = outside.tries[0].headers["webhook-id"]
    outside.tries.clear()
    outside.begin()
    ids = {each.headers["webhook-id"] for each in outside.tries}
    assert len(outside.tries) == 2 and before in ids


def test_after_a_day_it_is_given_up_and_that_is_on_record(outside: Outside) -> None:
    """Nobody waits for ever, and nobody is left to wonder."""
    outside.tell(job_id="J")
    outside.pass_time(1)
    while outside.tries:
        tried = outside.tries.pop()
        tried.done.errback(NotDelivered("no answer"))
        outside.clock.advance(GIVE_UP_MS / 24_000)
    assert result_of(outside.store.due_webhooks(9)) == []
    assert outside.audited() == [("webhook.given_up", "no answer")]


def test_only_so_many_at_once(outside: Outside) -> None:
    """A target that is slow holds eight connections, and the others come as these end."""
    for number in range(AT_ONCE + 2):
        outside.tell(job_id=f"J{number}")
        outside.pass_time(1)
    assert len(outside.tries) == AT_ONCE
    outside.tries[0].done.callback(None)
    outside.pass_time(0.25)
    assert len(outside.tries) == AT_ONCE + 1


def test_a_store_that_cannot_write(outside: Outside, monkeypatch: Any) -> None:
    """What could not be kept is kept later."""
    with monkeypatch.context() as broken:
        broken.setattr(outside.store, "queue_webhooks", lambda *_: fail(DiskFull("/")))
        outside.tell(job_id="J")
        outside.pass_time(1)
    assert outside.tries == []
    outside.pass_time(10)
    assert len(outside.tries) == 1


def test_a_target_that_is_gone_from_the_configuration(outside: Outside) -> None:
    """Its messages are dropped, and that is on record."""
    outside.tell(job_id="J")
    outside.pass_time(1)
    result_of(outside.webhooks.stop())
    outside.hooks = []
    outside.begin()
    assert outside.audited() == [("webhook.given_up", "its target is not configured")]


def test_a_secret_that_cannot_be_read(tmp_path: Path) -> None:
    """The error names the section and never what the file holds."""
    file = tmp_path / "secret"
    section = WebhookSection("on-call", "https://a.example/", str(file), ("job.failed",))
    with pytest.raises(ConfigInvalid, match="on-call"):
        Hook.of(section)
    file.write_text("whsec_hush")
    with pytest.raises(ConfigInvalid) as caught:
        Hook.of(section)
    assert "on-call" in caught.value.sentence and "hush" not in caught.value.sentence
    file.write_text("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n")
    hook = Hook.of(section)
    assert len(hook.secret) == 24 and "MfKQ" not in repr(hook)
