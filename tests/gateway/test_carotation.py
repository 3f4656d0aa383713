"""CA rotation: no device is locked out that can follow, and none is waited for without end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from cryptography.x509 import load_pem_x509_certificate
from twisted.internet.defer import Deferred

from palyra.console import models
from palyra.core.devices import ClientKind
from palyra.core.identifiers import sha256_hex
from palyra.core.pairing_uri import PairingUri
from palyra.errors import CertificateRefused, RejoinRefused, RotationRunning
from palyra.pki.keystore import GatewayIdentity
from palyra.testing.carrier import ScriptedNode
from palyra.wire.pairing import StatusAnswer
from tests.callers import ANA
from tests.gateway.applicants import (
    PinApplicant,
    admitted,
    device_of,
    rejoin,
    rejoin_proof,
    renewal,
    renewed,
)
from tests.gateway.enrolling import HOME, Applicant, Gateway
from tests.gateway.house import result_of
from tests.gateway.opening import opened

DAY_S = 86_400
GRACE_S = 10 * DAY_S


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "identity"


@pytest.fixture
def gateway(path: Path) -> Iterator[Gateway]:
    """On a real identity, with a grace of ten days."""
    made = Gateway(identity=opened(path), rejoin_grace_s=GRACE_S)
    yield made
    made.end()


def reborn(gateway: Gateway, path: Path) -> None:
    """The gateway is killed, and starts on what is on the disk."""
    gateway.identity = opened(path, gateway.now_ms())
    gateway.restart()


def begin(gateway: Gateway) -> models.CaAnswer:
    return result_of(gateway.control.rotate_ca(models.RotateCa("due"), ANA))


def ca(gateway: Gateway) -> models.CaAnswer:
    return result_of(gateway.control.ca())


def progress(gateway: Gateway) -> tuple[object, ...]:
    """How far the rotation is, as an operator sees it."""
    answer = ca(gateway)
    return answer.phase, answer.cas, answer.started_unix_ms, answer.next_step_unix_ms


def tick(gateway: Gateway) -> str:
    result_of(Deferred.fromCoroutine(gateway.rotator.tick()))
    return gateway.rotator.phase


def under(gateway: Gateway, applicant: Applicant) -> Applicant:
    """The same device with the CA that the listeners show as its only root."""
    applicant.ca_hash = bytes.fromhex(gateway.identity.serving_ca_hash)
    return applicant


def a_node(gateway: Gateway, seed: int = 1, name: str = "pi") -> tuple[Applicant, ScriptedNode]:
    """A device that paired before, and is connected."""
    applicant = under(gateway, Applicant(seed, name=name))
    answer = applicant.pair(gateway)
    node = gateway.node(device_of(gateway, applicant))
    node.peer = admitted(gateway, answer)
    result_of(node.connect())
    node.take()
    return applicant, node


def move(gateway: Gateway, applicant: Applicant, node: ScriptedNode) -> None:
    """It renews, and registers over the new certificate."""
    node.peer = admitted(gateway, renewed(gateway, node.peer, renewal(applicant, node.peer)))
    result_of(node.connect())


def pem_of(gateway: Gateway, node: ScriptedNode) -> bytes:
    pem: str = result_of(gateway.store.certificate(node.peer.fingerprint)).pem
    return pem.encode()


def roots(pem: str) -> int:
    return pem.count("BEGIN CERTIFICATE")


# -- the overlap ---------------------------------------------------


def test_a_steady_gateway(gateway: Gateway) -> None:
    """One CA, which issues and serves; time changes nothing."""
    a_node(gateway)
    answer = ca(gateway)
    assert (answer.phase, answer.left_total, answer.next_step_unix_ms) == ("steady", 0, None)
    (only,) = answer.cas
    assert only.issues and only.serves and only.fingerprint == gateway.identity.issuing.ca_hash
    assert tick(gateway) == "steady" and gateway.identity.rotation is None


def test_the_overlap(gateway: Gateway) -> None:
    """Both are trusted, the new one issues, the listeners still show the old one, which every
    device knows; everybody is told to renew, and is counted until it has."""
    applicant, node = a_node(gateway)
    old = gateway.identity.issuing.ca_hash
    published = gateway.published
    answer = begin(gateway)
    new = gateway.identity.issuing.ca_hash
    assert [(each.fingerprint, each.issues, each.serves) for each in answer.cas] == [
        (new, True, False),
        (old, False, True),
    ]
    assert (answer.phase, [each.name for each in answer.left]) == ("overlap", ["pi"])
    assert answer.started_unix_ms == gateway.now_ms()
    assert answer.next_step_unix_ms == gateway.now_ms() + GRACE_S * 1000
    assert gateway.published == published + 1
    order = node.take().renew
    assert order is not None and order.reason == "due"
    assert gateway.node_desk.admit(pem_of(gateway, node), None, HOME, "grpc") == node.peer
    assert device_of(gateway, applicant).rotate_asked_by == "ana"


def test_one_rotation_at_a_time(gateway: Gateway) -> None:
    """A second one is refused in either phase, and changes nothing."""
    a_node(gateway)
    begin(gateway)
    before = gateway.identity.ca_hashes
    for phase in ("overlap", "switched"):
        assert tick(gateway) == phase
        with pytest.raises(RotationRunning):
            begin(gateway)
        gateway.pass_time(GRACE_S)
    assert gateway.identity.ca_hashes == before


def test_a_device_has_moved_when_it_registered(gateway: Gateway) -> None:
    """A new certificate that it does not use yet proves nothing: its answer may be lost."""
    applicant, node = a_node(gateway)
    old = gateway.identity.issuing.ca_hash
    gateway.pass_time(1)
    begin(gateway)
    gateway.pass_time(1)
    answer = renewed(gateway, node.peer, renewal(applicant, node.peer))
    assert roots(answer.ca_pem) == 2
    issuer = gateway.identity.issuing.ca_certificate
    load_pem_x509_certificate(answer.certificate_pem.encode()).verify_directly_issued_by(issuer)
    assert ca(gateway).left_total == 1 and tick(gateway) == "overlap"
    node.peer = admitted(gateway, answer)
    welcome = result_of(node.register())
    assert roots(welcome.ca_bundle_pem) == 2
    assert ca(gateway).left_total == 0
    item = result_of(gateway.control.node("pi")).node
    assert item.certificate_ca == gateway.identity.issuing.ca_hash != old
    assert item.rotate_asked_unix_ms is None


def test_a_renewal_signed_under_either_ca(gateway: Gateway) -> None:
    """A device that has the new bundle already may bind the new CA."""
    applicant, node = a_node(gateway)
    begin(gateway)
    move(gateway, applicant, node)
    applicant.ca_hash = bytes.fromhex(gateway.identity.issuing.ca_hash)
    renewed(gateway, node.peer, renewal(applicant, node.peer))


def test_a_pairing_in_the_overlap(gateway: Gateway) -> None:
    """The line and the PIN bind the CA that is shown; the certificate is of the new one, with
    both to trust: such a device never has to be moved."""
    begin(gateway)
    line = result_of(gateway.control.mint(models.MintCode(method="qr"), ANA)).uri
    assert PairingUri.parse(line).ca.hex() == gateway.identity.serving_ca_hash
    assert gateway.identity.serving_ca_hash != gateway.identity.issuing.ca_hash
    applicant = PinApplicant()
    under(gateway, applicant)
    gateway.approve(applicant.type_pin(gateway, gateway.pin()).request_id)
    answer = gateway.status(applicant.question())
    assert roots(answer.ca_pem) == 2
    node = gateway.node(device_of(gateway, applicant))
    node.peer = admitted(gateway, answer)
    assert ca(gateway).left_total == 1
    result_of(node.connect())
    assert ca(gateway).left_total == 0


def test_who_is_not_waited_for(gateway: Gateway) -> None:
    """A revoked device; and a client, which never registers, once it was answered."""
    _, _ = a_node(gateway)
    client = under(gateway, Applicant(2, name="laptop", kind=ClientKind.CLI))
    peer = admitted(gateway, client.pair(gateway))
    gateway.pass_time(0.25)
    begin(gateway)
    assert sorted(each.name for each in ca(gateway).left) == ["laptop", "pi"]
    result_of(gateway.control.revoke("pi", models.Revoke(), ANA))
    renewed(gateway, peer, renewal(client, peer))
    assert ca(gateway).left_total == 0


# -- the switch and the end ---------------------------------------------------


def test_the_whole_way(gateway: Gateway) -> None:
    """Overlap until the last device has moved, then the new certificate is shown; one life of a
    device's certificate later the old CA is trusted no more."""
    nodes = [a_node(gateway, 1, "pi"), a_node(gateway, 2, "nas")]
    old, old_pem = gateway.identity.issuing.ca_hash, pem_of(gateway, nodes[0][1])
    begin(gateway)
    for applicant, node in nodes:
        assert tick(gateway) == "overlap"
        move(gateway, applicant, node)
    assert tick(gateway) == "switched"
    new = gateway.identity.issuing.ca_hash
    assert gateway.identity.serving_ca_hash == new
    shown = load_pem_x509_certificate(gateway.identity.gateway_chain_pem)
    shown.verify_directly_issued_by(gateway.identity.issuing.ca_certificate)
    assert ca(gateway).next_step_unix_ms == gateway.now_ms() + (DAY_S + 300) * 1000
    assert {each.fingerprint for each in ca(gateway).cas} == {old, new}
    for _, node in nodes:
        node.hang_up()
    gateway.pass_time(DAY_S)
    assert tick(gateway) == "switched"
    gateway.pass_time(300)
    assert tick(gateway) == "steady"
    assert [each.fingerprint for each in ca(gateway).cas] == [new]
    with pytest.raises(CertificateRefused) as caught:
        gateway.node_desk.admit(old_pem, None, HOME, "grpc")
    assert caught.value.reason == "foreign_ca"


def test_a_device_that_is_away(gateway: Gateway) -> None:
    """The overlap waits for it as long as it may be away, and no longer: then it rejoins under
    the CA it knows, until that one is trusted no more."""
    applicant, node = a_node(gateway)
    node.hang_up()
    begin(gateway)
    gateway.pass_time(GRACE_S - 1)
    assert tick(gateway) == "overlap"
    gateway.pass_time(1)
    assert tick(gateway) == "switched" and ca(gateway).left == []
    back = rejoin(applicant, gateway)
    assert back.certificate_pem and roots(back.ca_pem) == 2
    gateway.pass_time(DAY_S + 300)
    assert tick(gateway) == "steady"
    with pytest.raises(RejoinRefused):
        rejoin(applicant, gateway)
    under(gateway, applicant)
    assert roots(rejoin(applicant, gateway).ca_pem) == 1


def test_a_live_certificate_of_the_old_ca_after_the_switch(gateway: Gateway) -> None:
    """It is still good: a device that was not told in time of the new CA can call until the end."""
    gateway.rotator._grace_ms = 0
    applicant, node = a_node(gateway)
    begin(gateway)
    assert tick(gateway) == "switched"
    assert gateway.node_desk.admit(pem_of(gateway, node), None, HOME, "grpc") == node.peer
    move(gateway, applicant, node)


def test_no_device_at_all(gateway: Gateway) -> None:
    """There is nobody to wait for."""
    begin(gateway)
    assert tick(gateway) == "switched"


def test_a_clock_that_leaps(gateway: Gateway) -> None:
    """No step back exists: when the wall clock has jumped forward, a step that is due because of
    it waits for an hour, in which the clock may be put right."""
    _, node = a_node(gateway)
    node.hang_up()
    began_ms = gateway.now_ms()
    gateway.rotator._elapsed_ms = lambda: gateway.now_ms() - leap_ms
    leap_ms = 0
    begin(gateway)
    assert tick(gateway) == "overlap"
    gateway.clock.rightNow += GRACE_S
    leap_ms = GRACE_S * 1000
    assert tick(gateway) == "overlap"
    gateway.pass_time(3_599)
    assert tick(gateway) == "overlap" and gateway.now_ms() > began_ms + leap_ms
    gateway.pass_time(2)
    assert tick(gateway) == "switched"


def test_whoever_was_not_ordered_is(gateway: Gateway, path: Path) -> None:
    """A gateway that was killed between the new CA and its orders gives them when it is back."""
    applicant, node = a_node(gateway)
    gateway.identity.begin_rotation(gateway.now_ms())
    reborn(gateway, path)
    result_of(node.connect())
    node.take()
    assert device_of(gateway, applicant).rotate_asked_at_ms is None
    assert tick(gateway) == "overlap"
    assert device_of(gateway, applicant).rotate_asked_at_ms == gateway.now_ms()
    assert node.take().renew is not None
    tick(gateway)
    assert node.take().renew is None


# -- restarts ---------------------------------------------------


def test_a_restart_in_each_phase(gateway: Gateway, path: Path) -> None:
    """The rotation goes on where it was: who is left, which CA is shown, when the next step is
    due, and what is trusted."""
    first, second = a_node(gateway, 1, "pi"), a_node(gateway, 2, "nas")
    begin(gateway)
    move(gateway, *first)
    before = progress(gateway)
    reborn(gateway, path)
    assert progress(gateway) == before
    assert [each.name for each in ca(gateway).left] == ["nas"]
    for _, node in (first, second):
        assert gateway.node_desk.admit(pem_of(gateway, node), None, HOME, "grpc") == node.peer
    assert tick(gateway) == "overlap"
    move(gateway, *second)
    assert tick(gateway) == "switched"
    before = progress(gateway)
    reborn(gateway, path)
    assert progress(gateway) == before and tick(gateway) == "switched"
    for node in (first[1], second[1]):
        node.hang_up()
    gateway.pass_time(DAY_S + 300)
    assert tick(gateway) == "steady"
    reborn(gateway, path)
    assert ca(gateway).phase == "steady" and len(ca(gateway).cas) == 1


def test_a_rejoin_in_each_phase(gateway: Gateway) -> None:
    """By whichever CA is trusted then, never by a foreign one; the certificate is of the newest."""
    applicant, node = a_node(gateway)
    node.hang_up()
    begin(gateway)
    for _ in range(2):
        for ca_hash in gateway.identity.ca_hashes:
            proof = rejoin_proof(
                applicant, gateway.open_rejoin(applicant.device_id), ca_hash=ca_hash
            )
            answer = gateway.complete(proof)
            issuer = gateway.inventory.certificate(admitted(gateway, answer).fingerprint)
            assert issuer is not None and issuer.issuer == gateway.identity.issuing.ca_hash
        opened_session = gateway.open_rejoin(applicant.device_id)
        foreign = rejoin_proof(applicant, opened_session, ca_hash=bytes.fromhex(sha256_hex(b"x")))
        with pytest.raises(RejoinRefused):
            gateway.complete(foreign)
        gateway.pass_time(GRACE_S)
        tick(gateway)
    assert isinstance(gateway.identity, GatewayIdentity)


def test_a_status_signed_under_either_ca(gateway: Gateway) -> None:
    """A device that began to pair before the rotation asks what became of it, signed with the CA
    it saw, until that one is gone."""
    applicant = under(gateway, Applicant())
    completed = applicant.apply(gateway)
    begin(gateway)
    assert gateway.status(applicant.question()).status == "pending_approval"
    gateway.approve(completed.request_id)
    answer: StatusAnswer = gateway.status(applicant.question())
    assert roots(answer.ca_pem) == 2 and admitted(gateway, answer)
    assert attrs.evolve(answer, reason="") == answer
