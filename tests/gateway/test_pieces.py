"""Payloads that are too large for one message, as the gateway sends and takes them."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import pytest

from palyra.config.jobs import MAX_PAYLOAD_BYTES, JobsSection
from palyra.core.frames import STARTED, Chunk, NodeEvent
from palyra.core.jobs import JobState, Outcome, Report
from palyra.core.transfers import PIECES_OVER
from palyra.errors import Malformed
from palyra.gateway.intake import VERSION_ONE_PAYLOAD
from palyra.testing.carrier import MemoryCarrier, ScriptedNode
from tests.gateway.house import House, attempt_of, result_of

LARGE = b'"' + b"x" * (2 * PIECES_OVER) + b'"'


@pytest.fixture
def large() -> Iterator[House]:
    """A house whose calls may be as large as calls may be."""
    made = House(limits=JobsSection(max_payload_bytes=MAX_PAYLOAD_BYTES))
    yield made
    made.end()


def take_all(node: ScriptedNode) -> int:
    """Read all that waits; how many messages it were."""
    count = 0
    while node.session is not None and (node.take().chunks or node.carrier.woken):
        node.carrier.woken = 0
        count += 1
    return count


def test_a_large_input_arrives(large: House) -> None:
    """In pieces, with the carrier woken for each, and its output comes back the same way."""
    device, node = large.online()
    job = large.submit(device, input_json=LARGE)
    assert take_all(node) >= 5
    (started,) = node.started
    assert started.input_json == LARGE
    node.finish(attempt_of(job), output_json=LARGE)
    assert (job.state, job.output_json) == (JobState.SUCCEEDED, LARGE)


def test_heartbeats_are_answered_meanwhile(large: House) -> None:
    """A transfer keeps nothing small waiting."""
    device, node = large.online()
    node.take()
    large.submit(device, input_json=LARGE)
    assert node.take().chunks
    node.heartbeat()
    small = large.submit(device)
    frame = node.take()
    assert frame.answers == 1 and frame.chunks
    assert [each.attempt_id for each in frame.dispatches] == [attempt_of(small)]


def test_a_cut_in_the_middle_starts_nothing(large: House) -> None:
    """The node never had the attempt, does not list it, and gets the same one once more."""
    device, node = large.online()
    job = large.submit(device, input_json=LARGE)
    attempt_id = attempt_of(job)
    node.take()
    node.take()
    node.disconnect()
    result_of(node.connect())
    take_all(node)
    assert [(each.attempt_id, each.input_json) for each in node.started] == [(attempt_id, LARGE)]
    assert (job.attempts, job.state) == (1, JobState.DISPATCHED)


def test_a_report_that_was_cut_is_sent_again(large: House) -> None:
    """What came of it dies with the session; only a whole output ends the job."""
    device, node = large.online()
    job = large.submit(device)
    node.take()
    node.say(NodeEvent("", chunks=(Chunk(1, 0, b'"x'),)))
    session, node.session = node.session, None
    node.finish(attempt_of(job), output_json=LARGE)
    node.session = session
    node.disconnect()
    assert job.state is JobState.DISPATCHED
    result_of(node.connect())
    assert (job.state, job.output_json) == (JobState.SUCCEEDED, LARGE)


def test_a_cancel_waits_for_its_dispatch(large: House) -> None:
    """A node that was told to stop what it does not know would run it for nobody."""
    device, node = large.online()
    job = large.submit(device, input_json=LARGE)
    node.take()
    large.dispatcher.cancel(job.call.job_id)
    while not node.started:
        node.take()
        assert not node.cancels
    take_all(node)
    assert [each[0] for each in node.cancels] == [attempt_of(job)]


def test_what_waited_says_what_time_is_left(large: House) -> None:
    """The run time of an attempt goes on while its input is on its way."""
    device, node = large.online()
    large.submit(device, input_json=LARGE, timeout_ms=20_000)
    node.take()
    large.clock.advance(3)
    take_all(node)
    assert node.started[0].remaining_ms == 17_000


def test_an_output_beyond_the_limit_of_its_job() -> None:
    """It ends the job and not the session, whichever way it came."""
    house = House(limits=JobsSection(max_payload_bytes=PIECES_OVER))
    device, node = house.online()
    job = house.submit(device)
    node.take()
    node.finish(attempt_of(job), output_json=LARGE)
    assert (job.state, job.error_code) == (JobState.FAILED, "payload_too_large")
    assert node.carrier.closed == []
    house.end()


BROKEN = [
    NodeEvent("", chunks=(Chunk(1, 3, b"x"),)),
    NodeEvent("", chunks=tuple(Chunk(each, 0, b"x") for each in range(1, 6))),
    NodeEvent("", transferred=((Report("a", Outcome.SUCCEEDED), 9),)),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("event", BROKEN)
def test_a_node_that_breaks_the_rules(house: House, event: NodeEvent) -> None:
    """Its session ends with the sentence, and nothing that it says afterwards counts."""
    device, node = house.online()
    job = house.submit(device)
    node.take()
    session = node.session
    assert session is not None
    node.say(event)
    (error,) = node.carrier.closed
    assert isinstance(error, Malformed) and error.field.startswith("chunks.")
    assert house.sessions.owner(device.device_id) is None and not session.live
    session.received(NodeEvent("", reports=(Report(attempt_of(job), Outcome.SUCCEEDED, b"1"),)))
    assert job.state is JobState.DISPATCHED


def test_the_first_word_breaks_the_rules(house: House) -> None:
    """No session is left behind."""
    device = house.device()
    node = house.node(device)
    welcome = result_of(node.register())
    carrier = MemoryCarrier()
    first = attrs.evolve(BROKEN[0], name=STARTED, session_epoch=welcome.session_epoch)
    house.sessions.attach(node.peer, first, carrier)
    assert isinstance(carrier.closed[0], Malformed)
    assert house.sessions.count() == 0


# -- version 1 ------------------------------------------------------------------------------------


def test_a_version_one_node_gets_it_whole(large: House) -> None:
    """Up to a mebibyte, and is told that it may answer with no more than that."""
    device, node = large.online(extended=False)
    large.submit(device, input_json=LARGE)
    (dispatch,) = node.take().dispatches
    assert dispatch.input_json == LARGE
    assert dispatch.max_payload_bytes == VERSION_ONE_PAYLOAD


def test_what_waited_for_a_version_one_node(large: House) -> None:
    """An input that such a node cannot take is refused when it turns out to be one, not sent."""
    device = large.device()
    job = large.submit(device, input_json=b'"' + b"x" * VERSION_ONE_PAYLOAD + b'"', ttl_ms=60_000)
    small = large.submit(device, ttl_ms=60_000)
    node = large.node(device, extended=False)
    result_of(node.connect())
    assert (job.state, job.error_code) == (JobState.REJECTED, "payload_too_large")
    assert not job.effect_possible
    assert [each.attempt_id for each in node.take().dispatches] == [attempt_of(small)]
