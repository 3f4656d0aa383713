"""The history of one device: its journal and its pairing requests, page by page."""

from __future__ import annotations

import pytest

from palyra.console import models
from palyra.core.journal import JournalEntry
from palyra.errors import Malformed, NotFound
from tests.callers import ANA
from tests.gateway.enrolling import Applicant, Gateway
from tests.gateway.house import result_of
from tests.store.samples import NOW_MS


def numbers(answer: models.JournalList) -> list[int]:
    return [each.seq for each in answer.events]


def test_a_journal_is_read_backwards(gateway: Gateway) -> None:
    """Newest first, every event once, and the page says where the next one begins."""
    device = gateway.device()
    kept = result_of(gateway.store.journal(device.device_id, 0, 256)).newest_seq
    news = [
        JournalEntry(device.device_id, NOW_MS + n, "device.changed", {"n": n}) for n in range(7)
    ]
    result_of(gateway.store.note(news))
    newest = kept + len(news)
    first = result_of(gateway.control.journal("pi", 3, None))
    assert numbers(first) == [newest, newest - 1, newest - 2]
    assert first.events[0] == models.JournalItem(newest, NOW_MS + 6, "device.changed", {"n": 6})
    assert (first.page.has_more, first.page.next_cursor) == (True, str(newest - 2))
    seen, page = numbers(first), first.page
    while page.has_more:
        answer = result_of(gateway.control.journal("pi", 3, page.next_cursor))
        seen, page = seen + numbers(answer), answer.page
    assert seen == [*range(newest, 0, -1)]
    assert page.next_cursor is None and answer.oldest_seq == 1


def test_a_journal_whose_beginning_is_deleted(gateway: Gateway) -> None:
    """It ends where what is kept begins."""
    device = gateway.device()
    result_of(
        gateway.store.note(
            [JournalEntry(device.device_id, NOW_MS, "device.changed") for _ in range(1_300)]
        )
    )
    oldest = result_of(gateway.store.journal(device.device_id, 0, 1)).oldest_seq
    assert oldest > 1
    answer = result_of(gateway.control.journal("pi", 5, str(oldest + 2)))
    assert numbers(answer) == [oldest + 1, oldest]
    assert not answer.page.has_more
    assert result_of(gateway.control.journal("pi", 5, str(oldest))).events == []


@pytest.mark.parametrize("cursor", ["", "-1", "x", "9" * 10, "١"])
def test_a_cursor_that_no_journal_gave(gateway: Gateway, cursor: str) -> None:
    """It is refused by name."""
    gateway.device()
    with pytest.raises(Malformed):
        result_of(gateway.control.journal("pi", 3, cursor))


def test_every_time_a_device_asked_to_pair(gateway: Gateway) -> None:
    """Its own requests, newest first, and nobody else's."""
    request = gateway.request(Applicant().apply(gateway).request_id)
    result_of(gateway.control.decide(request.request_id, True, models.Decision(), ANA))
    Applicant(2, name="nas").apply(gateway)
    answer = result_of(gateway.control.pairing_history(request.device_id, 50, None))
    assert [each.request_id for each in answer.requests] == [request.request_id]
    assert not answer.page.has_more
    rest = result_of(gateway.control.pairing_history(request.device_id, 1, request.request_id))
    assert rest.requests == []


def test_nobody_has_no_history(gateway: Gateway) -> None:
    """A device that is not known is not found."""
    with pytest.raises(NotFound):
        result_of(gateway.control.journal("nobody", 3, None))
    with pytest.raises(NotFound):
        result_of(gateway.control.pairing_history("nobody", 3, None))
