"""Certificates at the node listener: of others, of other times, of other makers, and stolen."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from cryptography import x509

from palyra.console.models import Decision, PairingAnswer, Remove, RemoveAnswer
from tests.adversarial import forging
from tests.adversarial.device import Device
from tests.adversarial.forging import CLIENT, DAY, HOUR, SERVER, Signer, fresh_key, now, pem_of
from tests.adversarial.house import Gateway
from tests.adversarial.wire import CALL_S, Key, Refusal, grpc, messages, refusal_of, ulid
from tests.integration.processes import eventually

NO_HANDSHAKE = "UNAVAILABLE"
"""What a client sees that does not get through the TLS handshake."""


@pytest.fixture(scope="module")
def stolen(gateway: Gateway) -> Signer:
    """The gateway's own CA, for certificates that only it could sign."""
    return gateway.authority()


@pytest.fixture(scope="module")
def pi(gateway: Gateway) -> Device:
    """A device that is paired."""
    device = Device(gateway, "pi").enrol()
    assert device.register().accepted
    return device


@pytest.fixture
def unmoved(gateway: Gateway, pi: Device) -> Iterator[None]:
    """Nothing is recorded or issued in the test."""
    with gateway.unmoved():
        yield


def calls(device: Device, pem: bytes, key: Key) -> Iterator[Refusal]:
    """How each kind of call of the node listener ends over a certificate."""
    execute = messages.ExecuteCapabilityRequest(v=1, capability="echo", input_json=b"{}")
    execute.device_id.ulid = device.device_id
    revoke = messages.RevokeDevicePairingRequest(v=1)
    revoke.device_id.ulid = device.device_id
    submit = messages.SubmitJobRequest(v=1, tag=1, call=execute)
    follow = messages.FollowJobRequest(v=1, job_id=ulid())
    with device.node_rpc(pem, key) as stub:
        made: list[Callable[[], object]] = [
            lambda: stub.RegisterNode(device.hello(), timeout=CALL_S),
            lambda: next(stub.StreamNodeEvents(iter([device.event()]), timeout=CALL_S)),
            lambda: stub.ExecuteCapability(execute, timeout=CALL_S),
            lambda: next(stub.SubmitJobs(iter([submit]), timeout=CALL_S)),
            lambda: next(stub.FollowJob(follow, timeout=CALL_S)),
            lambda: stub.CancelJob(messages.CancelJobRequest(v=1, job_id=ulid()), timeout=CALL_S),
            lambda: stub.RotateDeviceCertificate(
                device.renewal(over=pem or device.certificate_pem), timeout=CALL_S
            ),
            lambda: stub.RevokeDevicePairing(revoke, timeout=CALL_S),
        ]
        for call in made:
            yield device.refused(call)


def ends(device: Device, pem: bytes, key: Key) -> set[tuple[str, str]]:
    """How the calls of the node listener end over a certificate, all of them."""
    return {refusal.kind for refusal in calls(device, pem, key)}


@pytest.mark.usefixtures("unmoved")
def test_no_certificate_at_all(pi: Device) -> None:
    """Nothing is answered to a client that shows no certificate."""
    assert ends(pi, b"", pi.key) == {(NO_HANDSHAKE, "")}


@pytest.mark.usefixtures("unmoved")
def test_strangers_do_not_pass_the_handshake(pi: Device, stolen: Signer) -> None:
    """Self-signed, of a foreign CA, and of a foreign CA that bears our CA's name."""
    key = fresh_key()
    name = stolen.certificate.subject.rfc4514_string().partition("CN=")[2].partition(",")[0]
    namesake = forging.strange_root(name)
    assert namesake.certificate.subject == stolen.certificate.subject
    itself = Signer(forging.strange_root(pi.device_id).certificate, key)
    for signer in (forging.strange_root(), namesake, itself):
        certificate = pem_of(signer.issue(key.public_key(), identity=pi.device_id))
        for chain in (certificate, certificate + signer.pem):
            assert pi.refused(pi.register, chain, key).status == NO_HANDSHAKE


@pytest.mark.usefixtures("unmoved")
@pytest.mark.parametrize("age", [25 * HOUR, 40 * DAY, 400 * DAY], ids=str)
@pytest.mark.parametrize("ahead", [False, True], ids=["ago", "ahead"])
def test_another_time_does_not_pass_the_handshake(
    pi: Device, stolen: Signer, age: datetime.timedelta, ahead: bool
) -> None:
    """A day's certificate of 25 hours, 40 days and 400 days ago or ahead."""
    key = fresh_key()
    begin = now() + age if ahead else now() - age
    certificate = stolen.issue(
        key.public_key(), identity=pi.device_id, begin=begin, end=begin + DAY
    )
    refusal = pi.refused(pi.register, pem_of(certificate), key)
    assert refusal.status == NO_HANDSHAKE


@pytest.mark.usefixtures("unmoved")
def test_a_right_chain_without_a_record_opens_nothing(pi: Device, stolen: Signer) -> None:
    """Signed by the gateway's own key for a paired device, and still unknown."""
    key = fresh_key()
    pem = pem_of(stolen.issue(key.public_key(), identity=pi.device_id))
    assert ends(pi, pem, key) == {("PERMISSION_DENIED", "certificate_unknown")}


@pytest.mark.usefixtures("unmoved")
def test_other_roles_and_domains_are_not_devices(pi: Device, stolen: Signer) -> None:
    """An operator, a gateway with a client's EKU, a device of another domain, a made-up role."""
    key = fresh_key()
    others = [
        stolen.issue(key.public_key(), "operator", pi.device_id),
        stolen.issue(key.public_key(), "gateway", pi.device_id, usage=CLIENT),
        stolen.issue(key.public_key(), "device", pi.device_id, domain="elsewhere"),
        stolen.issue(key.public_key(), "admin", pi.device_id),
        stolen.issue(key.public_key(), "device", f"{pi.device_id}/../{ulid()}"),
    ]
    for certificate in others:
        assert ends(pi, pem_of(certificate), key) == {("PERMISSION_DENIED", "certificate_refused")}


@pytest.mark.usefixtures("unmoved")
def test_a_server_is_not_a_client(pi: Device, stolen: Signer) -> None:
    """The EKU serverAuth alone: the TLS library itself does not take it from a client."""
    key = fresh_key()
    server = stolen.issue(key.public_key(), "device", pi.device_id, usage=SERVER)
    assert pi.refused(pi.register, pem_of(server), key).status == NO_HANDSHAKE


@pytest.mark.usefixtures("unmoved")
def test_a_device_is_no_authority(gateway: Gateway, pi: Device) -> None:
    """A device signs a certificate for another id, and one for a CA of its own, with its leaf."""
    leaf = Signer(x509.load_pem_x509_certificate(pi.certificate_pem), pi.key)
    key, victim = fresh_key(), Device(gateway, "victim")
    direct = leaf.issue(key.public_key(), identity=victim.device_id)
    middle_key = fresh_key()
    middle = Signer(
        leaf.issue(middle_key.public_key(), identity="intermediate", is_ca=True), middle_key
    )
    deep = middle.issue(key.public_key(), identity=victim.device_id)
    for chain in (
        pem_of(direct) + leaf.pem,
        pem_of(deep) + middle.pem + leaf.pem,
        pem_of(direct) + leaf.pem + gateway.ca_pem,
    ):
        refusal = victim.refused(victim.register, chain, key)
        assert refusal.status == NO_HANDSHAKE


@pytest.mark.usefixtures("unmoved")
def test_nothing_may_stand_between_ca_and_device(pi: Device, stolen: Signer) -> None:
    """An intermediate that the CA's own key signed: pathlen 0 forbids what comes below it."""
    middle_key, key = fresh_key(), fresh_key()
    middle = Signer(
        stolen.issue(middle_key.public_key(), identity="intermediate", is_ca=True), middle_key
    )
    chain = pem_of(middle.issue(key.public_key(), identity=pi.device_id)) + middle.pem
    seen = ends(pi, chain, key)
    # Some TLS libraries ignore the length that a root sets: the trust gate does not.
    assert seen in ({(NO_HANDSHAKE, "")}, {("PERMISSION_DENIED", "certificate_refused")})


@pytest.mark.usefixtures("unmoved")
def test_a_certificate_needs_its_key(gateway: Gateway, pi: Device) -> None:
    """Whoever copies a certificate from the wire cannot use it."""
    assert pi.refused(pi.register, pi.certificate_pem, fresh_key()).status == NO_HANDSHAKE


def test_nobody_speaks_for_another_device(gateway: Gateway, pi: Device) -> None:
    """Every call that names a device must name the one of the certificate."""
    victim = Device(gateway, "victim").enrol()
    execute = messages.ExecuteCapabilityRequest(v=1, capability="echo", input_json=b"{}")
    execute.device_id.ulid = victim.device_id
    submit = messages.SubmitJobRequest(v=1, tag=1, call=execute)
    revoke = messages.RevokeDevicePairingRequest(v=1)
    revoke.device_id.ulid = victim.device_id
    with gateway.unmoved(), pi.node_rpc() as stub:
        claims: list[Callable[[], object]] = [
            lambda: stub.RegisterNode(victim.hello(), timeout=CALL_S),
            lambda: next(stub.StreamNodeEvents(iter([victim.event()]), timeout=CALL_S)),
            lambda: stub.RevokeDevicePairing(revoke, timeout=CALL_S),
            lambda: stub.RotateDeviceCertificate(
                victim.renewal(over=pi.certificate_pem), timeout=CALL_S
            ),
        ]
        for claim in claims:
            assert pi.refused(claim).kind == ("PERMISSION_DENIED", "device_mismatch")
        refusal = pi.refused(stub.ExecuteCapability, execute, timeout=CALL_S)
        assert refusal.kind == ("PERMISSION_DENIED", "policy_denied")
        answer = next(stub.SubmitJobs(iter([submit]), timeout=CALL_S))
        assert answer.refusal_code == "policy_denied" and not answer.result.job_id
    assert victim.register().accepted


def test_a_revocation_ends_a_stream_and_a_unary_call(gateway: Gateway) -> None:
    """Both end with device_revoked within a second, and nothing works afterwards."""
    device = Device(gateway, "laptop").enrol()
    execute = messages.ExecuteCapabilityRequest(v=1, capability="echo", input_json=b"{}")
    execute.device_id.ulid = device.device_id

    def read_on(stream: Any) -> tuple[float, Refusal]:
        with pytest.raises(grpc.RpcError) as caught:
            list(stream)
        return time.monotonic(), refusal_of(caught.value)

    def wait(stub: Any) -> tuple[float, Refusal]:
        refusal = device.refused(stub.ExecuteCapability, execute, timeout=CALL_S)
        return time.monotonic(), refusal

    with ThreadPoolExecutor(2) as pool, device.session() as stream, device.node_rpc() as stub:
        eventually(lambda: gateway.node(device.device_id).presence == "online", "it is online")
        waiting = pool.submit(wait, stub)
        assert next(answer for answer in stream if answer.dispatches or answer.HasField("dispatch"))
        reading = pool.submit(read_on, stream)
        gateway.revoke(device.device_id, "laptop stolen")
        answered = time.monotonic()
        ended = [each.result(CALL_S) for each in (reading, waiting)]
    for at, refusal in ended:
        assert at - answered < 1.0, refusal
        assert refusal.kind == ("PERMISSION_DENIED", "device_revoked")
    assert {job.state for job in gateway.jobs(device.device_id)} <= {
        "failed",
        "outcome_unknown",
    }
    with gateway.unmoved():
        found = ends(device, device.certificate_pem, device.key)
    assert found == {("PERMISSION_DENIED", "device_revoked")}


def test_what_was_revoked_does_not_come_back(gateway: Gateway) -> None:
    """The id with another key, the key under another id, and both: refused until removed."""
    device = Device(gateway, "gone").enrol()
    gateway.revoke(device.device_id)
    same_id = Device(gateway, device_id=device.device_id)
    same_key = Device(gateway)
    same_key.identity = device.identity
    for each in (device, same_id, same_key):
        token = gateway.token()
        with gateway.unmoved():
            refusal = each.refused(each.pair_by_token, token)
        assert refusal.kind == ("PERMISSION_DENIED", "device_revoked")


@pytest.mark.parametrize("how", ["revoked", "removed", "rejected"])
def test_nothing_is_picked_up_after_a_no(gateway: Gateway, how: str) -> None:
    """Between approval and pick-up trust can be taken away again: no certificate is issued then."""
    device = Device(gateway, how)
    opened, answer = device.pair_by_token(gateway.token())
    if how == "rejected":
        path = f"pairing/requests/{answer.request_id}/reject"
        gateway.console.post(path, Decision(reason="not ours"), PairingAnswer)
        with gateway.unmoved():
            told = device.status(opened.session_id)
            assert told.status == "rejected" and not told.mtls_client_certificate_pem
        return
    gateway.approve(answer.request_id)
    if how == "revoked":
        gateway.revoke(device.device_id)
    else:
        gateway.console.post(f"devices/{device.device_id}/remove", Remove(), RemoveAnswer)
    with gateway.unmoved():
        refusal = device.refused(device.status, opened.session_id)
    assert refusal.code in ("device_revoked", "pairing_session_unknown"), refusal
