"""Intake by itself: which call is accepted, which may wait and how long, which is refused."""

from __future__ import annotations

from typing import Any, cast

import attrs
import pytest
from twisted.internet.defer import Deferred

from palyra.capability.registry import load_here, own_points
from palyra.config.jobs import JobsSection
from palyra.core.devices import Device, DeviceChange
from palyra.core.identifiers import DeviceId, short_id
from palyra.core.policy import Effect, Rule, Rules
from palyra.errors import (
    CapabilityDisabled,
    CapabilityNotGranted,
    CapabilityUnknown,
    DeviceRevoked,
    InputInvalid,
    Malformed,
    NotFound,
    PayloadTooLarge,
)
from palyra.gateway.intake import START_GRACE_MS, VERSION_ONE_PAYLOAD, Intake, check_carried
from palyra.gateway.nodesession import NodeSession
from palyra.gateway.orders import Ask, client
from palyra.gateway.presence import LINGER_MS
from tests.gateway.described import a_descriptor, announced
from tests.gateway.house import House, result_of
from tests.store.samples import ulid

ASK = Ask(capability="echo", input_json=b"{}", requested_by="ana")


def revoke(house: House, device: Device) -> None:
    """The device's trust is taken away, as the inventory knows it."""
    revocation = result_of(house.store.revoke(device.device_id, "ana", "stolen", house.now_ms()))
    kept = result_of(house.store.device(device.device_id))
    assert kept is not None
    house.inventory.put(kept)
    house.inventory.revoke(revocation)


# -- jobs ---------------------------------------------------------------------------------------


def test_the_job_of_an_order(house: House) -> None:
    """What was asked with the defaults of capability and configuration; each has its own id."""
    device = house.device()
    jobs = [house.intake.job_for(house.order(device, "slow")).job for _ in range(2)]
    call = jobs[0].call
    assert (call.device_id, call.device_name, call.capability) == (device.device_id, "pi", "slow")
    assert (call.submitted_at_ms, call.run_timeout_ms) == (house.now_ms(), 5_000)
    assert call.max_payload_bytes == house.limits.max_payload_bytes
    assert call.queue_expires_at_ms is None and len({job.call.job_id for job in jobs}) == 2
    waits = house.intake.job_for(house.order(device, ttl_ms=9_000, timeout_ms=2_000)).job.call
    assert waits.queue_expires_at_ms == house.now_ms() + 9_000 and waits.run_timeout_ms == 2_000


def test_orders_that_make_no_job(house: House) -> None:
    """An unknown or revoked device, a capability that may not be used, a wrong input or limit."""
    device, gone = house.device(grants=frozenset({"echo", "broken"})), house.device("gone")
    revoke(house, gone)
    nobody = attrs.evolve(house.order(device), device_id=DeviceId(ulid("nobody")))
    for order, error in (
        (nobody, NotFound),
        (house.order(gone), DeviceRevoked),
        (house.order(device, "ecoh"), CapabilityUnknown),
        (house.order(device, "safe"), CapabilityNotGranted),
        (house.order(device, "broken"), CapabilityDisabled),
        (house.order(device, input_json=b"{"), InputInvalid),
        (house.order(device, timeout_ms=1), Malformed),
    ):
        with pytest.raises(error):
            house.intake.job_for(order)


def test_what_no_device_could_be_asked(house: House) -> None:
    """A call to many is refused as a whole for its input or a limit."""
    house.intake.check(ASK)
    for changes, error in (({"input_json": b"{"}, InputInvalid), ({"ttl_ms": 0}, Malformed)):
        with pytest.raises(error):
            house.intake.check(attrs.evolve(ASK, **changes))


def test_the_row_of_a_device(house: House) -> None:
    """As the device is now, whatever it was when it was chosen."""
    device = house.device()
    renamed = house.store.change(DeviceChange(device.device_id, name="lab-pi"))
    house.inventory.put(result_of(renamed))
    slow = attrs.evolve(ASK, capability="slow", ttl_ms=1_000)
    job, _, refusal = house.intake.row_for(
        slow, house.intake.check(slow), device, house.now_ms() - 50
    )
    assert refusal is None and job.call.device_name == "lab-pi"
    assert (job.call.run_timeout_ms, job.call.submitted_at_ms) == (5_000, house.now_ms() - 50)
    assert job.call.queue_expires_at_ms == house.now_ms() + 950


def test_the_row_of_a_device_that_cannot(house: House) -> None:
    """It is a row all the same, to be rejected for its own reason."""
    device, gone = house.device(grants=frozenset({"safe"})), house.device("gone")
    revoke(house, gone)
    for target, error in ((device, CapabilityNotGranted), (gone, DeviceRevoked)):
        job, _, refusal = house.intake.row_for(ASK, house.intake.check(ASK), target, house.now_ms())
        assert type(refusal) is error
        assert (job.call.device_name, job.call.capability) == (target.name, "echo")
        assert job.call.run_timeout_ms == house.limits.timeout_s * 1000


def test_a_device_that_was_trusted(house: House) -> None:
    """A call that was accepted is looked at again: its device may be revoked by then."""
    device = house.device()
    call = house.intake.job_for(house.order(device)).job.call
    house.intake.check_device(call)
    revoke(house, device)
    with pytest.raises(DeviceRevoked):
        house.intake.check_device(call)


# -- what a capability's own schema says ----------------------------------------------------------

LAMP = a_descriptor()
LONG = b'{"a":1,"path":"%b"}' % (b"x" * 30)
DIM = Ask(capability=LAMP.name, input_json=b'{"path":"/a"}', requested_by="ana")


def lamp(house: House, name: str = "pi", *, described: bool = True, **changes: Any) -> Device:
    """A device with a capability of somebody else's, which the gateway has been told of."""
    device = house.device(name, (announced(LAMP),), **changes)
    if described:
        data = LAMP.encode()
        digest, said = house.descriptors.check(device, data)
        kept = house.descriptors.keep({digest: (data, said)}, house.now_ms())
        result_of(Deferred.fromCoroutine(kept))
    return device


def test_an_input_that_the_schema_does_not_allow(house: House) -> None:
    """Every field that is wrong, before anything is written; where to read what is right."""
    device = lamp(house)
    house.intake.job_for(house.order(device, LAMP.name, input_json=DIM.input_json))
    with pytest.raises(InputInvalid) as caught:
        house.intake.job_for(house.order(device, LAMP.name, input_json=LONG))
    assert caught.value.each == (
        ("input.path", "must have at most 20 characters"),
        ("input.a", "is not a known field"),
    )
    assert caught.value.sentence == (
        "input.path: must have at most 20 characters.\ninput.a: is not a known field."
    )
    assert caught.value.hint == f"on pi: palyra capability show {LAMP.name}"


def test_our_own_capabilities_have_schemas_too(house: House) -> None:
    """Nobody describes them; they come with every installation."""
    offer = next(each for each in load_here(own_points())[0] if each.name == "desktop.open_url")
    device = house.device(capabilities=(announced(offer.descriptor),))
    with pytest.raises(InputInvalid) as caught:
        house.intake.job_for(house.order(device, offer.name))
    assert caught.value.each == (("input.url", "is required"),)
    assert caught.value.hint == "palyra capability show desktop.open_url"


def test_what_is_not_described_is_left_to_the_device(house: House) -> None:
    """It decodes its input itself."""
    device = lamp(house, described=False)
    assert house.intake.job_for(house.order(device, LAMP.name)).job.call.input_json == b"{}"


def test_a_capability_that_may_not_be_used_says_nothing_of_its_input(house: House) -> None:
    """Who may not call it learns that, and not what it takes."""
    with pytest.raises(CapabilityNotGranted):
        house.intake.job_for(house.order(lamp(house, grants=frozenset()), LAMP.name))


def test_nobody_is_asked_about_a_wrong_input() -> None:
    """Rules hear of calls that could be made; an input that is wrong is refused before."""
    house = House(rules=Rules((Rule(rule_id="ask", number=1, effect=Effect.ASK),)))
    try:
        device = lamp(house)
        right = house.order(device, LAMP.name, input_json=DIM.input_json)
        assert house.intake.job_for(right).asked
        with pytest.raises(InputInvalid):
            house.intake.job_for(house.order(device, LAMP.name))
    finally:
        house.end()


def test_a_row_with_a_wrong_input(house: House) -> None:
    """One schema is asked once, for however many devices; each row says what is wrong."""
    devices = [lamp(house, f"pi-{number}") for number in range(3)]
    other = lamp(house, "other", described=False)
    wrong = attrs.evolve(DIM, input_json=b'{"path":7}')
    exact = house.intake.check(wrong)
    for device in (*devices, other):
        refusal = house.intake.row_for(wrong, exact, device, house.now_ms()).refusal
        assert isinstance(refusal, InputInvalid)
        assert refusal.each == (("input.path", "expected a text, got a number"),)
    known = house.descriptors.of(devices[0].capabilities[0].digest)
    assert known is not None
    faults = exact.faults(known.digest, known.checker)
    assert exact.faults(known.digest, known.checker) is faults


# -- how long a call waits ------------------------------------------------------------------------


def test_a_call_that_keeps_what_it_has(house: House) -> None:
    """With a session to wait for, or a time to live of its own."""
    device, node = house.online()
    away = house.device("away")
    call = house.intake.job_for(house.order(device)).job.call
    assert house.intake.waiting(call, node.session) is call
    patient = house.intake.job_for(house.order(away, ttl_ms=5)).job.call
    assert house.intake.waiting(patient, None) is patient


@pytest.mark.parametrize(("capability", "wait_ms"), [("echo", LINGER_MS), ("slow", 5_000)])
def test_a_device_that_has_just_gone(house: House, capability: str, wait_ms: int) -> None:
    """A call waits for it as long as for a connection that flaps, or as long as it may run."""
    device, node = house.online()
    node.disconnect()
    house.pass_time(2)
    call = house.intake.job_for(house.order(device, capability)).job.call
    waits = house.intake.waiting(call, None)
    assert waits == attrs.evolve(call, queue_expires_at_ms=house.now_ms() + wait_ms)
    house.pass_time(9)
    assert house.intake.waiting(call, None) is None


def test_a_device_that_was_never_here(house: House) -> None:
    """Nobody waits for it, at the start of a gateway as little as later."""
    call = house.intake.job_for(house.order(house.device())).job.call
    assert house.intake.waiting(call, None) is None
    house.restart()
    assert house.intake.waiting(call, None) is None
    stranger = attrs.evolve(call, device_id=DeviceId(ulid("nobody")))
    assert house.intake.waiting(stranger, None) is None


def test_the_start_of_a_gateway() -> None:
    """Devices that were here before it are waited for, until they were back once."""
    house = House()
    device, node = house.online()
    call = house.intake.job_for(house.order(device)).job.call
    result_of(house.store.heard({device.device_id: house.now_ms()}))
    house.restart()
    waits = house.intake.waiting(call, None)
    assert waits is not None and waits.queue_expires_at_ms == house.now_ms() + LINGER_MS
    result_of(node.connect())
    node.disconnect()
    house.pass_time(LINGER_MS / 1000 + 1)
    assert house.now_ms() < house.intake.grace_ends_ms
    assert house.intake.waiting(call, None) is None
    house.restart()
    house.pass_time((house.intake.grace_ends_ms - house.now_ms()) / 1000)
    assert house.intake.waiting(call, None) is None
    house.end()


@pytest.mark.parametrize(("ago_ms", "waits"), [(START_GRACE_MS - 1, True), (START_GRACE_MS, False)])
def test_who_was_here_before_the_start(house: House, ago_ms: int, waits: bool) -> None:
    """A device that was away for longer by then is not on its way back."""
    device = house.device()
    result_of(house.store.heard({device.device_id: house.now_ms() - ago_ms}))
    house.restart()
    call = house.intake.job_for(house.order(device)).job.call
    assert (house.intake.waiting(call, None) is not None) is waits


def test_a_row_of_an_earlier_life(house: House) -> None:
    """Its device is waited for as all are that may still be on their way back; then no more."""
    device = house.device()
    call = house.intake.job_for(house.order(device)).job.call
    waiting = house.intake.waiting
    assert waiting(call, None, accepted=True) is None, "it is of this life"
    house.pass_time(1)
    house.restart()
    waiting = house.intake.waiting
    new = house.intake.job_for(house.order(device)).job.call
    assert waiting(new, None, accepted=True) is None, "it is of this life"
    assert waiting(call, None, accepted=True) is call and waiting(call, None) is None
    house.pass_time((house.intake.grace_ends_ms - house.now_ms()) / 1000)
    assert waiting(call, None, accepted=True) is None


def test_who_asks(house: House) -> None:
    """The person at the device reads a client's name as it is now, or an operator's."""
    device, asking = house.device(), house.device("asking")
    for by, shown in (
        ("ana", "ana"),
        (client(asking.device_id), "asking ("),
        ("device:x", "a dev"),
    ):
        call = house.intake.job_for(house.order(device, requested_by=by)).job.call
        assert house.intake.shown_caller(call).startswith(shown)
    house.inventory.put(result_of(house.store.change(DeviceChange(asking.device_id, name="new"))))
    call = attrs.evolve(call, requested_by=client(asking.device_id))
    assert house.intake.shown_caller(call) == f"new ({short_id(asking.device_id)})"


def test_a_program_asks(house: House) -> None:
    """An operator that is a program is named as one: nobody takes it for a person."""
    house.intake.is_program = lambda operator_id: operator_id == "P"
    call = house.intake.job_for(house.order(house.device(), requested_by="agent-claude")).job.call
    assert house.intake.shown_caller(call) == "agent-claude"
    call = attrs.evolve(call, operator_id="P")
    assert house.intake.shown_caller(call) == "agent-claude (operator)"


def test_patience(house: House) -> None:
    """Ten seconds for a device that just went; in the grace of a start, to its end."""
    assert house.intake.end_of_patience() == house.now_ms() + LINGER_MS
    house.restart()
    begun_ms = house.now_ms()
    grace_ms = house.intake.grace_ends_ms - begun_ms
    assert grace_ms > LINGER_MS and house.intake.end_of_patience() == begun_ms + grace_ms
    house.pass_time((grace_ms - 1_000) / 1000)
    assert house.intake.end_of_patience() == house.now_ms() + LINGER_MS


# -- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "heard"),
    [
        (0, "0s ago"),
        (-5, "0s ago"),
        (59.9, "59s ago"),
        (60, "1m ago"),
        (3_599, "59m ago"),
        (3_600, "1h ago"),
        (86_399, "23h ago"),
        (86_400, "1d ago"),
        (200_000, "2d ago"),
    ],
)
def test_when_it_was_last_heard(house: House, seconds: float, heard: str) -> None:
    """A refusal says so as people read it, from the store where this gateway never heard it."""
    device = house.device()
    call = house.intake.job_for(house.order(device)).job.call
    heard_ms = house.now_ms() - round(seconds * 1000)
    house.inventory.put(attrs.evolve(device, last_heard_ms=heard_ms))
    refusal = house.intake.offline(call)
    assert (refusal.name, refusal.heard, refusal.job_id) == ("pi", heard, call.job_id)


def test_what_this_gateway_heard_counts_first(house: House) -> None:
    """The store may be minutes behind; a device that was never heard says nothing."""
    device, node = house.online()
    call = house.intake.job_for(house.order(device)).job.call
    node.disconnect()
    house.pass_time(30)
    house.inventory.put(attrs.evolve(device, last_heard_ms=house.now_ms() - 300_000))
    assert house.intake.offline(call).heard == "30s ago"
    silent = house.intake.job_for(house.order(house.device("silent"))).job.call
    assert house.intake.offline(silent).heard == ""
    assert house.intake.offline(attrs.evolve(silent, device_id=DeviceId("x"))).heard == ""


@attrs.frozen
class Session:
    """As much of a session as matters here."""

    takes_pieces: bool


def test_version_one_carries_a_megabyte() -> None:
    """To such a node not a byte more; to another, or while none is there, it may be."""
    house = House(limits=JobsSection(max_payload_bytes=2 * VERSION_ONE_PAYLOAD))
    device = house.device()
    intake: Intake = house.intake
    old, new = (cast(NodeSession, Session(extended)) for extended in (False, True))
    for length, fits in ((VERSION_ONE_PAYLOAD, True), (VERSION_ONE_PAYLOAD + 1, False)):
        data = b'"' + b"x" * (length - 2) + b'"'
        call = intake.job_for(house.order(device, input_json=data)).job.call
        check_carried(call, new)
        check_carried(call, None)
        if fits:
            check_carried(call, old)
        else:
            with pytest.raises(PayloadTooLarge):
                check_carried(call, old)
    house.end()
