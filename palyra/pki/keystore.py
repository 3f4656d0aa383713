"""The ``identity/`` directory of the gateway's state root.

``store.key`` (0600) opens the sealed files.  Each sealed file holds a key together with its
certificate, so that no crash can part them; ``ca.pem`` and ``gateway.pem`` are readable copies.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from palyra._files import check_private, make_private_dir, write_atomic
from palyra.core.identifiers import Entropy
from palyra.errors import CertificateRefused, Malformed, SealedEntryUnreadable
from palyra.pki.authority import Authority, gateway_names
from palyra.pki.certificates import PeerCertificate, Role, Subject, peer_certificate
from palyra.pki.sealing import KEY_BYTES, Sealer

_STORE_KEY = "store.key"
_CA_SEALED = "ca.key.sealed"
_CA_COPY = "ca.pem"
_GATEWAY_SEALED = "gateway.key.sealed"
_GATEWAY_COPY = "gateway.pem"
_PURPOSE = "key-and-certificate"


class GatewayIdentity:
    """The gateway's authority, its own certificate and the sealer of the state root."""

    def __init__(
        self,
        path: Path,
        *,
        authority: Authority,
        sealer: Sealer,
        gateway_id: str,
        names: Sequence[str],
    ) -> None:
        self.authority = authority
        self.sealer = sealer
        self._path = path
        self._subject = Subject(Role.GATEWAY, gateway_id, authority.trust_domain)
        self._names = tuple(names)
        self._leaf: PeerCertificate | None = None
        self._key_pem = b""

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        trust_domain: str,
        names: Iterable[str],
        gateway_id: str,
        now_ms: int,
        entropy: Entropy,
        sealed_elsewhere: bool = False,
    ) -> GatewayIdentity:
        """Load the identity in directory ``path``, or make it there on first use.

        The host name joins ``names``.  ``sealed_elsewhere`` says that the state root holds sealed
        entries outside this directory: like one inside, it forbids a fresh store key.  Raises
        :class:`SealedEntryUnreadable`, :class:`KeyFilePermission`, :class:`DirectoryNotPrivate`,
        :class:`Malformed` (a name), :class:`DiskFull`.
        """
        make_private_dir(path)
        sealer = _open_sealer(path, entropy, sealed_elsewhere)
        authority = _open_authority(path, sealer, trust_domain, now_ms, entropy)
        identity = cls(
            path,
            authority=authority,
            sealer=sealer,
            gateway_id=gateway_id,
            names=(*names, *_host_names()),
        )
        identity._load_leaf()
        identity.refresh(now_ms)
        return identity

    @property
    def gateway_chain_pem(self) -> bytes:
        """The gateway's certificate, then the CA's: devices take the last one as their root."""
        return self.gateway_certificate.certificate.public_bytes(Encoding.PEM) + (
            self.authority.ca_pem
        )

    @property
    def gateway_key_pem(self) -> bytes:
        """The private key of the gateway's certificate, PKCS #8 in clear: never write it."""
        return self._key_pem

    @property
    def gateway_certificate(self) -> PeerCertificate:
        """The certificate that the listeners show now."""
        assert self._leaf is not None, "open() makes or loads it"
        return self._leaf

    def refresh(self, now_ms: int) -> bool:
        """Issue a new certificate with a new key if it is time; whether that was done.

        It is time with under a third of its life left, before it begins, or when what it should
        say (names, id, trust domain, root) is not what it says.
        """
        if not self._is_due(now_ms):
            return False
        key = ec.generate_private_key(ec.SECP256R1())
        issued = self.authority.issue_gateway(
            key.public_key(), self._subject.id, self._names, now_ms
        )
        certificate = x509.load_der_x509_certificate(issued.der)
        _write_pair(self._path, self.sealer, _GATEWAY_SEALED, key, certificate)
        self._take_leaf(key, certificate)
        return True

    def _is_due(self, now_ms: int) -> bool:
        leaf = self._leaf
        if leaf is None or leaf.subject != self._subject:
            return True
        life_ms = leaf.not_after_ms - leaf.not_before_ms
        if not leaf.not_before_ms <= now_ms <= leaf.not_after_ms - life_ms // 3:
            return True
        try:
            leaf.certificate.verify_directly_issued_by(self.authority.ca_certificate)
        except (InvalidSignature, ValueError):
            return True
        extension = leaf.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        uri = x509.UniformResourceIdentifier(self._subject.uri)
        return set(extension.value) != {*gateway_names(self._names), uri}

    def _load_leaf(self) -> None:
        if (self._path / _GATEWAY_SEALED).exists():
            self._take_leaf(*_read_pair(self._path, self.sealer, _GATEWAY_SEALED))

    def _take_leaf(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        try:
            self._leaf = peer_certificate(certificate)
        except CertificateRefused as cause:
            raise _unreadable(_GATEWAY_SEALED, "its certificate is not a gateway's") from cause
        self._key_pem = _key_pem(key)
        _write_copy(self._path / _GATEWAY_COPY, certificate.public_bytes(Encoding.PEM))


def _open_sealer(path: Path, entropy: Entropy, sealed_elsewhere: bool) -> Sealer:
    """Load the store key, or draw one where nothing was ever sealed."""
    file = path / _STORE_KEY
    if not file.exists():
        # A fresh key would make what is sealed unreadable for ever, and look like a fresh start.
        if sealed_elsewhere or any(path.glob("*.sealed")) or (path / _CA_COPY).exists():
            raise _unreadable(_STORE_KEY, "it is missing although entries were sealed with it")
        write_atomic(file, entropy(KEY_BYTES))
    check_private(file)
    key = file.read_bytes()
    if len(key) != KEY_BYTES:
        raise _unreadable(_STORE_KEY, f"it is not {KEY_BYTES} bytes long")
    return Sealer(key, entropy=entropy)


def _open_authority(
    path: Path, sealer: Sealer, trust_domain: str, now_ms: int, entropy: Entropy
) -> Authority:
    """Load the root, or make one where no trace of another is."""
    if not (path / _CA_SEALED).exists():
        if any((path / trace).exists() for trace in (_CA_COPY, _GATEWAY_SEALED)):
            raise _unreadable(_CA_SEALED, "it is missing although it was made before")
        fresh = Authority.create(trust_domain=trust_domain, now_ms=now_ms, entropy=entropy)
        _write_pair(path, sealer, _CA_SEALED, fresh.ca_key, fresh.ca_certificate)
    key, certificate = _read_pair(path, sealer, _CA_SEALED)
    try:
        authority = Authority(certificate, key, trust_domain=trust_domain, entropy=entropy)
    except (CertificateRefused, Malformed) as cause:
        raise _unreadable(_CA_SEALED, "its certificate is not that of an authority") from cause
    _write_copy(path / _CA_COPY, authority.ca_pem)
    return authority


def _read_pair(
    path: Path, sealer: Sealer, name: str
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    check_private(path / name)
    sealed = (path / name).read_bytes()
    plain = sealer.open(sealed, path="identity", entry=name, purpose=_PURPOSE)
    try:
        key = load_pem_private_key(plain, None)
        certificate = x509.load_pem_x509_certificate(plain)
    except (ValueError, TypeError) as cause:
        raise _unreadable(name, "it does not hold a key and its certificate") from cause
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise _unreadable(name, "its key is not ECDSA")
    if key.public_key() != certificate.public_key():
        raise _unreadable(name, "its key and its certificate do not belong together")
    return key, certificate


def _write_pair(
    path: Path,
    sealer: Sealer,
    name: str,
    key: ec.EllipticCurvePrivateKey,
    certificate: x509.Certificate,
) -> None:
    plain = _key_pem(key) + certificate.public_bytes(Encoding.PEM)
    sealed = sealer.seal(plain, path="identity", entry=name, purpose=_PURPOSE)
    write_atomic(path / name, sealed)


def _write_copy(file: Path, pem: bytes) -> None:
    """Keep the readable copy equal to what is sealed, which alone counts."""
    with contextlib.suppress(FileNotFoundError):
        if file.read_bytes() == pem:
            return
    write_atomic(file, pem)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _host_names() -> tuple[str, ...]:
    """The machine's own name, where it is one that a certificate can carry."""
    name = socket.gethostname()
    try:
        gateway_names([name])
    except Malformed:
        return ()
    return (name,)


def _unreadable(name: str, problem: str) -> SealedEntryUnreadable:
    return SealedEntryUnreadable(f"identity/{name}", problem)
