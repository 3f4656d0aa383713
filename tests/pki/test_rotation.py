"""From one CA to the next, without a moment in which a paired device trusts nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from palyra.errors import CertificateRefused, DiskFull, RotationRunning, SealedEntryUnreadable
from palyra.pki.authority import DAY_MS, HOUR_MS
from palyra.pki.certificates import Role, read_certificate
from palyra.pki.keystore import GatewayIdentity
from palyra.pki.rotation import CaRotation
from palyra.pki.trust import ChainVerifier

from .conftest import DEVICE, NOW_MS
from .crashing import Crash, CrashingWrites

LATER_MS = NOW_MS + HOUR_MS
Step = Callable[[GatewayIdentity], Any]
STEPS: dict[str, Step] = {
    "begin": lambda identity: identity.begin_rotation(NOW_MS),
    "switch": lambda identity: identity.switch(LATER_MS),
    "finish": lambda identity: identity.finish(LATER_MS + DAY_MS),
}
NAMES = tuple(STEPS)
PHASE_AFTER = {"begin": "overlap", "switch": "switched", "finish": None}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "identity"


def opened(path: Path, now_ms: int = NOW_MS) -> GatewayIdentity:
    return GatewayIdentity.open(
        path,
        trust_domain="palyra.test",
        names=[],
        gateway_id="g1",
        now_ms=now_ms,
        entropy=os.urandom,
        environ={},
    )


def prepared(path: Path, until: str) -> GatewayIdentity:
    """An identity that has taken every step before ``until``."""
    identity = opened(path)
    for step in NAMES[: NAMES.index(until)]:
        STEPS[step](identity)
    return identity


def phase(identity: GatewayIdentity) -> str | None:
    return identity.rotation.phase if identity.rotation is not None else None


def full_disk(at: int) -> CrashingWrites:
    return CrashingWrites(at, error=DiskFull("/"))


def roots_in(pem: bytes) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(pem)


def check_whole(path: Path, identity: GatewayIdentity) -> None:
    """What holds in every phase: served by a trusted CA, copies right, hashes of the roots."""
    ChainVerifier(identity.roots, "palyra.test").verify(
        identity.gateway_certificate, LATER_MS, Role.GATEWAY
    )
    leaf, last = roots_in(identity.gateway_chain_pem)
    leaf.verify_directly_issued_by(last)
    assert last in identity.roots
    assert roots_in(identity.serving_ca_pem) == [last]
    assert roots_in(identity.ca_bundle_pem) == list(identity.roots)
    assert roots_in((path / "gateway.pem").read_bytes()) == [leaf]
    in_copy = roots_in((path / "ca.pem").read_bytes())
    assert in_copy[0] == last and set(in_copy) == set(identity.roots)
    assert [each.hex() for each in identity.ca_hashes] == [
        each.ca_hash for each in identity.authorities
    ]


def test_steady(path: Path) -> None:
    """Without a rotation there is one CA, which issues, serves and is trusted."""
    identity = opened(path)
    check_whole(path, identity)
    assert identity.rotation is None
    assert identity.authorities == (identity.issuing,)
    assert identity.serving_ca_hash == identity.issuing.ca_hash


def test_overlap(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """The new CA issues, the old one serves as before, both are trusted."""
    identity = opened(path)
    old, chain = identity.issuing, identity.gateway_chain_pem
    before = read_certificate(old.issue_device(key.public_key(), DEVICE, NOW_MS).pem)
    rotation = identity.begin_rotation(NOW_MS)
    new = identity.issuing
    assert rotation == CaRotation("overlap", NOW_MS, None, old.ca_hash, new.ca_hash)
    assert identity.rotation == rotation
    assert identity.authorities == (new, old)
    assert identity.gateway_chain_pem == chain
    assert identity.serving_ca_hash == old.ca_hash
    issued = new.issue_device(key.public_key(), DEVICE, NOW_MS)
    assert issued.issuer == new.ca_hash
    verifier = ChainVerifier(identity.roots, "palyra.test")
    for peer in (before, read_certificate(issued.pem)):
        verifier.verify(peer, NOW_MS, Role.DEVICE)
    check_whole(path, identity)


def test_names_and_key_ids_differ(path: Path) -> None:
    """A verifier that looks a CA up by its subject or its key id finds the right one."""
    identity = opened(path)
    identity.begin_rotation(NOW_MS)
    one, other = identity.roots
    assert one.subject != other.subject
    assert one.serial_number != other.serial_number
    assert len({_key_id(each) for each in identity.roots}) == 2


def _key_id(root: x509.Certificate) -> bytes:
    return root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest


def test_switched(path: Path) -> None:
    """The listeners show a new certificate of the new CA; both are still trusted."""
    identity = prepared(path, "switch")
    old_leaf, old_key = identity.gateway_certificate, identity.gateway_key_pem
    assert identity.switch(LATER_MS)
    assert identity.rotation is not None
    assert (phase(identity), identity.rotation.switched_at_ms) == ("switched", LATER_MS)
    assert identity.rotation.started_at_ms == NOW_MS
    assert identity.serving_ca_hash == identity.rotation.new == identity.issuing.ca_hash
    assert identity.gateway_certificate.fingerprint != old_leaf.fingerprint
    assert identity.gateway_key_pem != old_key
    assert len(identity.roots) == 2
    check_whole(path, identity)


def test_finished(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """The old CA is trusted no more, and its key is nowhere on the disk."""
    identity = opened(path)
    old = identity.issuing
    device = read_certificate(old.issue_device(key.public_key(), DEVICE, NOW_MS).pem)
    for step in STEPS.values():
        step(identity)
    assert identity.rotation is None
    assert identity.authorities == (identity.issuing,)
    assert identity.issuing.ca_hash != old.ca_hash
    with pytest.raises(CertificateRefused, match="foreign ca"):
        ChainVerifier(identity.roots, "palyra.test").verify(device, NOW_MS, Role.DEVICE)
    check_whole(path, identity)
    files = sorted(file.name for file in path.iterdir())
    assert files == ["ca.key.sealed", "ca.pem", "gateway.key.sealed", "gateway.pem", "store.key"]
    sealed = (path / "ca.key.sealed").read_bytes()
    plain = identity.sealer.open(
        sealed, path="identity", entry="ca.key.sealed", purpose="key-and-certificate"
    )
    assert plain.count(b"PRIVATE KEY") == 2  # one key: where it begins and where it ends


@pytest.mark.parametrize("until", NAMES)
def test_reopened(path: Path, until: str) -> None:
    """A restart in any phase changes nothing."""
    first = prepared(path, until)
    second = opened(path, LATER_MS)
    assert second.rotation == first.rotation
    assert second.ca_hashes == first.ca_hashes
    assert second.gateway_chain_pem == first.gateway_chain_pem
    check_whole(path, second)


def test_only_one(path: Path) -> None:
    """A second rotation is refused until the first is finished."""
    identity = opened(path)
    identity.begin_rotation(NOW_MS)
    hashes = identity.ca_hashes
    for again in (identity, opened(path)):
        with pytest.raises(RotationRunning):
            again.begin_rotation(NOW_MS)
    identity.switch(LATER_MS)
    with pytest.raises(RotationRunning):
        identity.begin_rotation(NOW_MS)
    assert identity.ca_hashes == hashes
    identity.finish(LATER_MS)
    identity.begin_rotation(LATER_MS)
    assert set(identity.ca_hashes).isdisjoint(hashes[1:])


def test_steps_out_of_turn(path: Path) -> None:
    """A step that is not due is not taken: trust is never dropped before the switch."""
    identity = opened(path)
    assert not identity.switch(NOW_MS) and not identity.finish(NOW_MS)
    identity.begin_rotation(NOW_MS)
    assert not identity.finish(NOW_MS)
    assert identity.switch(NOW_MS) and not identity.switch(LATER_MS)
    assert identity.rotation is not None and identity.rotation.switched_at_ms == NOW_MS
    assert identity.finish(NOW_MS) and not identity.finish(NOW_MS)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", NAMES)
def test_crash_anywhere(
    path: Path, step: str, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash at any write of a step leaves the state before it or after it, and it can go on."""
    before = prepared(path, step)
    for at in range(10):
        copy = path.with_name(f"crash-{at}")
        shutil.copytree(path, copy)
        victim = opened(copy)
        writes = CrashingWrites(at, after=after)
        with writes.in_place(monkeypatch):
            try:
                STEPS[step](victim)
            except Crash:
                pass
            else:
                break
        again = opened(copy, LATER_MS)
        check_whole(copy, again)
        assert phase(again) in (phase(before), PHASE_AFTER[step])
        _known_to_devices(before, again, step)
        if phase(again) == phase(before):
            STEPS[step](again)
        assert phase(again) == PHASE_AFTER[step]
        check_whole(copy, again)
    assert at == {"begin": 2, "switch": 4, "finish": 2}[step]


def _known_to_devices(before: GatewayIdentity, after: GatewayIdentity, step: str) -> None:
    """Before the switch every device can verify the listeners; roots go only by finishing."""
    if step == "begin":
        assert after.serving_ca_hash == before.serving_ca_hash
    if step != "finish":
        assert set(before.ca_hashes) <= set(after.ca_hashes)


@pytest.mark.parametrize("step", NAMES)
def test_full_disk(path: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway that goes on after a failed write is what the disk says, and can try again."""
    identity = prepared(path, step)
    expected = (identity.rotation, identity.ca_hashes, identity.gateway_chain_pem)

    with full_disk(0).in_place(monkeypatch), pytest.raises(DiskFull):
        STEPS[step](identity)
    assert (identity.rotation, identity.ca_hashes, identity.gateway_chain_pem) == expected
    STEPS[step](identity)
    assert phase(identity) == PHASE_AFTER[step]
    check_whole(path, identity)


@pytest.mark.parametrize("step", NAMES)
def test_disk_full_after_the_step(path: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that reached the disk does not fail for the sake of what follows it, which the next
    refresh does: the caller must know of the other trust at once."""
    identity = prepared(path, step)
    with full_disk(1).in_place(monkeypatch):
        assert STEPS[step](identity)
    assert phase(identity) == PHASE_AFTER[step]
    ChainVerifier(identity.roots, "palyra.test").verify(
        identity.gateway_certificate, LATER_MS, Role.GATEWAY
    )
    identity.refresh(LATER_MS)
    check_whole(path, identity)


def test_switch_half_done(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a switch whose certificate could not be written, the old chain is shown until a
    refresh, and finishing does not leave the listeners with the certificate of a dropped CA."""
    identity = prepared(path, "switch")
    chain = identity.gateway_chain_pem
    with full_disk(1).in_place(monkeypatch):
        assert identity.switch(LATER_MS)
        assert identity.gateway_chain_pem == chain
        assert identity.rotation is not None
        assert identity.serving_ca_hash == identity.rotation.old
        for again in (identity.refresh, identity.finish):
            with pytest.raises(DiskFull):
                again(LATER_MS)
    assert phase(identity) == "switched"
    assert identity.finish(LATER_MS)
    assert identity.serving_ca_hash == identity.issuing.ca_hash
    check_whole(path, identity)


@pytest.mark.parametrize("until", ["switch", "finish"])
def test_store_key_moves_in_the_middle(path: Path, tmp_path: Path, until: str) -> None:
    """A provided store key takes over a rotation as it stands."""
    first = prepared(path, until)
    file = tmp_path / "operators.key"
    file.write_bytes(b"K" * 32)
    file.chmod(0o600)
    second = GatewayIdentity.open(
        path,
        trust_domain="palyra.test",
        names=[],
        gateway_id="g1",
        now_ms=LATER_MS,
        entropy=os.urandom,
        store_key_file=file,
        environ={},
    )
    assert second.rotation == first.rotation
    assert second.ca_hashes == first.ca_hashes


@pytest.mark.parametrize(
    "plain",
    [
        b"{",
        b"{}",
        b'{"schema_version":2}',
        b'{"schema_version":1,"phase":"done","started_at_ms":1,"switched_at_ms":null,'
        b'"old":"","new":""}',
    ],
)
def test_nonsense(path: Path, plain: bytes) -> None:
    """A sealed rotation that does not say where it stands is refused with that reason."""
    sealer = opened(path).sealer
    sealed = sealer.seal(
        plain, path="identity", entry="ca.key.sealed", purpose="key-and-certificate"
    )
    (path / "ca.key.sealed").write_bytes(sealed)
    with pytest.raises(SealedEntryUnreadable, match="how far the CA rotation is"):
        opened(path)


def test_no_secret_in_repr(path: Path) -> None:
    """What is logged of a rotation and its CAs holds no key."""
    identity = opened(path)
    rotation = identity.begin_rotation(NOW_MS)
    shown = repr((rotation, identity.authorities, identity))
    assert "PRIVATE" not in shown and "BEGIN" not in shown


def test_old_ca_ran_out(path: Path) -> None:
    """In an overlap with a CA whose life is over the new one serves: nobody trusts the other."""
    identity = opened(path)
    over_ms = identity.issuing.ca_not_after_ms + DAY_MS
    rotation = identity.begin_rotation(over_ms)
    assert identity.serving_ca_hash == rotation.new
    assert opened(path, over_ms).serving_ca_hash == rotation.new
