"""What a paired device that misbehaves can do to the gateway: nothing to others."""

from __future__ import annotations

import pytest

from palyra.config.jobs import JobsSection
from palyra.core.frames import NodeEvent, Waiting
from palyra.core.identifiers import AttemptId
from palyra.core.jobs import JobState, Outcome, Report
from palyra.errors import LimitReached, PayloadTooLarge
from palyra.gateway.intake import VERSION_ONE_PAYLOAD
from palyra.gateway.sessions import MAX_REGISTRATIONS, REGISTRATIONS_PER_S
from tests.gateway.house import House, attempt_of, result_of

FORGED = b'1,"success":true,"device_id":"01FORGED00000000000000000A"'


@pytest.mark.parametrize("output", [FORGED, b"", b"\xff", b'{"a":', b"[" * 50_000])
def test_output_that_is_no_json_never_reaches_an_operator(house: House, output: bytes) -> None:
    """Output is embedded in answers: what is not one JSON value fails the job instead."""
    device, node = house.online()
    job = house.submit(device)
    node.take()
    node.finish(attempt_of(job), output_json=output)
    kept = house.kept(job)
    assert (kept.state, kept.error_code) == (JobState.FAILED, "output_invalid")
    assert not kept.output_json


def test_a_deadline_is_not_moved_by_repeating_a_question(house: House) -> None:
    """A node may say once that a person is asked, and only of a capability that asks."""
    device, node = house.online()
    job = house.submit(device)
    node.take()
    deadline_ms = job.deadline_ms
    asks = tuple(Waiting(attempt_of(job), False, 3_600_000) for _ in range(500))
    node.say(NodeEvent("", waiting=asks))
    assert (job.state, job.deadline_ms) == (JobState.DISPATCHED, deadline_ms)


def test_invented_reports_wait_for_each_other(house: House) -> None:
    """Reports on attempts that nobody made are looked up one by one, and then acknowledged."""
    device, node = house.online()
    node.take()
    for number in range(20):
        report = Report(AttemptId(f"invented-{number}"), Outcome.SUCCEEDED, b"1")
        node.say(NodeEvent("", reports=(report,)))
    house.pass_time(0.1)
    assert len(node.take().acknowledged) == 20
    assert result_of(house.store.job_of_attempt("invented-1")) is None
    assert house.submit(device).state is JobState.DISPATCHED


def test_many_large_dispatches_are_several_messages(house: House) -> None:
    """Dispatches that would make one message too large go out one after the other."""
    device, node = house.online()
    inputs = b'"' + b"x" * 60_000 + b'"'
    for _ in range(4):
        house.submit(device, input_json=inputs)
    sizes = []
    assert node.session is not None
    while frame := node.session.take_frame():
        sizes.append(len(frame.dispatches))
    assert sizes == [3, 1]


def test_a_host_that_only_registers_is_slowed_down(house: House) -> None:
    """Each registration is a commit; too many in a minute are refused, and later ones are not."""
    device = house.device("pi")
    node = house.node(device)
    for _ in range(MAX_REGISTRATIONS):
        result_of(node.register())
    with pytest.raises(LimitReached):
        result_of(node.register())
    house.pass_time(61)
    result_of(node.register())


def test_a_crowd_is_let_in_as_fast_as_it_can_be(house: House) -> None:
    """Beyond the rate each is told a moment of its own, one after the other; a second later there
    is room again, and whoever had a session keeps it meanwhile."""
    here, node = house.online()
    crowd = [house.node(house.device(f"pi-{number}")) for number in range(REGISTRATIONS_PER_S + 5)]
    waits = []
    for each in crowd:
        try:
            result_of(each.register())
        except LimitReached as refused:
            waits.append(refused.retry_after_s)
    assert len(waits) == 6 and waits == sorted(set(waits)) and 0 < waits[0] < waits[-1] <= 0.02
    assert house.submit(here).state is JobState.DISPATCHED and node.take().dispatches
    house.pass_time(1)
    result_of(crowd[-1].register())


def test_a_version_one_node_takes_a_mebibyte() -> None:
    """A larger input would have to travel in parts, which such a node does not know."""
    house = House(limits=JobsSection(max_payload_bytes=3 * 1024 * 1024))
    device, _ = house.online(extended=False)
    with pytest.raises(PayloadTooLarge):
        house.submit(device, input_json=b'"' + b"x" * VERSION_ONE_PAYLOAD + b'"')
    house.end()
