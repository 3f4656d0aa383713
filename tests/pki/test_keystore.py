"""The identity of a gateway, made once and kept."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from palyra.errors import KeyFilePermission, Malformed, SealedEntryUnreadable
from palyra.pki.authority import DAY_MS, Authority
from palyra.pki.certificates import Role
from palyra.pki.keystore import GatewayIdentity
from palyra.pki.trust import ChainVerifier

from .conftest import NOW_MS, POSIX_ONLY


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "identity"


def opened(path: Path, **asked: Any) -> GatewayIdentity:
    arguments: dict[str, Any] = {
        "trust_domain": "palyra.test",
        "names": ["gate.example"],
        "gateway_id": "g1",
        "now_ms": NOW_MS,
        "entropy": os.urandom,
    }
    return GatewayIdentity.open(path, **{**arguments, **asked})


def unreadable(path: Path, **asked: Any) -> str:
    with pytest.raises(SealedEntryUnreadable) as refused:
        opened(path, **asked)
    return str(refused.value)


def reseal(path: Path, entry: str, plain: bytes) -> None:
    """Put something else under the seal, as only a fault of ours could."""
    sealer = opened(path).sealer
    sealed = sealer.seal(plain, path="identity", entry=entry, purpose="key-and-certificate")
    (path / entry).write_bytes(sealed)


def sans(identity: GatewayIdentity) -> list[str]:
    extensions = identity.gateway_certificate.certificate.extensions
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.DNSName)


def test_first_use(path: Path) -> None:
    """First use makes an authority and a gateway certificate that its chain verifies."""
    identity = opened(path)
    root = identity.issuing.ca_certificate
    chain = ChainVerifier([root], "palyra.test")
    chain.verify(identity.gateway_certificate, NOW_MS, Role.GATEWAY)
    leaf, last = x509.load_pem_x509_certificates(identity.gateway_chain_pem)
    assert (leaf, last) == (identity.gateway_certificate.certificate, root)
    key = load_pem_private_key(identity.gateway_key_pem, None)
    assert key.public_key() == leaf.public_key()
    assert "gate.example" in sans(identity)


@POSIX_ONLY
def test_modes(path: Path) -> None:
    """The directory is 0700, every file in it 0600, and no file holds a key in clear."""
    identity = opened(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    files = sorted(path.iterdir())
    assert [file.name for file in files] == [
        "ca.key.sealed",
        "ca.pem",
        "gateway.key.sealed",
        "gateway.pem",
        "store.key",
    ]
    for file in files:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert b"PRIVATE" not in file.read_bytes()
    assert (path / "ca.pem").read_bytes() == identity.issuing.ca_pem


def test_reopened(path: Path) -> None:
    """A second start has the same authority, certificate and key, and writes nothing."""
    first = opened(path)
    before = {file.name: file.stat().st_mtime_ns for file in path.iterdir()}
    second = opened(path)
    assert second.issuing.ca_hash == first.issuing.ca_hash
    assert second.gateway_chain_pem == first.gateway_chain_pem
    assert second.gateway_key_pem == first.gateway_key_pem
    assert {file.name: file.stat().st_mtime_ns for file in path.iterdir()} == before


@POSIX_ONLY
@pytest.mark.parametrize("name", ["store.key", "ca.key.sealed", "gateway.key.sealed"])
def test_readable_by_others(path: Path, name: str) -> None:
    """A key file that others may read is refused and named."""
    opened(path)
    (path / name).chmod(0o640)
    with pytest.raises(KeyFilePermission) as refused:
        opened(path)
    assert refused.value.path.endswith(name) and refused.value.mode == 0o640


@pytest.mark.parametrize("left", ["ca.key.sealed", "gateway.key.sealed", "ca.pem"])
def test_lost_store_key(path: Path, left: str) -> None:
    """No fresh store key is made while anything sealed with the old one, or a root, is there."""
    opened(path)
    for file in path.iterdir():
        if file.name != left:
            file.unlink()
    assert "store.key cannot be read: it is missing" in unreadable(path)
    assert [file.name for file in path.iterdir()] == [left]


def test_sealed_elsewhere(path: Path) -> None:
    """Sealed entries outside the directory forbid a fresh store key too."""
    assert "it is missing" in unreadable(path, sealed_elsewhere=True)
    opened(path)
    opened(path, sealed_elsewhere=True)


@pytest.mark.parametrize("left", ["ca.pem", "gateway.key.sealed"])
def test_lost_authority(path: Path, left: str) -> None:
    """A root that was made before is never silently replaced by another."""
    opened(path)
    for file in path.iterdir():
        if file.name not in (left, "store.key"):
            file.unlink()
    assert "ca.key.sealed cannot be read: it is missing" in unreadable(path)


def test_crash_while_made(path: Path) -> None:
    """A crash after any of the first writes leaves a directory that opens."""
    first = opened(path)
    for lost in ("gateway.pem", "gateway.key.sealed", "ca.pem"):
        (path / lost).unlink()
        assert opened(path).issuing.ca_hash == first.issuing.ca_hash
    for lost in ("gateway.pem", "gateway.key.sealed", "ca.pem", "ca.key.sealed"):
        (path / lost).unlink()
    assert opened(path).issuing.ca_hash != first.issuing.ca_hash


def test_readable_copy_is_only_a_copy(path: Path) -> None:
    """A changed ca.pem has no effect and is put right."""
    first = opened(path)
    (path / "ca.pem").write_bytes(b"another root")
    assert opened(path).issuing.ca_hash == first.issuing.ca_hash
    assert (path / "ca.pem").read_bytes() == first.issuing.ca_pem


def test_wrong_store_key(path: Path) -> None:
    """A store key of another installation, or a cut one, is refused with its reason."""
    opened(path)
    (path / "store.key").write_bytes(b"k" * 32)
    assert "another store key" in unreadable(path)
    (path / "store.key").write_bytes(b"k" * 31)
    assert "32 bytes" in unreadable(path)


def test_swapped_entries(path: Path) -> None:
    """A sealed entry under another's name does not open."""
    opened(path)
    (path / "ca.key.sealed").write_bytes((path / "gateway.key.sealed").read_bytes())
    assert "ca.key.sealed cannot be read: it is damaged or out of place" in unreadable(path)


def pair(
    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey, certificate_pem: bytes
) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate_pem


def test_sealed_nonsense(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """What opens but is not a key with its own certificate is refused with its reason."""
    identity = opened(path)
    root = identity.issuing
    edwards = ed25519.Ed25519PrivateKey.generate()
    for plain, why in (
        (b"nonsense", "does not hold a key"),
        (pair(edwards, root.ca_pem), "not ECDSA"),
        (pair(key, root.ca_pem), "do not belong together"),
    ):
        reseal(path, "gateway.key.sealed", plain)
        assert why in unreadable(path)
        (path / "gateway.key.sealed").unlink()


def test_wrong_kinds(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """A root in the gateway's place and a leaf in the root's place are refused."""
    authority = opened(path).issuing
    reseal(path, "gateway.key.sealed", pair(authority.ca_key, authority.ca_pem))
    assert "not a gateway's" in unreadable(path)
    (path / "gateway.key.sealed").unlink()
    leaf = authority.issue_gateway(key.public_key(), "g1", [], NOW_MS)
    reseal(path, "ca.key.sealed", pair(key, leaf.pem))
    assert "not that of an authority" in unreadable(path)


class TestReissue:
    def test_when_due(self, path: Path) -> None:
        """With under a third of its life left the certificate is replaced, with a new key."""
        identity = opened(path)
        before = identity.gateway_key_pem
        leaf = identity.gateway_certificate
        life_ms = leaf.not_after_ms - leaf.not_before_ms
        due_ms = leaf.not_after_ms - life_ms // 3 + 1
        assert not identity.refresh(due_ms - 1)
        assert identity.gateway_key_pem == before
        assert identity.refresh(due_ms)
        assert identity.gateway_key_pem != before
        assert identity.gateway_certificate.not_after_ms == due_ms // 1000 * 1000 + 30 * DAY_MS
        assert opened(path, now_ms=due_ms).gateway_key_pem == identity.gateway_key_pem

    @pytest.mark.parametrize(
        "asked",
        [
            {"names": ["gate.example", "10.0.0.1"]},
            {"names": []},
            {"gateway_id": "g2"},
            {"trust_domain": "other.test"},
            {"now_ms": NOW_MS - DAY_MS},
            {"now_ms": NOW_MS + 60 * DAY_MS},
        ],
    )
    def test_when_changed(self, path: Path, asked: dict[str, Any]) -> None:
        """Other names, another id or trust domain, or dates that do not fit: a new one."""
        first = opened(path)
        second = opened(path, **asked)
        assert second.gateway_key_pem != first.gateway_key_pem
        assert second.issuing.ca_hash == first.issuing.ca_hash

    def test_other_order(self, path: Path) -> None:
        """The same names in another order or case are the same names."""
        first = opened(path, names=["a.example", "b.example"])
        second = opened(path, names=["B.example", "a.example", "a.example"])
        assert second.gateway_key_pem == first.gateway_key_pem

    def test_other_root(self, path: Path, key: ec.EllipticCurvePrivateKey) -> None:
        """A certificate of another root is replaced."""
        identity = opened(path)
        other = Authority.create(trust_domain="palyra.test", now_ms=NOW_MS, entropy=os.urandom)
        leaf = other.issue_gateway(key.public_key(), "g1", ["gate.example"], NOW_MS)
        reseal(path, "gateway.key.sealed", pair(key, leaf.pem))
        again = opened(path)
        assert again.gateway_certificate.fingerprint != leaf.fingerprint
        chain = ChainVerifier([identity.issuing.ca_certificate], "palyra.test")
        chain.verify(again.gateway_certificate, NOW_MS, Role.GATEWAY)


def test_host_name(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host name is in the certificate; one that no certificate can carry is left out."""
    monkeypatch.setattr("socket.gethostname", lambda: "tower")
    assert "tower" in sans(opened(path))
    monkeypatch.setattr("socket.gethostname", lambda: "a host!")
    assert sans(opened(path)) == ["palyrad-node-rpc", "localhost", "gate.example"]


def test_bad_name(path: Path) -> None:
    """A configured name that no certificate can carry is an error, not left out."""
    with pytest.raises(Malformed, match="names"):
        opened(path, names=["not a name"])
