"""The ``identity/`` directory of the gateway's state root.

The store key (:mod:`palyra.pki.storekey`) opens the sealed files: ``ca.key.sealed`` with the CAs
(:mod:`palyra.pki.rotation`) and ``gateway.key.sealed`` with what the listeners show.  ``ca.pem``
(all roots, the one in use by the listeners first) and ``gateway.pem`` are readable copies.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import attrs
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from palyra._files import make_private_dir
from palyra.core.identifiers import Entropy
from palyra.errors import CertificateRefused, DiskFull, Malformed
from palyra.pki.authority import Authority, gateway_names
from palyra.pki.certificates import PeerCertificate, Role, Subject, peer_certificate
from palyra.pki.keypair import (
    key_pem,
    pair_pem,
    read_pair,
    read_sealed,
    unreadable,
    write_copy,
    write_sealed,
)
from palyra.pki.rotation import Authorities, CaRotation
from palyra.pki.sealing import Sealer
from palyra.pki.storekey import open_sealer

_CA_COPY = "ca.pem"
_GATEWAY_SEALED = "gateway.key.sealed"
_GATEWAY_COPY = "gateway.pem"


@attrs.frozen
class _Served:
    """What the listeners show: a key, its certificate, and the CA that signed that."""

    leaf: PeerCertificate
    signer: Authority
    key_pem: bytes = attrs.field(repr=False)
    chain_pem: bytes


class GatewayIdentity:
    """The gateway's CAs, its own certificate and the sealer of the state root.

    It is changed in one thread only; what is served and what is trusted may be read in any: each
    is one value, replaced whole once it is on the disk.
    """

    def __init__(
        self,
        path: Path,
        *,
        authorities: Authorities,
        sealer: Sealer,
        gateway_id: str,
        names: Sequence[str],
        entropy: Entropy,
    ) -> None:
        self.sealer = sealer
        self._authorities = authorities
        self._path = path
        self._subject = Subject(Role.GATEWAY, gateway_id, authorities.issuing.trust_domain)
        self._names = tuple(names)
        self._entropy = entropy
        self._shown: _Served | None = None

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
        store_key_file: Path | None = None,
        environ: Mapping[str, str] = os.environ,
        sealed_elsewhere: bool = False,
    ) -> GatewayIdentity:
        """Load the identity in directory ``path``, or make it there on first use.

        The host name joins ``names``.  ``sealed_elsewhere`` says that the state root holds sealed
        entries outside this directory: like one inside, it forbids a fresh store key.  Raises
        :class:`SealedEntryUnreadable`, :class:`StoreKeyUnusable`, :class:`KeyFilePermission`,
        :class:`DirectoryNotPrivate`, :class:`Malformed` (a name), :class:`DiskFull`.
        """
        make_private_dir(path)
        sealer = open_sealer(
            path,
            entropy=entropy,
            store_key_file=store_key_file,
            environ=environ,
            traces=(_CA_COPY,),
            sealed_elsewhere=sealed_elsewhere,
        )
        authorities = Authorities.open(
            path,
            sealer,
            trust_domain=trust_domain,
            now_ms=now_ms,
            entropy=entropy,
            traces=(_CA_COPY, _GATEWAY_SEALED),
        )
        identity = cls(
            path,
            authorities=authorities,
            sealer=sealer,
            gateway_id=gateway_id,
            names=(*names, *_host_names()),
            entropy=entropy,
        )
        identity._load_leaf()
        identity.refresh(now_ms)
        return identity

    # -- the CAs ----------------------------------------------------------------------------

    @property
    def issuing(self) -> Authority:
        """The CA that signs the certificates of devices and operators."""
        return self._authorities.issuing

    @property
    def authorities(self) -> tuple[Authority, ...]:
        """Every CA whose key is here, the issuing one first; each signs a CRL of its own."""
        return self._authorities.all

    @property
    def roots(self) -> tuple[x509.Certificate, ...]:
        """The certificates of all CAs that are trusted, the issuing one's first."""
        return tuple(each.ca_certificate for each in self.authorities)

    @property
    def ca_bundle_pem(self) -> bytes:
        """:attr:`roots` as PEM: what devices are told to trust."""
        return b"".join(each.ca_pem for each in self.authorities)

    @property
    def ca_hashes(self) -> tuple[bytes, ...]:
        """SHA-256 of the DER of each of :attr:`roots`: what a device may have bound."""
        return tuple(bytes.fromhex(each.ca_hash) for each in self.authorities)

    @property
    def serving_ca_hash(self) -> str:
        """Of the CA that signed the listeners' certificate: what a fresh device sees and binds."""
        return self._serving.signer.ca_hash

    @property
    def serving_ca_pem(self) -> bytes:
        """The CA certificate that :attr:`gateway_chain_pem` ends with."""
        return self._serving.signer.ca_pem

    @property
    def rotation(self) -> CaRotation | None:
        """How far the rotation of the CA is; None when there is none."""
        return self._authorities.rotation

    def begin_rotation(self, now_ms: int) -> CaRotation:
        """Make a new CA: it issues from now on, both are trusted, the listeners keep the old.

        :class:`RotationRunning` if one runs; :class:`DiskFull`, with nothing changed.
        """
        rotation = self._authorities.begin(now_ms, self._entropy)
        self._follow(now_ms)
        return rotation

    def switch(self, now_ms: int) -> bool:
        """End the overlap: the listeners' certificate is issued anew, by the new CA.

        False where there is no overlap.  :class:`DiskFull`, with nothing changed.
        """
        if not self._authorities.switch(now_ms):
            return False
        self._follow(now_ms)
        return True

    def finish(self, now_ms: int) -> bool:
        """End the rotation: key and trust of the old CA are gone.

        False where :meth:`switch` was not taken.  :class:`DiskFull`, with the old CA still there.
        """
        # First, lest the listeners are left with the certificate of a CA that is gone.
        self.refresh(now_ms)
        if not self._authorities.finish():
            return False
        self._write_copies()
        return True

    def _follow(self, now_ms: int) -> None:
        """Bring the certificate after the CAs.

        A step that is on the disk has been taken, and its caller must act on it: when there is no
        room for what follows, the next :meth:`refresh` tries again and says so.
        """
        with contextlib.suppress(OSError, DiskFull):
            self.refresh(now_ms)

    # -- the gateway's own certificate ------------------------------------------------------

    @property
    def served(self) -> tuple[bytes, bytes]:
        """:attr:`gateway_key_pem` and :attr:`gateway_chain_pem`, which belong together.

        Whoever needs both asks here: between two questions the certificate may be renewed.
        """
        serving = self._serving
        return serving.key_pem, serving.chain_pem

    @property
    def gateway_chain_pem(self) -> bytes:
        """The gateway's certificate, then its CA's: devices take the last one as their root."""
        return self._serving.chain_pem

    @property
    def gateway_key_pem(self) -> bytes:
        """The private key of the gateway's certificate, PKCS #8 in clear: never write it."""
        return self._serving.key_pem

    @property
    def gateway_certificate(self) -> PeerCertificate:
        """The certificate that the listeners show now."""
        return self._serving.leaf

    def refresh(self, now_ms: int) -> bool:
        """Issue a new certificate with a new key if it is time; whether that was done.

        It is time with under a third of its life left, before it begins, or when what it should
        say (names, id, trust domain, CA) is not what it says.  A CA whose life is over leaves its
        last certificate as it is.
        """
        signer = self._authorities.serving(now_ms)
        due = self._is_due(signer, now_ms)
        if due:
            self._renew(signer, now_ms)
        self._write_copies()
        return due

    def _renew(self, signer: Authority, now_ms: int) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        issued = signer.issue_gateway(key.public_key(), self._subject.id, self._names, now_ms)
        certificate = x509.load_der_x509_certificate(issued.der)
        write_sealed(self._path, self.sealer, _GATEWAY_SEALED, pair_pem(key, certificate))
        self._shown = _served(key, certificate, signer)

    @property
    def _serving(self) -> _Served:
        assert self._shown is not None, "open() makes or loads it"
        return self._shown

    def _is_due(self, signer: Authority, now_ms: int) -> bool:
        shown = self._shown
        if shown is None or shown.signer is not signer:
            return True
        if now_ms > signer.ca_not_after_ms:
            return False
        leaf = shown.leaf
        if leaf.subject != self._subject or now_ms < leaf.not_before_ms:
            return True
        # The last one that a CA can give ends with it: another would not live any longer.
        last = leaf.not_after_ms == signer.ca_not_after_ms
        third_ms = (leaf.not_after_ms - leaf.not_before_ms) // 3
        if now_ms > leaf.not_after_ms - third_ms and not last:
            return True
        extension = leaf.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        uri = x509.UniformResourceIdentifier(self._subject.uri)
        return set(extension.value) != {*gateway_names(self._names), uri}

    def _load_leaf(self) -> None:
        """What was served before; nothing where the CA that signed it is not here any more."""
        if not (self._path / _GATEWAY_SEALED).exists():
            return
        plain = read_sealed(self._path, self.sealer, _GATEWAY_SEALED)
        key, certificate = read_pair(plain, _GATEWAY_SEALED)
        signer = next((each for each in self.authorities if _signed(each, certificate)), None)
        try:
            peer_certificate(certificate)
        except CertificateRefused as cause:
            raise unreadable(_GATEWAY_SEALED, "its certificate is not a gateway's") from cause
        self._shown = None if signer is None else _served(key, certificate, signer)

    def _write_copies(self) -> None:
        """Of the roots the serving one comes first: it is the one that a device takes as its CA."""
        serving = self._serving
        others = [each.ca_pem for each in self.authorities if each is not serving.signer]
        write_copy(self._path / _CA_COPY, b"".join([serving.signer.ca_pem, *others]))
        leaf = serving.leaf.certificate
        write_copy(self._path / _GATEWAY_COPY, leaf.public_bytes(Encoding.PEM))


def _served(
    key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate, signer: Authority
) -> _Served:
    return _Served(
        leaf=peer_certificate(certificate),
        signer=signer,
        key_pem=key_pem(key),
        chain_pem=certificate.public_bytes(Encoding.PEM) + signer.ca_pem,
    )


def _signed(authority: Authority, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority.ca_certificate)
    except (InvalidSignature, ValueError):
        return False
    return True


def _host_names() -> tuple[str, ...]:
    """The machine's own name, where it is one that a certificate can carry."""
    name = socket.gethostname()
    try:
        gateway_names([name])
    except Malformed:
        return ()
    return (name,)
