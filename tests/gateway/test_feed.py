"""The feed: what a page that is open is told, and what it costs while nobody looks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface.verify import verifyObject

from palyra.console import models
from palyra.console.control import FeedQuery, IFeed, IFeedControl
from palyra.core.frames import NodeEvent, Progress
from palyra.core.interfaces import LISTED_OUTPUT
from palyra.core.operators import Caller
from palyra.errors import LimitReached, Malformed, NotFound
from palyra.gateway.feed import MAX_OF_OPERATOR, MAX_OF_SESSION, MAX_WATCHES, Feed
from palyra.gateway.recent import KEPT
from tests.callers import ANA, BO
from tests.gateway.enrolling import Applicant, Gateway
from tests.gateway.house import attempt_of, result_of
from tests.store.samples import ulid


class Pages:
    """A feed of a gateway, and the pages that watch it."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.calls = 0
        self.woken = 0
        self.shown: list[str] = []
        self.approval: Any = lambda approval_id: succeed(_an_approval(approval_id))
        self.feed = Feed(
            clock=gateway.clock,
            inventory=gateway.inventory,
            roster=gateway.control.roster,
            view=gateway.control.view,
            dispatcher=gateway.dispatcher,
            approvals=gateway.approvals,
            approval=self._show,
            calls_waiting=lambda: self.calls,
        )
        gateway.pass_time(2)

    def watch(
        self,
        by: Caller = ANA,
        *,
        devices: Iterable[str] = (),
        jobs: Iterable[str] = (),
        topics: Iterable[str] = (),
        resumed: bool = False,
    ) -> IFeed:
        """A page that shows so much."""
        query = FeedQuery(frozenset(devices), frozenset(jobs), frozenset(topics), resumed)
        feed: IFeed = result_of(self.feed.watch(query, by, self._wake))
        return feed

    def quiet(self, **which: Any) -> IFeed:
        """The same, with its beginning taken."""
        page = self.watch(**which)
        page.take()
        self.woken = 0
        return page

    def news(self, page: IFeed) -> list[models.FeedEvent]:
        """What there is after a quarter of a second, but for counts."""
        self.gateway.pass_time(0.25)
        return [event for event in page.take() if event.kind != "counts"]

    def _wake(self) -> None:
        self.woken += 1

    def _show(self, approval_id: str, by: Caller) -> Deferred[models.ApprovalAnswer]:
        self.shown.append(f"{approval_id} to {by.name}")
        answer: Deferred[models.ApprovalAnswer] = self.approval(approval_id)
        return answer


def _an_approval(approval_id: str) -> models.ApprovalAnswer:
    item = models.ApprovalItem(
        approval_id, "pairing", "pending", "", 0, 1, "", None, "", "once", None
    )
    return models.ApprovalAnswer(models.Contract(), item)


@pytest.fixture
def pages(gateway: Gateway) -> Pages:
    """Nobody watches."""
    return Pages(gateway)


# -- the beginning, and the counts --------------------------------------------------------------


def test_the_counts_are_there_at_once(pages: Pages) -> None:
    """With everything they count; a page that shows nothing is told of nothing else."""
    gateway = pages.gateway
    device, _ = gateway.online("a")
    gateway.device("b")
    Applicant().apply(gateway)
    gateway.submit(device)
    pages.calls = 2
    assert verifyObject(IFeedControl, pages.feed)
    page = pages.watch()
    assert verifyObject(IFeed, page) and not page.finished
    (event,) = page.take()
    assert event == models.FeedEvent("counts", counts=models.Counts(2, 1, 0, 1, 3, 1, 1))
    assert page.take() == []
    page.close()


def test_counts_are_told_once_a_second(pages: Pages) -> None:
    """However often they change, and the last word is told too."""
    gateway = pages.gateway
    device, node = gateway.online()
    page = pages.quiet()
    gateway.pass_time(3)
    told = []
    for number in range(12):
        node.take()
        gateway.submit(device)
        gateway.pass_time(0.25)
        told += [(number, event.counts.jobs_unfinished) for event in page.take() if event.counts]
    assert len(told) <= 4, "in three seconds, both ends included"
    gateway.pass_time(1)
    assert [event.counts and event.counts.jobs_unfinished for event in page.take()] == [12]
    page.close()


def test_a_page_that_follows_another_has_counts_of_now(pages: Pages) -> None:
    """Also where the other one was told less than a second ago."""
    device, _ = pages.gateway.online()
    pages.quiet().close()
    pages.gateway.submit(device)
    page = pages.watch()
    assert [event.counts and event.counts.jobs_unfinished for event in page.take()] == [1]
    page.close()


def test_what_is_shown_is_told_as_it_is(pages: Pages) -> None:
    """A change between the page's own question and its watch is not lost; what is not there is
    left out, or told as gone."""
    gateway = pages.gateway
    device, node = gateway.online()
    running, ended = gateway.submit(device), gateway.submit(device)
    node.take()
    node.finish(attempt_of(ended))
    page = pages.watch(
        devices=[device.device_id, ulid("gone")],
        jobs=[running.call.job_id, ended.call.job_id, ulid("none")],
    )
    events = [event for event in page.take() if event.kind != "counts"]
    assert {event.job.job_id: event.job.state for event in events if event.job} == {
        running.call.job_id: "dispatched",
        ended.call.job_id: "succeeded",
    }
    assert {
        event.device_id: event.node and event.node.name for event in events if not event.job
    } == {
        device.device_id: "pi",
        ulid("gone"): None,
    }
    page.close()


def test_a_page_that_comes_back_has_a_gap(pages: Pages) -> None:
    """What happened since is not told again: it asks for what it shows."""
    page = pages.watch(resumed=True)
    assert [event.kind for event in page.take()] == ["gap", "counts"]
    assert page.take() == []
    page.close()


@pytest.mark.parametrize(
    "which", [{"devices": ["pi"]}, {"jobs": ["K1D9WA"]}, {"topics": ["everything"]}]
)
def test_what_cannot_be_watched(pages: Pages, which: dict[str, Any]) -> None:
    """A name, a short id and an unknown topic are refused."""
    with pytest.raises(Malformed):
        pages.watch(**which)


# -- devices ----------------------------------------------------------------------------------


def test_a_device_that_is_shown_is_told_as_it_changes(pages: Pages) -> None:
    """Presence, labels, the number of its jobs, its end; only its newest state each time."""
    gateway = pages.gateway
    device, other = gateway.device("pi"), gateway.device("nas")
    page = pages.quiet(devices=[device.device_id])
    node = gateway.node(device)
    result_of(node.connect())
    gateway.node(other)
    (event,) = pages.news(page)
    assert event.node is not None and event.node.presence == "online"
    gateway.submit(device)
    (event,) = pages.news(page)
    assert event.node is not None and event.node.jobs_running == 1
    result_of(gateway.control.label("pi", models.LabelNode(labels={"site": "brno"}), ANA))
    result_of(gateway.control.label("nas", models.LabelNode(labels={"site": "brno"}), ANA))
    (event,) = pages.news(page)
    assert event.node is not None and event.node.labels["site"] == "brno"
    result_of(gateway.control.remove("pi", models.Remove(), ANA))
    (event,) = pages.news(page)
    assert (event.device_id, event.node) == (device.device_id, None)
    page.close()


def test_progress_of_its_jobs_is_no_news_of_a_device(pages: Pages) -> None:
    """As long as it has as many."""
    gateway = pages.gateway
    device, node = gateway.online()
    job = gateway.submit(device)
    page = pages.quiet(devices=[device.device_id])
    node.say(NodeEvent("", progress=(Progress(attempt_of(job), 0.5, ""),)))
    assert pages.news(page) == []
    page.close()


def test_every_device(pages: Pages) -> None:
    """A page may watch all of them; more than it can be told at once is a gap."""
    gateway = pages.gateway
    page = pages.quiet(topics=["devices"])
    gateway.device("a")
    gateway.device("b")
    assert {event.node and event.node.name for event in pages.news(page)} == {"a", "b"}
    known = [gateway.device(f"n{number}") for number in range(KEPT + 1)]
    assert [event.kind for event in pages.news(page)] == ["gap"]
    for device in known[:KEPT]:
        gateway.inventory.put(device)
    assert len(pages.news(page)) == KEPT
    page.close()


# -- jobs -------------------------------------------------------------------------------------


def test_jobs_that_are_shown(pages: Pages) -> None:
    """Each with its newest state and progress; those that are not shown are only counted."""
    gateway = pages.gateway
    device, node = gateway.online()
    job, other = gateway.submit(device), gateway.submit(device)
    page = pages.quiet(jobs=[job.call.job_id])
    for fraction in (0.25, 0.5):
        node.say(NodeEvent("", progress=(Progress(attempt_of(job), fraction, "reading"),)))
    (event,) = pages.news(page)
    assert event.job is not None and event.job.job_id == job.call.job_id
    assert (event.progress, event.progress_text) == (0.5, "reading")
    node.take()
    node.finish(attempt_of(other))
    assert pages.news(page) == []
    node.finish(attempt_of(job))
    (event,) = pages.news(page)
    assert event.job is not None and event.job.state == "succeeded"
    page.close()


def test_every_job(pages: Pages) -> None:
    """A page may watch all of them; two that do are told the same event, which is made once."""
    gateway = pages.gateway
    device, node = gateway.online()
    one, two = pages.quiet(topics=["jobs"]), pages.quiet(topics=["jobs"])
    job = gateway.submit(device)
    (event,) = pages.news(one)
    (same,) = two.take()[-1:]
    assert event is same and event.job is not None and event.job.state == "dispatched"
    node.take()
    node.finish(attempt_of(job))
    (event,) = pages.news(one)
    assert event.job is not None and event.job.state == "succeeded"
    one.close()
    two.close()


def test_an_end_is_told_when_it_is_on_record(pages: Pages) -> None:
    """Not while it is on its way to the store."""
    gateway = pages.gateway
    device, node = gateway.online()
    page = pages.quiet(topics=["jobs"])
    job = gateway.submit(device)
    node.take()
    gateway.store.holding = True
    node.finish(attempt_of(job))
    assert pages.news(page) == [], "it runs no more, and its end is not on record"
    gateway.store.holding = False
    gateway.store.release()
    (event,) = pages.news(page)
    assert event.job is not None and event.job.state == "succeeded"
    page.close()


def test_an_end_keeps_no_payload(pages: Pages) -> None:
    """However large inputs and outputs are, what is noted for pages is small."""
    gateway = pages.gateway
    device, node = gateway.online()
    page = pages.quiet(topics=["jobs"])
    job = gateway.submit(device, input_json=b'"' + 2 * LISTED_OUTPUT * b"i" + b'"')
    node.take()
    output = b'"' + 2 * LISTED_OUTPUT * b"o" + b'"'
    node.finish(attempt_of(job), output_json=output)
    ((_, change),) = pages.feed.recent["jobs"].since(0) or []
    assert change.job is not None and change.job.call.input_json == b""
    assert len(change.job.output_json or b"") == LISTED_OUTPUT
    (event,) = pages.news(page)
    assert event.job is not None and event.job.note.startswith('"[redacted]')
    page.close()


# -- approvals --------------------------------------------------------------------------------


def test_pairing_requests(pages: Pages) -> None:
    """That one waits, and that it waits no more, is told with the approval as the page may see
    it."""
    gateway = pages.gateway
    page, other = pages.quiet(topics=["approvals"]), pages.quiet(topics=["jobs"])
    request_id = Applicant().apply(gateway).request_id
    approval_id = gateway.request(request_id).approval_id
    (event,) = pages.news(page)
    assert event.approval is not None and event.approval.approval_id == approval_id
    gateway.reject(request_id)
    (event,) = pages.news(page)
    assert pages.shown == [f"{approval_id} to ana"] * 2
    assert pages.news(other) == []
    page.close()
    other.close()


def test_approvals_are_loaded_one_after_the_other(pages: Pages) -> None:
    """Each once, however often it changes meanwhile; too many are a gap."""
    first: Deferred[models.ApprovalAnswer] = Deferred()
    pages.approval = lambda approval_id: first
    page = pages.quiet(topics=["approvals"])
    for approval_id in ("a", "b", "b", "c", "b"):
        pages.feed.approval_changed(approval_id)
    assert pages.shown == ["a to ana"]
    pages.approval = lambda approval_id: succeed(_an_approval(approval_id))
    first.callback(_an_approval("a"))
    assert pages.shown == ["a to ana", "c to ana", "b to ana"]
    assert [event.approval and event.approval.approval_id for event in pages.news(page)] == [
        "a", "c", "b",
    ]  # fmt: skip
    for number in range(KEPT + 1):
        pages.feed.approval_changed(str(number))
    assert [event.kind for event in pages.news(page)] == ["gap"]
    pages.approval = lambda approval_id: Deferred()
    for number in range(KEPT + 2):
        pages.feed.approval_changed(str(number))
    assert [event.kind for event in pages.news(page)] == ["gap"]
    page.close()


def test_an_approval_that_cannot_be_shown(pages: Pages) -> None:
    """It is gone: the page asks again for what there is."""
    pages.approval = lambda approval_id: fail(NotFound("approval", approval_id))
    page = pages.quiet(topics=["approvals"])
    pages.feed.approval_changed("a")
    assert [event.kind for event in pages.news(page)] == ["gap"]
    page.close()


def test_an_approval_that_is_loaded_too_late(pages: Pages) -> None:
    """A page that is closed meanwhile loads nothing more."""
    loading: Deferred[models.ApprovalAnswer] = Deferred()
    pages.approval = lambda approval_id: loading
    page = pages.quiet(topics=["approvals"])
    pages.feed.approval_changed("a")
    pages.feed.approval_changed("b")
    page.close()
    loading.callback(_an_approval("a"))
    assert pages.shown == ["a to ana"]


def test_a_request_goes_with_its_device(pages: Pages) -> None:
    """It is not counted until its time would be over."""
    gateway = pages.gateway
    applicant = Applicant()
    applicant.pair(gateway)
    applicant.apply(gateway)
    assert gateway.approvals.waiting == 1
    result_of(gateway.control.remove("pi", models.Remove(), ANA))
    assert gateway.approvals.waiting == 0


# -- how often, how many ------------------------------------------------------------------------


def test_a_page_is_woken_four_times_a_second(pages: Pages) -> None:
    """However much happens; at once after a while in which nothing did."""
    gateway = pages.gateway
    device, _ = gateway.online()
    page = pages.quiet(topics=["jobs"])
    gateway.pass_time(5)
    page.take()
    pages.woken = 0
    gateway.submit(device)
    gateway.clock.advance(0)
    assert pages.woken == 1
    for _ in range(40):
        gateway.submit(device)
        gateway.clock.advance(0.05)
        page.take()
    assert 8 <= pages.woken <= 10
    page.close()


def test_a_clock_that_is_set_back_holds_nothing_up(pages: Pages) -> None:
    """What changes then is told within the usual time."""
    gateway = pages.gateway
    page = pages.quiet(topics=["devices"])
    gateway.clock.rightNow -= 3_600
    gateway.device("a")
    assert len(pages.news(page)) == 1
    gateway.pass_time(1)
    assert [event.kind for event in page.take()] in ([], ["counts"])
    page.close()


def test_pages_share_what_they_show(pages: Pages) -> None:
    """One that comes does not hold up the others, and one that leaves takes nothing from them."""
    gateway = pages.gateway
    device, _ = gateway.online()
    one = pages.quiet(devices=[device.device_id])
    gateway.submit(device)
    gateway.clock.advance(0)
    one.take()
    gateway.submit(device)
    two = pages.watch(devices=[device.device_id])
    (event,) = pages.news(one)
    assert event.node is not None and event.node.jobs_running == 2
    one.close()
    gateway.submit(device)
    (event,) = pages.news(two)
    assert event.node is not None and event.node.jobs_running == 3
    two.close()


def test_nothing_is_kept_while_nobody_watches(pages: Pages) -> None:
    """No change, no timer; also after the last page has gone."""
    gateway = pages.gateway
    page = pages.quiet(topics=["devices", "jobs"])
    device, _ = gateway.online()
    gateway.submit(device)
    page.close()
    page.close()
    assert page.finished
    calls = len(gateway.clock.getDelayedCalls())
    gateway.submit(device)
    gateway.device("other")
    assert all(recent.since(recent.number - 1) is None for recent in pages.feed.recent.values())
    assert len(gateway.clock.getDelayedCalls()) == calls
    again = pages.quiet(topics=["devices", "jobs"])
    assert pages.news(again) == []
    again.close()


def test_so_many_may_watch(pages: Pages) -> None:
    """Four in a browser session, some of one operator, some hundred in all; who leaves makes
    room."""
    tab = attrs.evolve(ANA, session="s1")
    held = [pages.watch(tab) for _ in range(MAX_OF_SESSION)]
    with pytest.raises(LimitReached):
        pages.watch(tab)
    held.append(pages.watch(attrs.evolve(ANA, session="s2")))
    held.pop(0).close()
    held.append(pages.watch(tab))
    held += [pages.watch(BO) for _ in range(MAX_OF_OPERATOR)]
    with pytest.raises(LimitReached):
        pages.watch(BO)
    for number in range(MAX_WATCHES - len(held)):
        held.append(pages.watch(attrs.evolve(BO, operator_id=f"local:{2_000 + number}")))
    with pytest.raises(LimitReached):
        pages.watch(attrs.evolve(BO, operator_id="local:9"))
    for page in held:
        page.close()
    pages.watch(BO).close()
