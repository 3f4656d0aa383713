"""The published revocation lists: complete, signed by each CA, never in the way."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from twisted.internet.defer import Deferred, fail
from twisted.logger import capturedLogs

from palyra.console import models
from palyra.gateway.crl import LIFE_MS, RevocationLists
from palyra.gateway.onethread import InThread
from palyra.pki.authority import DAY_MS
from palyra.pki.certificates import unix_ms
from palyra.pki.keystore import GatewayIdentity
from palyra.wire.pairing import StatusAnswer
from tests.callers import ANA
from tests.gateway.applicants import Beside, admitted, renewal, renewed
from tests.gateway.enrolling import Applicant, Gateway, at_once
from tests.gateway.house import fired, result_of
from tests.gateway.opening import opened

_BLOCK = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----\n", re.DOTALL)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    made = Gateway(identity=opened(tmp_path / "identity"))
    yield made
    made.end()


def lists(gateway: Gateway, file: Path, in_thread: InThread = at_once) -> RevocationLists:
    return RevocationLists(
        file,
        identity=gateway.identity,
        inventory=gateway.inventory,
        now_ms=gateway.now_ms,
        in_thread=in_thread,
    )


def published(gateway: Gateway, file: Path) -> list[x509.CertificateRevocationList]:
    """The lists as they are on the disk; each is the one of its CA, and signed by it."""
    made = lists(gateway, file)
    made.publish()
    assert fired(made.when_published()) and file.read_bytes() == made.pem
    read = [x509.load_pem_x509_crl(each) for each in _BLOCK.findall(made.pem)]
    identity: GatewayIdentity = gateway.identity
    for crl, authority in zip(read, identity.authorities, strict=True):
        assert crl.is_signature_valid(authority.ca_key.public_key())
        assert crl.issuer == authority.ca_certificate.subject
    return read


def serials(crl: x509.CertificateRevocationList) -> dict[int, bool]:
    """What it lists, and whether it was only superseded."""
    listed = {}
    for each in crl:
        try:
            reason = each.extensions.get_extension_for_class(x509.CRLReason).value.reason
        except x509.ExtensionNotFound:
            reason = None
        listed[each.serial_number] = reason is x509.ReasonFlags.superseded
    return listed


def serial(answer: Any) -> int:
    return x509.load_pem_x509_certificate(answer.certificate_pem.encode()).serial_number


def paired(gateway: Gateway, seed: int = 1, **changes: Any) -> tuple[Applicant, StatusAnswer]:
    ca_hash = bytes.fromhex(gateway.identity.serving_ca_hash)
    applicant = Applicant(seed, ca_hash=ca_hash, **changes)
    return applicant, applicant.pair(gateway)


def revoke(gateway: Gateway, applicant: Applicant) -> None:
    result_of(gateway.control.revoke(applicant.device_id, models.Revoke(), ANA))


def test_nothing_is_revoked(gateway: Gateway, tmp_path: Path) -> None:
    """There is a list all the same: it says so, for a week."""
    paired(gateway)
    (crl,) = published(gateway, tmp_path / "crl.pem")
    assert serials(crl) == {}
    assert unix_ms(crl.last_update_utc) == pytest.approx(gateway.now_ms(), abs=1_000)
    assert crl.next_update_utc is not None
    assert unix_ms(crl.next_update_utc) == pytest.approx(gateway.now_ms() + LIFE_MS, abs=1_000)


def test_what_is_listed(gateway: Gateway, tmp_path: Path) -> None:
    """Every certificate that is refused although its dates hold: of revoked and removed devices,
    of a key that was replaced, and superseded ones, which say so."""
    file = tmp_path / "crl.pem"
    lost, first = paired(gateway, 1, name="lost")
    gone, second = paired(gateway, 2, name="gone")
    moved, third = paired(gateway, 3, name="moved")
    _, good = paired(gateway, 4, name="good")
    other, fifth = paired(gateway, 5, name="other")
    revoke(gateway, lost)
    result_of(gateway.control.remove(gone.device_id, models.Remove(), ANA))
    peer = admitted(gateway, third)
    node = gateway.node(gateway.inventory.paired(moved.device_id))
    node.peer = admitted(gateway, renewed(gateway, peer, renewal(moved, peer)))
    result_of(node.connect())
    anew, _ = Applicant(6, device_id=other.device_id, ca_hash=other.ca_hash), None
    gateway.approve(anew.apply(gateway).request_id, accept_new_identity=True)
    expected = {serial(first): False, serial(second): False, serial(fifth): False}
    expected[serial(third)] = True
    for _ in range(2):
        (crl,) = published(gateway, file)
        assert serials(crl) == expected and serial(good) not in expected
        gateway.restart()


def test_what_dates_refuse_is_not_listed(gateway: Gateway, tmp_path: Path) -> None:
    """The list does not grow without end."""
    applicant, _ = paired(gateway)
    revoke(gateway, applicant)
    gateway.pass_time(DAY_MS / 1000 + 1)
    assert serials(published(gateway, tmp_path / "crl.pem")[0]) == {}


def test_numbers_rise(gateway: Gateway, tmp_path: Path) -> None:
    """From list to list, also over a restart."""
    numbers = []
    for _ in range(3):
        gateway.pass_time(1)
        (crl,) = published(gateway, tmp_path / "crl.pem")
        numbers.append(crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number)
        gateway.restart()
    assert numbers == sorted(set(numbers))


def test_one_list_of_each_ca(gateway: Gateway, tmp_path: Path) -> None:
    """In a rotation each CA speaks of what it issued; the one that is gone speaks no more."""
    file = tmp_path / "crl.pem"
    old, first = paired(gateway, 1, name="old")
    result_of(gateway.control.rotate_ca(models.RotateCa(), ANA))
    new, second = paired(gateway, 2, name="new")
    revoke(gateway, old)
    revoke(gateway, new)
    newest, oldest = published(gateway, file)
    assert serials(newest) == {serial(second): False}
    assert serials(oldest) == {serial(first): False}
    gateway.rotator._grace_ms = 0
    result_of(Deferred.fromCoroutine(gateway.rotator.tick()))
    gateway.pass_time(DAY_MS / 1000 + 300)
    result_of(Deferred.fromCoroutine(gateway.rotator.tick()))
    assert len(published(gateway, file)) == 1


def test_a_certificate_from_before_its_issuer_was_kept(gateway: Gateway, tmp_path: Path) -> None:
    """Where nobody knows which CA signed it, it is the oldest one's."""
    device = gateway.device("early")
    result_of(gateway.control.rotate_ca(models.RotateCa(), ANA))
    result_of(gateway.control.revoke(device.device_id, models.Revoke(), ANA))
    newest, oldest = published(gateway, tmp_path / "crl.pem")
    assert (len(serials(newest)), list(serials(oldest))) == (0, [0x0A1B])


# -- when ---------------------------------------------------


def test_every_change_of_trust_publishes(gateway: Gateway) -> None:
    """A revocation, a removal, a key that is replaced, and a CA that comes."""
    first, _ = paired(gateway, 1, name="a")
    second, _ = paired(gateway, 2, name="b")
    before = gateway.published
    revoke(gateway, first)
    result_of(gateway.control.remove(first.device_id, models.Remove(), ANA))
    anew = Applicant(3, device_id=second.device_id, ca_hash=second.ca_hash)
    gateway.approve(anew.apply(gateway).request_id, accept_new_identity=True)
    result_of(gateway.control.rotate_ca(models.RotateCa(), ANA))
    assert gateway.published == before + 4


def test_many_changes_make_two_lists(gateway: Gateway, tmp_path: Path) -> None:
    """What changes while one is written is in the next; whoever waits gets that one."""
    beside = Beside()
    made = lists(gateway, tmp_path / "crl.pem", beside)
    made.publish()
    applicant, answer = paired(gateway)
    revoke(gateway, applicant)
    for _ in range(3):
        made.publish()
    waits = made.when_published()
    assert len(beside.waiting) == 1
    beside.work(1)
    assert not fired(waits) and len(beside.waiting) == 1
    assert serials(x509.load_pem_x509_crl(made.pem)) == {}
    beside.work()
    assert fired(waits) and beside.waiting == []
    assert serials(x509.load_pem_x509_crl(made.pem)) == {serial(answer): False}


def test_a_list_that_cannot_be_written(gateway: Gateway, tmp_path: Path) -> None:
    """It is logged, the last good one is answered, the next is tried again; nobody's trust rests
    on it."""
    failing = [True]

    def in_thread(work: Any, *given: Any) -> Deferred[Any]:
        return fail(OSError("full")) if failing[0] else at_once(work, *given)

    made = lists(gateway, tmp_path / "crl.pem", in_thread)
    with capturedLogs() as events:
        made.publish()
    assert len(events) == 1 and made.pem == b"" and fired(made.when_published())
    failing.clear()
    failing.append(False)
    made.publish()
    assert made.pem.startswith(b"-----BEGIN X509 CRL-----")


def test_an_operator_fetches_it(gateway: Gateway, tmp_path: Path) -> None:
    """As it is once what is being written has been."""
    gateway.lists._file = tmp_path / "crl.pem"
    beside = Beside()
    gateway.lists._in_thread = beside
    gateway.lists.publish()
    answer = gateway.control.crl()
    assert not fired(answer)
    beside.work()
    assert result_of(answer) == (tmp_path / "crl.pem").read_bytes()
