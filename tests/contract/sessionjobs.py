"""What a node session keeps of jobs, whatever carries it (PROTOCOL: Jobs, Sessions)."""

from __future__ import annotations

from palyra.core.frames import Progress
from palyra.core.jobs import JobState
from palyra.node.mediation import Answer
from tests.contract.sessionplace import OnCarrier, Place, turns
from tests.gateway.house import attempt_of
from tests.node.awaiting import awaiting

BIG = b'"' + b"0123456789abcdef" * (2 * 1024 * 1024 // 16) + b'"'
"""2 MiB of JSON: many messages on any carrier."""
MEDIUM = 300 * 1024
"""Characters of JSON that do not fit into one piece."""
MANY = 400
UPDATES = 400
RUNNING = 50
"""Jobs whose progress is said at once: what the system itself buffers is full after a few."""


class SessionJobsContract(OnCarrier):
    """Part of :class:`tests.contract.session.SessionContract`."""

    # -- results ------------------------------------------------------------------------------

    @awaiting
    async def test_acknowledged_after_the_commit(self, place: Place) -> None:
        """Until a result is on the gateway's disk, the node keeps it."""
        node = place.node()
        await node.connect()
        job = node.submit()
        run = await node.started()
        place.gateway.store.holding = True
        run.finish()
        await place.until(lambda: place.gateway.store.waiting)
        place.advance(1)
        await turns(10)
        assert node.memory.unacknowledged()
        place.gateway.store.holding = False
        place.gateway.store.release()
        await place.until(lambda: not node.memory.unacknowledged())
        assert place.gateway.kept(job).state is JobState.SUCCEEDED

    @awaiting
    async def test_resent_after_a_break(self, place: Place) -> None:
        """What ended while nobody listened arrives over the next session; nothing runs twice."""
        node = place.node()
        broken = await node.connect()
        job = node.submit()
        run = await node.started()
        place.carriers.cut()
        await place.until(lambda: broken.over)
        assert broken.code == "gateway_unreachable"
        run.finish(b'"late"')
        assert not place.gateway.kept(job).final
        await node.connect()
        await node.ended(job)
        await place.until(lambda: not node.memory.unacknowledged())
        assert place.gateway.kept(job).output_json == b'"late"'
        assert len(node.hands.runs) == 1

    @awaiting
    async def test_an_acknowledgement_that_got_lost(self, place: Place) -> None:
        """The result is sent again, changes nothing, and is acknowledged then."""
        node = place.node()
        broken = await node.connect()
        job = node.submit()
        run = await node.started()
        place.gateway.store.holding = True
        run.finish(b'"once"')
        await place.until(lambda: place.gateway.store.waiting)
        place.carriers.cut()
        await place.until(lambda: broken.over)
        place.gateway.store.holding = False
        place.gateway.store.release()
        assert place.gateway.kept(job).final and node.memory.unacknowledged()
        await node.connect()
        await place.until(lambda: not node.memory.unacknowledged())
        assert place.gateway.kept(job).output_json == b'"once"'

    @awaiting
    async def test_many_small_jobs(self, place: Place) -> None:
        """They start in the order in which they were asked for, and each has its own result."""
        node = place.node()
        await node.connect()
        node.hands.at_once = True
        inputs = [b"%d" % number for number in range(MANY)]
        jobs = [node.submit(each) for each in inputs]
        await node.ended(*jobs)
        assert [run.input_json for run in node.hands.runs] == inputs
        assert [place.gateway.kept(job).output_json for job in jobs] == inputs

    @awaiting
    async def test_a_large_payload_delays_nobody(self, place: Place) -> None:
        """2 MiB there and back: what is small overtakes it, and heartbeats are answered."""
        node = place.node()
        connected = await node.connect()
        node.hands.at_once = True
        large = node.submit(BIG)
        small = [node.submit(b"%d" % number) for number in range(5)]
        heard = connected.heard
        place.advance(connected.link.welcome.heartbeat_interval_ms / 1000)
        await node.ended(large, *small)
        await place.until(lambda: connected.heard > heard)
        order = [run.input_json for run in node.hands.runs]
        assert order == [*(b"%d" % number for number in range(5)), BIG]
        assert place.gateway.kept(large).output_json == BIG
        await place.until(lambda: not node.memory.unacknowledged())
        assert not connected.over

    @awaiting
    async def test_a_large_result_delays_nobody(self, place: Place) -> None:
        """A small one that is ready a moment later is on record first."""
        node = place.node()
        await node.connect()
        large, small = node.submit(), node.submit()
        await node.started(2)
        node.hands.runs[0].finish(BIG)
        node.hands.runs[1].finish(b"1")
        await node.ended(large, small)
        assert place.watcher.ended == [small.call.job_id, large.call.job_id]
        assert place.gateway.kept(large).output_json == BIG

    @awaiting
    async def test_many_large_payloads(self, place: Place) -> None:
        """More of them than may be on their way at once: each arrives whole, both ways."""
        node = place.node()
        await node.connect()
        node.hands.at_once = True
        inputs = [b'"' + b"%d" % number * MEDIUM + b'"' for number in range(6)]
        jobs = [node.submit(each) for each in inputs]
        await node.ended(*jobs)
        assert [place.gateway.kept(job).output_json for job in jobs] == inputs

    @awaiting
    async def test_a_break_within_a_payload(self, place: Place) -> None:
        """What had arrived of it is dropped; the next session brings it from the beginning."""
        node = place.node()
        broken = await node.connect()
        job = node.submit(BIG)
        await turns(1)
        place.carriers.cut()
        await place.until(lambda: broken.over)
        await node.connect()
        run = await node.started()
        assert run.input_json == BIG and len(node.hands.runs) == 1
        run.finish(BIG)
        await node.ended(job)
        assert place.gateway.kept(job).output_json == BIG

    # -- while jobs run -----------------------------------------------------------------------

    @awaiting
    async def test_a_cancel_reaches_the_handler(self, place: Place) -> None:
        """And its word decides what became of the job."""
        node = place.node()
        await node.connect()
        job = node.submit()
        run = await node.started()
        place.gateway.dispatcher.cancel(job.call.job_id, "ana", "enough")
        await node.ended(job)
        assert run.cancelled
        assert place.gateway.kept(job).state is JobState.CANCELLED

    @awaiting
    async def test_a_person_is_asked(self, place: Place) -> None:
        """The gateway knows that somebody at the device must say yes, and that they did."""
        node = place.node()
        await node.connect()
        job = node.submit(capability="test.ask")
        await place.until(lambda: place.gateway.kept(job).state is JobState.AWAITING)
        ((_, asked),) = node.mediator.asked
        asked.callback(Answer("once", "ana"))
        run = await node.started()
        await place.until(lambda: place.gateway.kept(job).state is JobState.DISPATCHED)
        run.finish()
        await node.ended(job)
        assert place.gateway.kept(job).state is JobState.SUCCEEDED

    @awaiting
    async def test_progress_over_a_slow_link(self, place: Place) -> None:
        """Only the last word is sent when the link takes something again; nothing piles up."""
        node = place.node()
        connected = await node.connect()
        jobs = [node.submit() for _ in range(RUNNING)]
        await node.started(RUNNING)
        place.carriers.stall()
        for number in range(1, UPDATES + 1):
            for job in jobs:
                said = Progress(attempt_of(job), number / UPDATES, "x" * 1_000)
                connected.session.progress(said)
            await turns(1, 0)
        place.carriers.flow()
        known = place.gateway.dispatcher.progress_of
        last = [Progress(attempt_of(job), 1.0, "x" * 1_000) for job in jobs]
        await place.until(lambda: [known(job.call.job_id) for job in jobs] == last)
        assert place.watcher.heard < RUNNING * UPDATES / 2
        for run in node.hands.runs:
            run.finish()
        await node.ended(*jobs)
