"""Who is let in at the node listener, and that a refusal leaves nothing behind."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from palyra.pki.authority import DAY_MS, Authority
from palyra.pki.keystore import GatewayIdentity
from palyra.wire.service import messages
from tests.integration.device import CALL_S, Device, Key, Refusal, grpc, refusal, refusal_of
from tests.integration.forging import root_like
from tests.integration.house import Gateway

FOREIGN_ID = "01M80NKQCNX4K7QM2ZT9B3FVHD"


def now_ms() -> int:
    """Unix milliseconds."""
    return int(time.time() * 1000)


@pytest.fixture(scope="module")
def gateway(quiet_gateway: Gateway) -> Gateway:
    """A gateway that runs."""
    return quiet_gateway


@pytest.fixture(scope="module")
def authority(gateway: Gateway) -> Authority:
    """The gateway's own authority, taken from its state root: whoever has it can sign anything."""
    (gateway_id,) = (value for key, value in gateway.recorded()["meta"] if key == "gateway_id")
    return GatewayIdentity.open(
        gateway.root / "identity",
        trust_domain="palyra",
        names=(),
        gateway_id=gateway_id,
        now_ms=now_ms(),
        entropy=os.urandom,
    ).issuing


@pytest.fixture(scope="module")
def device(gateway: Gateway) -> Device:
    """A device that is paired and has registered."""
    device = Device(gateway, "pi").enrol()
    assert device.register().accepted
    return device


@pytest.fixture
def unchanged(gateway: Gateway, device: Device) -> Iterator[None]:
    """What the refused call must not do: change a single row."""
    before = gateway.recorded()
    yield
    assert gateway.recorded() == before


def fresh_key() -> Key:
    """A TLS key."""
    return ec.generate_private_key(ec.SECP256R1())


@pytest.mark.usefixtures("unchanged")
def test_without_a_certificate_no_call_arrives(device: Device) -> None:
    """A peer that shows no certificate does not get through the handshake."""
    assert refusal(lambda: device.register(b"")).status == "UNAVAILABLE"


@pytest.mark.usefixtures("unchanged")
def test_a_certificate_of_another_ca_does_not_pass_the_handshake(device: Device) -> None:
    """A certificate that says all the right things, signed by somebody else."""
    foreign = Authority.create(trust_domain="palyra", now_ms=now_ms(), entropy=os.urandom)
    key = fresh_key()
    pem = foreign.issue_device(key.public_key(), device.device_id, now_ms()).pem
    assert refusal(lambda: device.register(pem, key)).status == "UNAVAILABLE"


@pytest.mark.usefixtures("unchanged")
def test_a_forged_root_with_the_same_name_does_not_pass(
    device: Device, authority: Authority
) -> None:
    """A root with our CA's subject and another key signs nothing that is believed."""
    forged = root_like(authority.ca_certificate)
    key = fresh_key()
    pem = forged.issue_device(key.public_key(), device.device_id, now_ms()).pem
    assert refusal(lambda: device.register(pem, key)).status == "UNAVAILABLE"


@pytest.mark.usefixtures("unchanged")
def test_expired_and_future_certificates_do_not_pass(device: Device, authority: Authority) -> None:
    """Dates are checked at the handshake; neither end of a life is stretched."""
    key = fresh_key()
    for begin_ms in (now_ms() - 2 * DAY_MS, now_ms() + DAY_MS):
        pem = authority.issue_device(key.public_key(), device.device_id, begin_ms).pem
        assert refusal(device.register, pem, key).status == "UNAVAILABLE"


@pytest.mark.usefixtures("unchanged")
def test_a_certificate_that_was_never_recorded_is_unknown(
    device: Device, authority: Authority
) -> None:
    """A good signature alone opens nothing: the record must know the certificate."""
    key = fresh_key()
    pem = authority.issue_device(key.public_key(), device.device_id, now_ms()).pem
    refused = refusal(lambda: device.register(pem, key))
    assert (refused.status, refused.code) == ("PERMISSION_DENIED", "certificate_unknown")


@pytest.mark.usefixtures("unchanged")
def test_a_certificate_of_another_role_is_refused(device: Device, authority: Authority) -> None:
    """An operator's certificate and a gateway's are not a device's, whoever signed them."""
    key, now = fresh_key(), now_ms()
    operator = authority.issue_operator(key.public_key(), FOREIGN_ID, now).pem
    refused = refusal(lambda: device.register(operator, key))
    assert (refused.status, refused.code) == ("PERMISSION_DENIED", "certificate_refused")
    server = authority.issue_gateway(key.public_key(), FOREIGN_ID, (), now).pem
    # Its EKU is serverAuth alone: the TLS library itself does not take it from a client.
    assert refusal(lambda: device.register(server, key)).status == "UNAVAILABLE"


@pytest.mark.usefixtures("unchanged")
def test_nobody_speaks_for_another_device(gateway: Gateway, device: Device) -> None:
    """Register, stream and revoke with one device's certificate and another one's id."""
    event = device.event(0)
    event.device_id.ulid = FOREIGN_ID
    revoke = messages.RevokeDevicePairingRequest(v=1)
    revoke.device_id.ulid = FOREIGN_ID
    with device.node_rpc() as stub:
        calls: list[Callable[[], object]] = [
            lambda: stub.RegisterNode(device.hello(FOREIGN_ID), timeout=CALL_S),
            lambda: next(stub.StreamNodeEvents(iter([event]), timeout=CALL_S)),
            lambda: stub.RevokeDevicePairing(revoke, timeout=CALL_S),
        ]
        for call in calls:
            refused = refusal(call)
            assert (refused.status, refused.code) == ("PERMISSION_DENIED", "device_mismatch")


@pytest.mark.usefixtures("unchanged")
def test_a_node_may_not_run_things_on_other_devices(gateway: Gateway, device: Device) -> None:
    """ExecuteCapability of a node for another device is refused, and no job comes of it."""
    request = messages.ExecuteCapabilityRequest(v=1, capability="echo", input_json=b"{}")
    request.device_id.ulid = FOREIGN_ID
    with device.node_rpc() as stub:
        refused = refusal(lambda: stub.ExecuteCapability(request, timeout=CALL_S))
    assert (refused.status, refused.code) == ("PERMISSION_DENIED", "policy_denied")


@pytest.mark.usefixtures("unchanged")
def test_malformed_ids_and_versions_are_invalid(device: Device) -> None:
    """A device id that is no ULID, and a message of an unknown version."""
    hello = device.hello()
    hello.device_id.ulid = "not-a-ulid"
    later = device.hello()
    later.v = 2
    with device.node_rpc() as stub:
        for message in (hello, later):
            refused = refusal(stub.RegisterNode, message, CALL_S)
            assert refused.status == "INVALID_ARGUMENT", refused


@pytest.mark.usefixtures("unchanged")
def test_each_listener_answers_its_own_calls_only(device: Device) -> None:
    """Pairing calls do not exist for paired devices, nor node calls for strangers."""
    with device.node_rpc() as stub:
        pairing = [
            refusal(call, message, CALL_S).status
            for call, message in (
                (stub.BeginPairingSession, messages.BeginPairingSessionRequest(v=1)),
                (stub.CompletePairingSession, messages.CompletePairingSessionRequest(v=1)),
                (stub.GetPairingRequestStatus, messages.GetPairingRequestStatusRequest(v=1)),
            )
        ]
    with device.enrolment() as stub:
        node = [
            refusal(lambda: stub.RegisterNode(device.hello(), timeout=CALL_S)).status,
            refusal(
                lambda: next(stub.StreamNodeEvents(iter([device.event(0)]), timeout=CALL_S))
            ).status,
            refusal(
                lambda: stub.ExecuteCapability(
                    messages.ExecuteCapabilityRequest(v=1), timeout=CALL_S
                )
            ).status,
            refusal(
                lambda: stub.RevokeDevicePairing(
                    messages.RevokeDevicePairingRequest(v=1), timeout=CALL_S
                )
            ).status,
            refusal(
                lambda: stub.RotateDeviceCertificate(
                    messages.RotateDeviceCertificateRequest(v=1), timeout=CALL_S
                )
            ).status,
        ]
    assert pairing == ["UNIMPLEMENTED"] * 3
    assert node == ["UNIMPLEMENTED"] * 5


@pytest.mark.usefixtures("unchanged")
def test_a_stream_needs_a_registration(device: Device) -> None:
    """A stream with an epoch that no registration gave is refused."""
    with device.node_rpc() as stub:
        refused = refusal(lambda: next(stub.StreamNodeEvents(iter([device.event(7)]), timeout=5)))
    assert (refused.status, refused.code) == ("FAILED_PRECONDITION", "not_registered")


def test_a_newer_certificate_retires_the_older_one(gateway: Gateway) -> None:
    """When a device has registered over its new certificate, the old one is superseded."""
    device = Device(gateway, "again").enrol()
    assert device.register().accepted
    old_pem, old_key = device.certificate_pem, device.key
    renewed = Device(gateway, "again", device.device_id)
    renewed.identity = device.identity
    renewed.enrol()
    assert device.register(old_pem, old_key).accepted  # not retired before the new one is used
    assert renewed.register().accepted
    refused = refusal(lambda: device.register(old_pem, old_key))
    assert (refused.status, refused.code) == ("PERMISSION_DENIED", "certificate_superseded")


def test_a_revocation_ends_the_live_stream_within_a_second(gateway: Gateway) -> None:
    """``nodes revoke``: the open stream ends with PERMISSION_DENIED, and no call works after."""
    device = Device(gateway, "stolen").enrol()

    def read_on(stream: Any) -> tuple[float, Refusal]:
        with pytest.raises(grpc.RpcError) as caught:
            list(stream)
        return time.monotonic(), refusal_of(caught.value)

    with device.session() as stream, ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read_on, stream)
        gateway.online(device.device_id)
        done = gateway.cli("nodes", "revoke", "stolen", "--reason", "laptop stolen")
        answered = time.monotonic()
        assert done.code == 0, done
        at, ended = reading.result(CALL_S)
    again = refusal(device.register)
    assert at - answered < 1.0
    assert (ended.status, ended.code) == ("PERMISSION_DENIED", "device_revoked")
    assert (again.status, again.code) == ("PERMISSION_DENIED", "device_revoked")
    assert "laptop stolen" in again.details
    (node,) = [each for each in gateway.nodes() if each.device_id == device.device_id]
    assert node.trust == "revoked"


def test_a_revoked_identity_does_not_pair_again(gateway: Gateway) -> None:
    """The same id, and the same key under another id, are refused until an operator removes it."""
    device = Device(gateway, "gone").enrol()
    assert gateway.cli("nodes", "revoke", device.device_id).code == 0
    before = gateway.recorded()["pairing_requests"]
    same_key = Device(gateway, "other")
    same_key.identity = device.identity
    for each in (device, same_key):
        refused = refusal(each.enrol)
        assert (refused.status, refused.code) == ("PERMISSION_DENIED", "device_revoked")
    assert gateway.recorded()["pairing_requests"] == before


def test_the_gateway_shows_the_fixed_name_and_its_ca(gateway: Gateway, device: Device) -> None:
    """Both listeners show a chain that ends with the CA and a leaf for palyrad-node-rpc."""
    for address in (gateway.enrolment, gateway.node_rpc):
        host, _, port = address.partition(":")
        leaf = x509.load_pem_x509_certificate(
            ssl.get_server_certificate((host, int(port))).encode()
        )
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert "palyrad-node-rpc" in names.get_values_for_type(x509.DNSName)
        leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(device.ca_pem))
