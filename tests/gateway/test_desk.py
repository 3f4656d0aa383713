"""The desk of paired clients: who may ask what."""

from __future__ import annotations

import attrs
import pytest
from zope.interface.verify import verifyObject

from palyra.core.devices import INVOKE_OTHERS, ClientKind
from palyra.core.frames import Wanted
from palyra.core.identifiers import DeviceId
from palyra.core.jobs import Job, JobState, Outcome
from palyra.errors import (
    CertificateRefused,
    DeviceRevoked,
    IdempotencyConflict,
    JobStillRunning,
    Malformed,
    NotBoundToDevice,
    NotFound,
    PolicyDenied,
)
from palyra.transport.interfaces import INodeDesk
from tests.gateway.enrolling import AUTHORITY, CSR_KEY, HOME, Applicant, Gateway
from tests.gateway.house import attempt_of, result_of


def test_the_desk_is_one(gateway: Gateway) -> None:
    """The desk provides what carriers ask."""
    assert verifyObject(INodeDesk, gateway.node_desk)


def test_admission(gateway: Gateway) -> None:
    """A certificate speaks for its own device, now, and only if it was issued to one here."""
    applicant = Applicant()
    pem = applicant.pair(gateway).certificate_pem.encode()
    peer = gateway.node_desk.admit(pem, applicant.device_id, HOME, "grpc")
    assert (peer.device_id, peer.address, peer.transport) == (applicant.device_id, HOME, "grpc")
    with pytest.raises(NotBoundToDevice):
        gateway.node_desk.admit(pem, Applicant(2).device_id, HOME, "grpc")
    now_ms = gateway.now_ms()
    for stranger in (
        AUTHORITY.issue_operator(CSR_KEY.public_key(), "ana", now_ms).pem,
        AUTHORITY.issue_device(CSR_KEY.public_key(), Applicant(3).device_id, now_ms).pem,
        b"not a certificate",
    ):
        with pytest.raises(CertificateRefused):
            gateway.node_desk.admit(stranger, None, HOME, "grpc")
    gateway.pass_time(86_401)
    with pytest.raises(CertificateRefused):
        gateway.node_desk.admit(pem, None, HOME, "grpc")


def test_only_nodes_register(gateway: Gateway) -> None:
    """A cli identity cannot become a node."""
    client = gateway.device("cli", kind=ClientKind.CLI)
    node = gateway.node(client)
    with pytest.raises(PolicyDenied):
        gateway.node_desk.register(node.peer, node.hello())
    other = gateway.node(gateway.device("pi"))
    welcome = result_of(gateway.node_desk.register(other.peer, other.hello()))
    assert welcome.device_name == "pi"


def test_who_may_run_what_where(gateway: Gateway) -> None:
    """A node runs on itself alone; a client on others only by its grant."""
    device, node = gateway.online()
    run = gateway.node_desk.run
    wanted = Wanted(device.device_id, "echo", b"{}")
    own = run(node.peer, wanted)
    node.take()
    node.finish(next(iter(node.running)))
    job = result_of(own)
    assert job.state is JobState.SUCCEEDED and job.call.requested_by == f"device:{device.device_id}"
    clients = {
        name: gateway.device(name, kind=kind, grants=grants)
        for name, kind, grants in (
            ("plain", ClientKind.CLI, frozenset({"echo"})),
            ("other", ClientKind.NODE, frozenset({INVOKE_OTHERS})),
            ("trusted", ClientKind.DESKTOP, frozenset({INVOKE_OTHERS})),
        )
    }
    for name in ("plain", "other"):
        peer = gateway.peer(clients[name].device_id)
        with pytest.raises(PolicyDenied):
            run(peer, wanted)
    peer = gateway.peer(clients["trusted"].device_id)
    answer = run(peer, wanted)
    node.take()
    node.finish(next(iter(node.running)))
    assert result_of(answer).state is JobState.SUCCEEDED


def test_a_caller_waits_longer_than_the_run_time(gateway: Gateway) -> None:
    """15 seconds more for queues and for a device to come back, and then it is told so."""
    device, node = gateway.online()
    answer = gateway.node_desk.run(
        node.peer, Wanted(device.device_id, "echo", b"1", timeout_ms=60_000)
    )
    node.take()
    node.hang_up()
    gateway.pass_time(74.5)
    assert not answer.called
    gateway.pass_time(1)
    with pytest.raises(JobStillRunning):
        result_of(answer)


def test_a_device_revokes_itself(gateway: Gateway) -> None:
    """It is removed: its trust is gone with its session and its record, and what it had for a
    certificate is refused."""
    applicant = Applicant()
    pem = applicant.pair(gateway).certificate_pem.encode()
    device = gateway.inventory.paired(applicant.device_id)
    node = gateway.node(device)
    result_of(node.connect())
    result_of(gateway.node_desk.revoke_self(node.peer, ""))
    revocation = gateway.inventory.revocation(device.device_id)
    assert revocation is not None and (revocation.by, revocation.removed_by) == ("pi", "pi")
    assert revocation.reason == "the device left" and gateway.inventory.devices() == []
    assert [type(each) for each in node.carrier.closed] == [DeviceRevoked]
    with pytest.raises(DeviceRevoked):
        gateway.node_desk.admit(pem, None, HOME, "grpc")
    with pytest.raises(NotFound):
        gateway.node_desk.revoke_self(node.peer, "")
    stranger = attrs.evolve(node.peer, device_id=DeviceId(Applicant(9).device_id))
    with pytest.raises(Exception, match="No device"):
        gateway.node_desk.revoke_self(stranger, "")


def test_a_caller_follows_and_cancels_its_own_jobs(gateway: Gateway) -> None:
    """Of jobs of others it does not even hear that they exist."""
    device, node = gateway.online()
    other, theirs = gateway.online("other")
    accepted: list[Job] = []
    answer = gateway.node_desk.run(
        node.peer, Wanted(device.device_id, "echo", b"{}"), accepted.append
    )
    (job,) = accepted
    job_id = job.call.job_id
    following = result_of(gateway.node_desk.follow(node.peer, job_id, lambda: None))
    assert [update.job.state for update in following.take()] == [JobState.DISPATCHED]
    node.take()
    asked = result_of(gateway.node_desk.cancel(node.peer, job_id))
    assert asked.cancel_requested_at_ms is not None
    assert asked.cancel_requested_by == asked.call.requested_by
    for ask in (
        lambda: gateway.node_desk.follow(theirs.peer, job_id, lambda: None),
        lambda: gateway.node_desk.cancel(theirs.peer, job_id),
    ):
        with pytest.raises(NotFound):
            result_of(ask())
    with pytest.raises(Malformed):
        result_of(gateway.node_desk.cancel(node.peer, "short"))
    node.take()
    node.finish(attempt_of(job), Outcome.CANCELLED)
    assert result_of(answer).state is JobState.CANCELLED
    assert [update.job.state for update in following.take()] == [JobState.CANCELLED]
    assert following.finished and other.name == "other"


def test_a_caller_repeats_a_call_with_its_key(gateway: Gateway) -> None:
    """It is made once, and both are answered; another client's key is another key."""
    device, node = gateway.online()
    wanted = Wanted(device.device_id, "echo", b"{}", ttl_ms=60_000, idempotency_key="k")
    accepted: list[Job] = []
    answers = [gateway.node_desk.run(node.peer, wanted, accepted.append) for _ in range(2)]
    node.take()
    assert len(node.running) == 1 and len({job.call.job_id for job in accepted}) == 1
    node.finish(next(iter(node.running)))
    assert {result_of(answer).state for answer in answers} == {JobState.SUCCEEDED}
    with pytest.raises(IdempotencyConflict):
        result_of(gateway.node_desk.run(node.peer, attrs.evolve(wanted, input_json=b"1")))
