"""Which happenings are told: failures nobody decided on, losses, and what waits for a person."""

from __future__ import annotations

from typing import Any

import pytest

from palyra.core.audithead import Head
from palyra.core.jobs import Outcome
from palyra.core.webhooks import WebhookEvent
from palyra.gateway.alarms import Alarms
from palyra.gateway.intake import START_GRACE_MS
from tests.contract.callapprovals import a_call
from tests.gateway.enrolling import Applicant, Gateway
from tests.gateway.house import attempt_of
from tests.store.samples import a_job


class Told:
    """Webhooks that remember what they are told."""

    def __init__(self) -> None:
        self.items: list[tuple[str, Any]] = []
        self.wanted = True

    def wants(self, event: WebhookEvent) -> bool:
        return self.wanted

    def tell(self, event: WebhookEvent, item: Any) -> None:
        self.items.append((event.value, item))


class Watched:
    """A gateway with alarms."""

    def __init__(self, gateway: Gateway) -> None:
        self.told = Told()
        any_told: Any = self.told
        self.alarms = Alarms(
            webhooks=any_told,
            inventory=gateway.inventory,
            board=gateway.board,
            now_ms=gateway.now_ms,
        )
        gateway.dispatcher.watchers.append(self.alarms)
        gateway.board.watchers.append(self.alarms.presence)

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.told.items]


@pytest.fixture
def watched(gateway: Gateway) -> Watched:
    return Watched(gateway)


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.TIMED_OUT])
def test_a_job_that_failed(gateway: Gateway, watched: Watched, outcome: Outcome) -> None:
    """By its ids and its state; nothing of its input or output."""
    device, node = gateway.online()
    job = gateway.submit(device)
    node.take()
    node.finish(attempt_of(job), outcome, output_json=b'"secret"')
    ((kind, item),) = watched.told.items
    assert (kind, item["job_id"], item["state"]) == ("job.failed", job.call.job_id, outcome.value)
    assert set(item) == {"job_id", "device_id", "capability", "state", "error_code"}


@pytest.mark.parametrize("outcome", [Outcome.SUCCEEDED, Outcome.REJECTED, Outcome.CANCELLED])
def test_a_job_that_ended_as_somebody_wanted(
    gateway: Gateway, watched: Watched, outcome: Outcome
) -> None:
    """Nobody is woken for what a person has decided."""
    device, node = gateway.online()
    job = gateway.submit(device)
    node.take()
    node.finish(attempt_of(job), outcome)
    assert watched.told.items == []


def test_a_device_that_went_away(gateway: Gateway, watched: Watched) -> None:
    """Once, and again only after it was here in between."""
    gateway.pass_time(START_GRACE_MS / 1000 + 1)
    device, node = gateway.online()
    node.disconnect()
    gateway.pass_time(60)
    gateway.pass_time(60)
    assert watched.told.items == [
        ("device.offline", {"device_id": device.device_id, "name": device.name})
    ]


def test_after_a_start_nobody_is_missed(gateway: Gateway, watched: Watched) -> None:
    """All of them are on their way back then."""
    _, node = gateway.online()
    node.disconnect()
    gateway.pass_time(60)
    assert watched.told.items == []


def test_a_certificate_that_nobody_renews(gateway: Gateway, watched: Watched) -> None:
    """Told once for each certificate, when less than a sixth of its life is left."""
    device, _ = gateway.online()
    watched.alarms.look_at_certificates()
    assert watched.told.items == []
    newest = gateway.inventory.newest_certificate(device.device_id)
    assert newest is not None
    life_ms = newest.not_after_ms - newest.not_before_ms
    gateway.clock.rightNow = (newest.not_after_ms - life_ms // 7) / 1000
    watched.alarms.look_at_certificates()
    watched.alarms.look_at_certificates()
    ((kind, item),) = watched.told.items
    assert (kind, item["device_id"]) == ("certificate.expiring", device.device_id)


def test_a_call_that_waits_for_a_person(gateway: Gateway, watched: Watched) -> None:
    """By its approval and its capability; nothing of its input."""
    gateway.call_approvals.asked = watched.alarms.approval_opened
    device, _ = gateway.online()
    approval = a_call(a_job("asked", device.device_id))
    gateway.call_approvals.opened(approval)
    ((kind, item),) = watched.told.items
    assert kind == "approval.needed"
    assert item == {
        "approval_id": approval.approval_id,
        "capability": approval.capability,
        "expires_at_unix_ms": approval.expires_at_ms,
    }


def test_a_device_that_asks(gateway: Gateway, watched: Watched) -> None:
    """By what an operator will see of it, and until when it waits."""
    gateway.requests.opened = watched.alarms.pairing_opened
    Applicant().apply(gateway)
    ((kind, item),) = watched.told.items
    assert kind == "pairing.needed"
    assert set(item) == {"request_id", "device_id", "name", "expires_at_unix_ms"}


def test_the_head_of_the_audit_chain(watched: Watched) -> None:
    """With its signature: whoever gets it can compare it with the chain for ever."""
    watched.alarms.anchored(Head("C", 7, b"\xab" * 32, 5, signature=b"\xcd" * 64))
    ((kind, item),) = watched.told.items
    assert kind == "audit.head"
    assert (item["seq"], item["hash"], item["signature"]) == (7, "ab" * 32, "cd" * 64)
