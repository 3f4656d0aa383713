"""Tests of :mod:`palyra.node.identity`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from palyra import _versioned
from palyra.errors import (
    CertificateRefused,
    DiskFull,
    FileTooNew,
    KeyFilePermission,
    MalformedIdentifier,
    StoreCorrupt,
    VerificationFailed,
)
from palyra.node.identity import IdentityStore, PairingFile
from palyra.pki.authority import Authority
from palyra.pki.csr import check_csr
from tests.node.fakes import DEVICE_ID, NOW_MS, PairedDevice, new_authority

OTHER_ID = "01M80NKQCNX4K7QM2ZT9B3FVHE"


@pytest.fixture
def store(tmp_path: Path) -> IdentityStore:
    """A store with the identity of ``DEVICE_ID``."""
    made = IdentityStore(tmp_path / "identity")
    made.open(NOW_MS, os.urandom, DEVICE_ID)
    return made


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create(trust_domain="palyra", now_ms=NOW_MS, entropy=os.urandom)


def issued(authority: Authority, csr: bytes, device_id: str = DEVICE_ID) -> str:
    return authority.issue_device(check_csr(csr, DEVICE_ID), device_id, NOW_MS).pem.decode()


def test_the_identity_is_made_once(tmp_path: Path) -> None:
    """The same key and id at every start, under the id that was asked for."""
    first = IdentityStore(tmp_path / "identity").open(NOW_MS, os.urandom, DEVICE_ID)
    again = IdentityStore(tmp_path / "identity").open(NOW_MS, os.urandom)
    assert first.device_id == again.device_id == DEVICE_ID
    assert first.fingerprint == again.fingerprint
    assert "key" not in repr(first)


def test_every_file_is_private(store: IdentityStore) -> None:
    """0600 in a directory of 0700."""
    store.new_csr(DEVICE_ID)
    store.keep_waiting(PairingFile(1, "s", "r", "gw:1", "pem"))
    names = {each.name: each.stat().st_mode & 0o777 for each in store.path.iterdir()}
    expected = ("device-identity.json", "node-mtls-client.json", "pairing.json")
    assert names == dict.fromkeys(expected, 0o600)
    assert store.path.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", ["device-identity.json", "node-mtls-client.json"])
def test_a_key_that_others_may_read_is_refused(store: IdentityStore, name: str) -> None:
    """By name; the hint mends it."""
    store.new_csr(DEVICE_ID)
    (store.path / name).chmod(0o644)
    with pytest.raises(KeyFilePermission) as refused:
        store.open(NOW_MS, os.urandom)
        store.client()
    assert refused.value.hint == f"chmod 600 {store.path / name}"


@pytest.mark.parametrize(
    "damage",
    [
        b"{",
        b'{"schema_version":1,"device_id":"x","signing_key":"AA==","created_at_unix_ms":1}',
        json.dumps(
            {
                "schema_version": 1,
                "device_id": "x",
                "signing_key": "A" * 43 + "=",
                "created_at_unix_ms": 1,
            }
        ).encode(),
    ],
)
def test_a_damaged_identity_is_named_and_left(store: IdentityStore, damage: bytes) -> None:
    """Never a fresh identity in its place."""
    path = store.path / "device-identity.json"
    path.write_bytes(damage)
    with pytest.raises(StoreCorrupt) as refused:
        store.open(NOW_MS, os.urandom)
    assert str(path) in refused.value.sentence
    assert path.read_bytes() == damage


def test_an_id_that_is_none(tmp_path: Path) -> None:
    """The option is named; nothing is made."""
    with pytest.raises(MalformedIdentifier, match="--device-id"):
        IdentityStore(tmp_path / "identity").open(NOW_MS, os.urandom, "pi")
    assert not list((tmp_path / "identity").iterdir())


def test_the_same_csr_until_it_is_used(store: IdentityStore, authority: Authority) -> None:
    """Over restarts; then another key."""
    csr = store.new_csr(DEVICE_ID)
    assert IdentityStore(store.path).new_csr(DEVICE_ID) == csr
    credential = store.accept(DEVICE_ID, issued(authority, csr), authority.ca_pem.decode())
    assert credential.cert_expires_at_unix_ms == NOW_MS + 24 * 3_600_000
    assert IdentityStore(store.path).client().current == credential
    assert IdentityStore(store.path).client().pending is None
    assert store.new_csr(DEVICE_ID) != csr
    assert store.client().current == credential


def test_a_crash_after_the_certificate_was_kept(store: IdentityStore, authority: Authority) -> None:
    """The same certificate again is the same answer."""
    pem = issued(authority, store.new_csr(DEVICE_ID))
    first = store.accept(DEVICE_ID, pem, authority.ca_pem.decode())
    again = IdentityStore(store.path).accept(DEVICE_ID, pem, authority.ca_pem.decode())
    assert again == first


def test_a_crash_while_writing_leaves_the_old_file(
    store: IdentityStore, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key that was asked for is still there, so the certificate can come again."""
    csr = store.new_csr(DEVICE_ID)
    pem = issued(authority, csr)

    def crash(*_: object) -> None:
        raise OSError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", crash)
        with pytest.raises(OSError, match="power cut"):
            store.accept(DEVICE_ID, pem, authority.ca_pem.decode())
    assert store.client().current is None
    assert store.new_csr(DEVICE_ID) == csr
    assert store.accept(DEVICE_ID, pem, authority.ca_pem.decode())


def test_a_certificate_that_is_not_ours(store: IdentityStore, authority: Authority) -> None:
    """For another key, for another device, for no device, or from another CA: nothing is kept."""
    csr = store.new_csr(DEVICE_ID)
    ca_pem = authority.ca_pem.decode()
    stranger = ec.generate_private_key(ec.SECP256R1()).public_key()
    other_ca = Authority.create(trust_domain="palyra", now_ms=NOW_MS, entropy=os.urandom)
    key = check_csr(csr, DEVICE_ID)
    wrong = [
        (authority.issue_device(stranger, DEVICE_ID, NOW_MS).pem.decode(), ca_pem),
        (issued(authority, csr, OTHER_ID), ca_pem),
        (authority.issue_operator(key, DEVICE_ID, NOW_MS).pem.decode(), ca_pem),
        (issued(other_ca, csr), ca_pem),
        (issued(authority, csr), "no certificate"),
    ]
    for pem, ca in wrong:
        with pytest.raises(VerificationFailed):
            store.accept(DEVICE_ID, pem, ca)
    with pytest.raises(CertificateRefused):
        store.accept(DEVICE_ID, "no certificate", ca_pem)
    assert store.client().current is None
    assert store.new_csr(DEVICE_ID) == csr


def test_a_certificate_that_nobody_asked_for(store: IdentityStore, authority: Authority) -> None:
    """Without a pending key there is nothing it could be for."""
    other = IdentityStore(store.path.parent / "other")
    other.open(NOW_MS, os.urandom, DEVICE_ID)
    pem = issued(authority, other.new_csr(DEVICE_ID))
    with pytest.raises(VerificationFailed, match="nobody asked for"):
        store.accept(DEVICE_ID, pem, authority.ca_pem.decode())


def test_a_key_that_a_crash_left(store: IdentityStore) -> None:
    """A start removes it: no copy of a private key lies about."""
    store.new_csr(DEVICE_ID)
    left = store.path / ".node-mtls-client.json.k3_x9abc"
    left.write_bytes((store.path / "node-mtls-client.json").read_bytes())
    store.open(NOW_MS, os.urandom)
    assert not left.exists()
    assert store.client().pending is not None


def test_a_waiting_pairing_survives(store: IdentityStore) -> None:
    """Until it is decided."""
    assert store.waiting() is None
    pairing = PairingFile(1, "s", "r", "gw:1", "pem")
    store.keep_waiting(pairing)
    assert IdentityStore(store.path).waiting() == pairing
    store.stop_waiting()
    store.stop_waiting()
    assert store.waiting() is None


@pytest.fixture
def paired(tmp_path: Path, authority: Authority) -> PairedDevice:
    """A device with its first certificate."""
    return PairedDevice(tmp_path / "paired", authority)


def test_current_and_next_in_one_file(paired: PairedDevice) -> None:
    """Both live until the node has registered over the next one; then there is one again."""
    following = paired.make_next(NOW_MS + 3_600_000)
    client = IdentityStore(paired.store.path).client()
    assert (client.current, client.next, client.pending) == (paired.first, following, None)
    paired.store.registered(paired.first.fingerprint)
    assert paired.store.client() == client
    paired.store.registered(following.fingerprint)
    client = IdentityStore(paired.store.path).client()
    assert (client.current, client.next) == (following, None)
    paired.store.registered(following.fingerprint)
    assert paired.store.client() == client


def test_which_one_to_use(paired: PairedDevice) -> None:
    """The next one first; what ran out is of no use."""
    following = paired.make_next(NOW_MS + 3_600_000)
    client = paired.store.client()
    assert client.usable(NOW_MS) == [following, paired.first]
    assert client.usable(paired.first.cert_expires_at_unix_ms) == [following]
    assert client.usable(following.cert_expires_at_unix_ms) == []
    assert client.held == [following, paired.first]


def test_a_next_one_that_is_dropped(paired: PairedDevice) -> None:
    """Another key is made for another one."""
    following = paired.make_next()
    paired.store.drop_next()
    assert paired.store.client().next is None
    assert paired.make_next().private_key_pem != following.private_key_pem
    assert paired.store.client().current == paired.first


def test_a_new_pairing_ends_both(paired: PairedDevice) -> None:
    """Pairing and rejoin leave one certificate."""
    paired.make_next()
    pem = paired.issue(paired.store.new_csr(DEVICE_ID))
    kept = paired.store.accept(DEVICE_ID, pem, paired.ca_pem)
    client = paired.store.client()
    assert (client.current, client.next, client.pending) == (kept, None, None)


def test_a_next_certificate_that_is_not_ours(paired: PairedDevice) -> None:
    """For another device or key, from another CA, or never asked for: nothing is kept."""
    pem = paired.issue(paired.store.new_csr(DEVICE_ID))
    before = paired.store.client()
    stranger = new_authority()
    pending = before.pending
    assert pending is not None
    csr_der = paired.store.new_csr(DEVICE_ID)
    foreign = paired.issue(csr_der, by=stranger)
    both = paired.ca_pem + stranger.ca_pem.decode()
    wrong = [
        (issued(paired.authority, csr_der, OTHER_ID), paired.ca_pem),
        (paired.first.certificate_pem, paired.ca_pem),
        (foreign, paired.ca_pem),
        (foreign, stranger.ca_pem.decode()),
        (pem, stranger.ca_pem.decode()),
        (pem, "no certificate"),
    ]
    for certificate, bundle in wrong:
        with pytest.raises(VerificationFailed):
            paired.store.accept_next(DEVICE_ID, certificate, bundle)
    assert paired.store.client() == before
    paired.store.accept_next(DEVICE_ID, foreign, both)
    with pytest.raises(VerificationFailed, match="nobody asked for"):
        paired.store.accept_next(DEVICE_ID, foreign, both)


def test_a_crash_while_the_next_one_is_written(
    paired: PairedDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old file stays whole: the same CSR brings the same certificate."""
    csr_der = paired.store.new_csr(DEVICE_ID)
    before = paired.store.client()

    def crash(*_: object) -> None:
        raise OSError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", crash)
        with pytest.raises(OSError, match="power cut"):
            paired.store.accept_next(DEVICE_ID, paired.issue(csr_der), paired.ca_pem)
    assert paired.store.client() == before
    assert paired.store.new_csr(DEVICE_ID) == csr_der


def test_the_bundle_moves_in_steps(paired: PairedDevice) -> None:
    """Old, both, new; never to strangers, and never to none."""
    new = new_authority()
    new_pem = new.ca_pem.decode()
    with pytest.raises(VerificationFailed):
        paired.store.trust(new_pem)
    paired.store.trust("")
    assert paired.store.client().ca_bundle_pem == paired.ca_pem
    paired.store.trust(paired.ca_pem + new_pem)
    paired.store.trust(new_pem)
    assert paired.store.client().ca_bundle_pem == new_pem
    assert paired.store.client().current == paired.first


def test_a_full_disk(paired: PairedDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the gateway said holds in this process; the next write brings all of it to the disk."""
    following = paired.make_next()
    both = paired.ca_pem + new_authority().ca_pem.decode()
    before = IdentityStore(paired.store.path).client()

    def full(*_: object) -> None:
        raise DiskFull("/")

    with monkeypatch.context() as patch:
        patch.setattr(_versioned, "write_atomic", full)
        with pytest.raises(DiskFull):
            paired.store.registered(following.fingerprint)
        with pytest.raises(DiskFull):
            paired.store.trust(both)
        with pytest.raises(DiskFull):
            paired.store.new_csr(DEVICE_ID)
    client = paired.store.client()
    assert (client.current, client.next, client.pending) == (following, None, None)
    assert client.ca_bundle_pem == both
    assert IdentityStore(paired.store.path).client() == before
    paired.store.new_csr(DEVICE_ID)
    on_disk = IdentityStore(paired.store.path).client()
    assert on_disk == paired.store.client()
    assert (on_disk.current, on_disk.ca_bundle_pem) == (following, both)


def test_paired_while_the_gateway_changes_its_ca(
    store: IdentityStore, authority: Authority
) -> None:
    """The pairing was verified under the old CA, the certificate is from the new one."""
    new = new_authority()
    old_pem, both = authority.ca_pem.decode(), (authority.ca_pem + new.ca_pem).decode()
    pem = issued(new, store.new_csr(DEVICE_ID))
    for bundle in ("", new.ca_pem.decode()):
        with pytest.raises(VerificationFailed):
            store.accept(DEVICE_ID, pem, old_pem, bundle)
    store.accept(DEVICE_ID, pem, old_pem, both)
    assert store.client().ca_bundle_pem == both


def test_a_file_from_before_there_was_a_next_one(paired: PairedDevice) -> None:
    """Reads as one that has none."""
    path = paired.store.path / "node-mtls-client.json"
    kept = json.loads(path.read_bytes())
    del kept["next"]
    path.write_text(json.dumps(kept))
    assert paired.store.client().current == paired.first
    assert paired.store.client().next is None


def test_no_secret_is_shown(paired: PairedDevice) -> None:
    """Neither a file nor a certificate with its key shows more than its name."""
    paired.make_next()
    paired.store.new_csr(DEVICE_ID)
    assert "PRIVATE" not in repr(paired.store.client())


def test_what_a_later_program_added_is_kept(paired: PairedDevice) -> None:
    """Beside the certificates, and in those that stay; a file in a newer form is left alone."""
    path = paired.store.path / "node-mtls-client.json"
    later = json.loads(path.read_text())
    later["colour"] = later["current"]["note"] = "red"
    path.write_text(json.dumps(later))
    paired.store.new_csr(DEVICE_ID)
    kept = json.loads(path.read_text())
    assert kept["colour"] == kept["current"]["note"] == "red" and kept["pending"] is not None
    path.write_text(json.dumps(kept | {"schema_version": 2}))
    with pytest.raises(FileTooNew):
        paired.store.client()
    with pytest.raises(FileTooNew):
        IdentityStore(paired.store.path).drop_next()
    assert json.loads(path.read_text())["schema_version"] == 2
