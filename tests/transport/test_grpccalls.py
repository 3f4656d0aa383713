"""Calls of paired clients over real sockets: one job, many on a stream, following, cancelling."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import attrs
import grpc
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, fail

from palyra.core.frames import JobUpdate, Progress, Wanted
from palyra.core.identifiers import AttemptId, DeviceId, JobId
from palyra.core.jobs import Job, JobState
from palyra.errors import (
    DeviceOffline,
    DeviceRevoked,
    Draining,
    GatewayUnreachable,
    JobFinal,
    LimitReached,
    NotFound,
    PolicyDenied,
    RemoteRefusal,
    TookTooLong,
)
from palyra.transport import grpccalls
from palyra.transport.asyncbridge import as_deferred, as_future
from palyra.transport.grpccaller import Caller, refusal
from palyra.transport.grpcserver import NodeServicer
from palyra.transport.interfaces import IJobFollowing
from palyra.wire import calls as wire
from palyra.wire.calls import Answer, Executed, Followed, Submission
from palyra.wire.service import NodeServiceStub, messages
from tests.core.jobs import a_call
from tests.transport.desks import FakeDesk
from tests.transport.serving import AUTHORITY, DEVICE, channel, device_pair, serve

JOB = JobId("01M80NKQCNT6MW3K2ZT9B3FVHD")
WANTED = Wanted(DEVICE, "echo", b"{}")
S = grpc.StatusCode


def a_job(state: JobState = JobState.SUCCEEDED, output: bytes = b"[1]") -> Job:
    return Job(attrs.evolve(a_call(), job_id=JOB), state, output_json=output)


class House:
    """A listener with a desk behind it, and a caller."""

    def __init__(self, desk: FakeDesk, caller: Caller, patch: pytest.MonkeyPatch) -> None:
        self.desk = desk
        self.patch = patch
        self.caller = caller
        self.raw: Any = None

    async def running(self, count: int) -> None:
        """Until so many jobs run: each round trip lets the gateway read on."""
        while len(self.desk.running) < count:
            await self.round_trip()

    async def round_trip(self) -> None:
        with contextlib.suppress(RemoteRefusal):
            await self.caller.cancel("nonsense")

    async def submit(self, *submissions: Submission) -> AsyncGenerator[Answer, None]:
        """Answers to a few requests, on a stream that stays open."""

        async def given() -> AsyncIterator[Submission]:
            for submission in submissions:
                yield submission
            await asyncio.Event().wait()

        async for answer in self.caller.submit_many(given()):
            yield answer

    async def stream(self) -> Any:
        return await as_future(self.desk.stream_opened.get())

    async def stream_closed(self) -> None:
        await as_future(self.desk.stream_closed.get())


def over_loopback(
    test: Callable[[House], Coroutine[Any, Any, None]],
) -> Callable[[pytest.MonkeyPatch], Deferred[None]]:
    """Run a test, a coroutine of asyncio's, with a house of its own."""

    async def run(monkeypatch: pytest.MonkeyPatch) -> None:
        desk = FakeDesk()
        servicer = NodeServicer(desk, random.Random(5).randbytes, lambda: 1_800_000_000_000)
        listener = await serve(monkeypatch, servicer, mutual=True)

        async def with_caller() -> None:
            async with (
                Caller(listener.address, AUTHORITY.ca_pem, device_pair()) as caller,
                channel(listener.address, device_pair()) as raw,
            ):
                house = House(desk, caller, monkeypatch)
                house.raw = NodeServiceStub(raw)
                await asyncio.wait_for(test(house), 30)

        try:
            await as_deferred(with_caller())
        finally:
            await listener.stop(0)

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    decorated: Callable[[pytest.MonkeyPatch], Deferred[None]] = pytest_twisted.ensureDeferred(run)
    return decorated


async def refused(asked: Awaitable[Any]) -> RemoteRefusal:
    with pytest.raises(RemoteRefusal) as caught:
        await asked
    return caught.value


# -- one job --------------------------------------------------------------------------------------


@over_loopback
async def test_execute(house: House) -> None:
    """The whole call arrives, and the job comes back as it ended."""
    house.desk.answer = a_job()
    wanted = Wanted(DEVICE, "echo", b'"hi"', 70_000, 2_000, 3_600_000, "monday")
    done = await house.caller.execute(wanted)
    assert done == Executed(JOB, JobState.SUCCEEDED, b"[1]") and done.success
    assert house.desk.asked == [wanted]
    house.desk.answer = a_job(JobState.TIMED_OUT)
    assert not (await house.caller.execute(WANTED)).success


@over_loopback
async def test_execute_refused(house: House) -> None:
    """Code, sentence, hint and the time to wait are the gateway's."""
    house.desk.answer = error = LimitReached("waiting jobs", 9, 2.5)
    told = await refused(house.caller.execute(WANTED))
    assert (told.remote_code, told.sentence, told.hint) == (error.code, error.sentence, error.hint)
    assert (told.retry_after_s, told.transient) == (2.5, True)
    told = await refused(house.caller.execute(attrs.evolve(WANTED, device_id=DeviceId("x"))))
    assert told.remote_code == "malformed_id"


@over_loopback
async def test_a_caller_revoked_while_it_waits(house: House) -> None:
    """It does not get the answer any more."""
    answer = asyncio.ensure_future(house.caller.execute(WANTED))
    await house.running(1)

    def refuse(*_: object) -> Any:
        raise DeviceRevoked("pi")

    house.patch.setattr(house.desk, "admit", refuse)
    house.desk.running[0].callback(a_job())
    assert (await refused(answer)).final


@over_loopback
async def test_a_caller_revoked_before_its_job_ends(house: House) -> None:
    """The desk ends the waiting, and the call is over then, whenever the job ends."""
    answer = asyncio.ensure_future(house.caller.execute(WANTED))
    await house.running(1)
    house.desk.running[0].errback(DeviceRevoked("pi", reason="lost"))
    told = await refused(answer)
    assert (told.remote_code, told.final) == (DeviceRevoked.code, True)
    raw = asyncio.ensure_future(house.raw.ExecuteCapability(wire.write_call(WANTED)).code())
    await house.running(2)
    house.desk.running[1].errback(DeviceRevoked("pi"))
    assert await raw is S.PERMISSION_DENIED


@over_loopback
async def test_a_caller_out_of_patience(house: House) -> None:
    """It is told so; nobody waits for the job any more, and the job goes on."""
    with pytest.raises(TookTooLong, match="echo did not end"):
        await house.caller.execute(WANTED, 0.2)
    while not house.desk.let_go:
        await house.round_trip()
    assert house.desk.let_go == [WANTED]


@over_loopback
async def test_a_deadline_of_grpc(house: House) -> None:
    """The same for a caller that sends a deadline along."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await house.raw.ExecuteCapability(wire.write_call(WANTED), timeout=0.2)
    assert caught.value.code() is S.DEADLINE_EXCEEDED
    while not house.desk.let_go:
        await house.round_trip()


@over_loopback
async def test_cancel(house: House) -> None:
    """The answer is the state after it; what comes too late is refused."""
    house.desk.answer = a_job(JobState.CANCELLED)
    assert await house.caller.cancel(JOB) is JobState.CANCELLED
    assert house.desk.asked == [JOB]
    house.desk.answer = JobFinal(JOB, "succeeded")
    assert (await refused(house.caller.cancel(JOB))).remote_code == "job_final"
    assert (await refused(house.caller.cancel("nonsense"))).remote_code == "malformed_id"


@over_loopback
async def test_a_gateway_that_is_gone(house: House) -> None:
    """It cannot be reached; a caller may be closed again and again."""
    await house.caller.close()
    await house.caller.close()
    gone = Caller(house.caller.address.with_port(1), AUTHORITY.ca_pem, device_pair())
    with pytest.raises(GatewayUnreachable):
        await gone.cancel(JOB)
    await gone.close()


# -- many jobs ------------------------------------------------------------------------------------


@over_loopback
async def test_answers_come_as_jobs_end(house: House) -> None:
    """Whatever the order of the requests; what is accepted is said first, to who wants to know."""
    answers = house.submit(*(Submission(tag, WANTED, tag == 2) for tag in (1, 2, 3)))
    first = asyncio.ensure_future(anext(answers))
    await house.running(3)
    assert [accepted is not None for accepted in house.desk.accepted] == [False, True, False]
    house.desk.accepted[1](a_job(JobState.QUEUED, b""))
    assert await first == Answer(2, False, Executed(JOB, JobState.QUEUED))
    for tag in (3, 1, 2):
        house.desk.running[tag - 1].callback(a_job(output=b"%d" % tag))
    got = [await anext(answers) for _ in range(3)]
    assert got == [
        Answer(tag, True, Executed(JOB, JobState.SUCCEEDED, b"%d" % tag)) for tag in (3, 1, 2)
    ]
    await answers.aclose()


@over_loopback
async def test_a_stream_ends_with_its_last_answer(house: House) -> None:
    """Thousands of jobs: each is answered once, and then the stream is over."""
    house.desk.answer = a_job()

    async def given() -> AsyncIterator[Submission]:
        for tag in range(1, 3_001):
            yield Submission(tag, WANTED)

    tags = [answer.tag async for answer in house.caller.submit_many(given())]
    assert sorted(tags) == list(range(1, 3_001))
    await house.stream_closed()
    assert house.desk.streams == []


@over_loopback
async def test_refusals_are_answers(house: House) -> None:
    """A refused or malformed request does not end the stream, however it is refused."""

    def refuse() -> Any:
        return answers_to_give.pop(0)

    offline = DeviceOffline("pi", "", JOB)
    answers_to_give: list[Any] = [offline, LimitReached("jobs", 9, 2.5), a_job()]
    house.desk.answer = refuse
    bad = attrs.evolve(WANTED, device_id=DeviceId("x"))
    wants = (WANTED, bad, WANTED, WANTED)
    answers = house.submit(*(Submission(tag, wanted) for tag, wanted in enumerate(wants, 1)))
    first, second, third, fourth = [await anext(answers) for _ in range(4)]
    assert first == Answer(
        1, True, refused=wire.Refused(offline.code, offline.sentence, offline.hint, 0, JOB)
    )
    assert second.refused is not None and second.refused.code == "malformed_id"
    assert third.refused is not None and third.refused.retry_after_ms == 2_500
    assert fourth.executed is not None and fourth.executed.success
    error = refusal(third.refused)
    assert (error.retry_after_s, error.transient, error.final) == (2.5, True, False)
    assert refusal(wire.Refused("device_revoked", "")).final
    await answers.aclose()


@over_loopback
async def test_a_desk_that_raises(house: House) -> None:
    """Refusing at once is no different; a bug is an internal failure of that one request."""

    def policy() -> Any:
        raise PolicyDenied("pi", "run on other devices", "it is a node")

    house.desk.answer = policy
    answers = house.submit(Submission(1, WANTED))
    answer = await anext(answers)
    assert answer.refused is not None and answer.refused.code == "policy_denied"
    await answers.aclose()
    house.desk.answer = None
    answers = house.submit(Submission(1, WANTED))
    first = asyncio.ensure_future(anext(answers))
    await house.running(1)
    house.desk.running[0].errback(ValueError("a bug"))
    answer = await first
    assert answer.refused is not None and answer.refused.code == "internal"
    await answers.aclose()


@over_loopback
async def test_a_caller_that_takes_one_answer_a_message(house: House) -> None:
    """It never said that it takes more, and gets none it would not see."""
    house.desk.answer = a_job()
    stream = house.raw.SubmitJobs()
    for tag in range(1, 21):
        request = wire.write_submissions([Submission(tag, WANTED)])
        request.takes_more = False
        await stream.write(request)
    await stream.done_writing()
    got = [message async for message in stream]
    assert [message.tag for message in got] == list(range(1, 21))
    assert not any(message.more for message in got)


@over_loopback
async def test_a_request_without_a_tag(house: House) -> None:
    """Nothing could say what it was: the stream ends, in a last word and in its status."""
    stream = house.raw.SubmitJobs()
    await stream.write(messages.SubmitJobRequest(v=1))
    last = await stream.read()
    assert (last.tag, last.final, last.refusal_code) == (0, True, "malformed")
    assert await stream.code() is S.INVALID_ARGUMENT


@over_loopback
async def test_back_pressure(house: House) -> None:
    """With so many jobs unanswered, or so many bytes, the stream is not read until one is."""
    for name, limit in (("MAX_UNANSWERED", 4), ("MAX_UNANSWERED_BYTES", 260_000)):
        running = house.desk.running = []
        with house.patch.context() as patch:
            patch.setattr(grpccalls, name, limit)
            stream = house.raw.SubmitJobs()
            for tag in range(1, 11):
                await stream.write(wire.write_submissions([Submission(tag, WANTED)]))
            await house.running(4)
            for _ in range(5):
                await house.round_trip()
            assert len(running) == 4
            running[0].callback(a_job())
            assert (await stream.read()).tag == 1
            await house.running(5)
            await house.round_trip()
            assert len(running) == 5
            stream.cancel()
            await house.stream_closed()


@over_loopback
async def test_large_answers_share_no_message(house: House) -> None:
    """Each may be 3 MiB, and a message must stay below 4."""
    house.desk.answer = a_job(output=b"1" * (3 * 1024 * 1024))
    answers = house.submit(*(Submission(tag, WANTED) for tag in (1, 2, 3)))
    assert [(await anext(answers)).tag for _ in range(3)] == [1, 2, 3]
    await answers.aclose()


@over_loopback
async def test_a_caller_that_goes_away(house: House) -> None:
    """Nobody waits for its jobs any more; they go on."""
    answers = house.submit(Submission(1, WANTED), Submission(2, WANTED))
    first = asyncio.ensure_future(anext(answers))
    await house.running(2)
    first.cancel()
    await house.stream_closed()
    while len(house.desk.let_go) < 2:
        await house.round_trip()
    await asyncio.gather(first, return_exceptions=True)


@over_loopback
async def test_a_caller_that_goes_away_in_the_middle(house: House) -> None:
    """An answer that is half written then is no failure of the gateway's."""
    house.desk.answer = a_job(output=b"1" * 1_000_000)
    stream = house.raw.SubmitJobs()
    await stream.write(wire.write_submissions([Submission(tag, WANTED) for tag in range(1, 50)]))
    while len(house.desk.asked) < 49:
        await house.round_trip()
    with house.patch.context() as patch:
        failures: list[object] = []
        patch.setattr(logging.getLogger("grpc._cython.cygrpc"), "handle", failures.append)
        stream.cancel()
        await house.stream_closed()
        await house.round_trip()
    assert failures == []


@over_loopback
async def test_what_cannot_be_submitted(house: House) -> None:
    """What the caller's own iterator raises is raised where the answers are read."""

    async def given() -> AsyncIterator[Submission]:
        yield Submission(1, WANTED)
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        async for _ in house.caller.submit_many(given()):
            raise AssertionError("nothing was answered")


@over_loopback
async def test_a_stream_that_may_not_be(house: House) -> None:
    """The desk has a bound for them, too."""
    house.desk.refusal = LimitReached("streams", 256)
    told = await refused(anext(house.submit(Submission(1, WANTED))))
    assert told.remote_code == "limit_reached" and house.desk.asked == []


# -- trust that ends, a gateway that stops --------------------------------------------------------


@over_loopback
async def test_a_revoked_caller(house: House) -> None:
    """Its stream ends with the reason, without the answers that it had not got yet."""
    answers = house.submit(Submission(1, WANTED), Submission(2, WANTED))
    first = asyncio.ensure_future(anext(answers))
    stream = await house.stream()
    await house.running(2)
    house.desk.running[0].callback(a_job())
    stream.close(DeviceRevoked("pi", reason="lost"))
    stream.close(Draining())
    house.desk.running[1].callback(a_job())
    told = await refused(first)
    assert (told.remote_code, told.final) == ("device_revoked", True)
    assert "lost" in told.sentence
    await house.stream_closed()


@over_loopback
async def test_a_revoked_caller_that_does_not_read(house: House) -> None:
    """It cannot hold its stream open by leaving a message half written."""
    house.patch.setattr(grpccalls, "LAST_WRITE_S", 0.05)
    house.desk.answer = a_job(output=b"1" * 1_000_000)
    stream = house.raw.SubmitJobs()
    await stream.write(wire.write_submissions([Submission(tag, WANTED) for tag in range(1, 50)]))
    opened = await house.stream()
    while len(house.desk.asked) < 49:
        await house.round_trip()
    opened.close(DeviceRevoked("pi"))
    await house.stream_closed()
    stream.cancel()


@over_loopback
async def test_a_gateway_that_stops(house: House) -> None:
    """Every job that is left is answered so, then the stream ends with the same word."""
    answers = house.submit(Submission(1, WANTED), Submission(2, WANTED))
    first = asyncio.ensure_future(anext(answers))
    stream = await house.stream()
    await house.running(2)
    for running in house.desk.running:
        running.errback(Draining())
    stream.close(Draining())
    got = [await first, await anext(answers)]
    assert [(each.tag, each.refused and each.refused.code) for each in got] == [
        (1, "draining"),
        (2, "draining"),
    ]
    assert (await refused(anext(answers))).remote_code == "draining"


# -- following ------------------------------------------------------------------------------------


@over_loopback
async def test_follow(house: House) -> None:
    """Its state at once, then what changes, until its end; and then nobody follows."""
    words = house.caller.follow(JOB)
    following = house.desk.following
    following.say(JobUpdate(a_job(JobState.QUEUED)))
    assert await anext(words) == Followed(JOB, JobState.QUEUED)
    following.say(
        JobUpdate(a_job(JobState.DISPATCHED), Progress(AttemptId("a"), 0.5, "half")),
        JobUpdate(a_job(JobState.SUCCEEDED)),
    )
    assert await anext(words) == Followed(JOB, JobState.DISPATCHED, "", 0.5, "half")
    assert await anext(words) == Followed(JOB, JobState.SUCCEEDED, final=True)
    with pytest.raises(StopAsyncIteration):
        await anext(words)
    await house.stream_closed()
    assert (house.desk.asked, following.closes) == ([JOB], 1)


@over_loopback
async def test_what_may_not_be_followed(house: House) -> None:
    """The refusal is the desk's."""
    house.desk.follows_when = fail(NotFound("job", JOB))
    assert (await refused(anext(house.caller.follow(JOB)))).remote_code == "not_found"
    assert (await refused(anext(house.caller.follow("x")))).remote_code == "malformed_id"
    assert house.desk.following.closes == 0


@over_loopback
async def test_a_follower_that_goes_away(house: House) -> None:
    """Nobody follows any more, though nothing was ever said."""
    following = asyncio.ensure_future(anext(house.caller.follow(JOB)))
    await house.stream()
    while not house.desk.asked:
        await house.round_trip()
    following.cancel()
    await as_future(house.desk.following.closed)
    assert house.desk.following.closes == 1


@over_loopback
async def test_a_follower_that_comes_too_late(house: House) -> None:
    """Its caller went away before the desk knew the job: it is closed at once."""
    late: Deferred[IJobFollowing] = Deferred()
    house.desk.follows_when = late
    following = asyncio.ensure_future(anext(house.caller.follow(JOB)))
    await house.stream()
    while JOB not in house.desk.asked:
        await house.round_trip()
    following.cancel()
    await house.stream_closed()
    await asyncio.gather(following, return_exceptions=True)
    await house.round_trip()
    late.callback(house.desk.following)
    assert house.desk.following.closes == 1


@over_loopback
async def test_a_revoked_follower(house: House) -> None:
    """Its stream ends with the reason."""
    words = house.caller.follow(JOB)
    house.desk.following.say(JobUpdate(a_job(JobState.QUEUED)))
    assert (await anext(words)).state is JobState.QUEUED
    (await house.stream()).close(DeviceRevoked("pi"))
    assert (await refused(anext(words))).remote_code == "device_revoked"
    await as_future(house.desk.following.closed)
    assert house.desk.following.closes == 1
