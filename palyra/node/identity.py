"""The device's identity and certificate: made here, kept 0600, never sent.

``device-identity.json`` holds the Ed25519 key that is the device; ``node-mtls-client.json`` holds
the current certificate with its key, the next one that no session was opened with yet, and the key
and CSR of one that was asked for (pending).  It is one file, so that no crash parts them.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TypeVar

import attrs
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509 import load_pem_x509_certificate

from palyra._files import make_private_dir
from palyra._versioned import VersionedFile
from palyra.core.identifiers import DeviceId, Entropy, Fingerprint, new_ulid, parse_ulid, sha256_hex
from palyra.errors import Malformed, MalformedIdentifier, StoreCorrupt, VerificationFailed
from palyra.node.roots import Roots
from palyra.pki.certificates import Role, certificate_fingerprint, read_certificate
from palyra.pki.csr import make_csr

SCHEMA_VERSION = 1
S = TypeVar("S", bound=msgspec.Struct)


class _Secret(msgspec.Struct, frozen=True):
    """A file's content that no log or error may show."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class _IdentityFile(_Secret, frozen=True):
    schema_version: int
    device_id: str
    signing_key: str
    created_at_unix_ms: int


class Credential(_Secret, frozen=True):
    """A certificate and its private key, PEM."""

    certificate_pem: str
    private_key_pem: str
    cert_expires_at_unix_ms: int

    @property
    def fingerprint(self) -> Fingerprint:
        """SHA-256 of the certificate's DER."""
        certificate = load_pem_x509_certificate(self.certificate_pem.encode())
        return certificate_fingerprint(certificate)

    @property
    def pair(self) -> tuple[bytes, bytes]:
        """Key and certificate chain, as TLS takes them."""
        return self.private_key_pem.encode(), self.certificate_pem.encode()


class PendingKey(_Secret, frozen=True):
    """A key whose certificate was asked for; the same CSR is sent until it is answered."""

    csr_der: str
    private_key_pem: str


class ClientFile(msgspec.Struct, frozen=True):
    """``node-mtls-client.json``.  ``next`` was issued, and no session was opened with it yet."""

    schema_version: int
    ca_bundle_pem: str = ""
    current: Credential | None = None
    next: Credential | None = None
    pending: PendingKey | None = None

    def usable(self, now_ms: int) -> list[Credential]:
        """The certificates that have not run out, the one to try first before the other."""
        return [each for each in self.held if now_ms < each.cert_expires_at_unix_ms]

    @property
    def held(self) -> list[Credential]:
        """The certificates, in the same order, whatever their dates."""
        return [each for each in (self.next, self.current) if each is not None]


class PairingFile(_Secret, frozen=True):
    """``pairing.json``: a pairing session that waits for an operator; survives a restart.

    Without a ``request_id`` the answer that names it was not heard yet.  No status proof has used
    a number above ``counter``, but where the disk was full.  ``name`` is what the device called
    itself when it asked.
    """

    schema_version: int
    session_id: str
    request_id: str
    gateway: str
    ca_pem: str
    counter: int = 0
    name: str = ""


@attrs.frozen
class DeviceIdentity:
    """Who this device is."""

    device_id: DeviceId
    key: Ed25519PrivateKey = attrs.field(repr=False)

    @property
    def fingerprint(self) -> Fingerprint:
        """SHA-256 of the public key: what people compare."""
        return sha256_hex(self.key.public_key().public_bytes_raw())


class IdentityStore:
    """The directory ``identity/`` of a node host."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._identity = _secret(path / "device-identity.json", _IdentityFile)
        self._client = _secret(path / "node-mtls-client.json", ClientFile)
        self._pairing = _secret(path / "pairing.json", PairingFile)
        self._unwritten: ClientFile | None = None

    def open(self, now_ms: int, entropy: Entropy, device_id: str | None = None) -> DeviceIdentity:
        """The identity, made on first use with ``device_id`` or a new one.

        :raises KeyFilePermission: others may read a key.
        :raises StoreCorrupt, FileTooNew: a file cannot be used; it is left as it is.
        :raises Malformed: the device has another id already.
        """
        make_private_dir(self.path)
        for each in (self._identity, self._client, self._pairing):
            each.sweep()
        kept = self._identity.read()
        if kept is not None:
            if device_id is not None and device_id != kept.device_id:
                raise Malformed("--device-id", f"this device is {kept.device_id} already")
            return self._as_identity(kept)
        chosen = parse_ulid(device_id, "--device-id") if device_id else new_ulid(now_ms, entropy)
        identity = DeviceIdentity(DeviceId(chosen), Ed25519PrivateKey.generate())
        secret = base64.b64encode(identity.key.private_bytes_raw()).decode()
        self._identity.write(_IdentityFile(SCHEMA_VERSION, chosen, secret, now_ms))
        return identity

    def _as_identity(self, kept: _IdentityFile) -> DeviceIdentity:
        try:
            raw = base64.b64decode(kept.signing_key, validate=True)
            key = Ed25519PrivateKey.from_private_bytes(raw)
            return DeviceIdentity(DeviceId(parse_ulid(kept.device_id)), key)
        except (ValueError, MalformedIdentifier) as error:
            raise StoreCorrupt(str(self._identity.path), str(error)) from error

    def device_id(self) -> str:
        """The id of the identity that was made here; empty before that.

        :raises PalyraError: it cannot be read.
        """
        kept = self._identity.read()
        return "" if kept is None else kept.device_id

    def client(self) -> ClientFile:
        """The certificates; empty before the first pairing."""
        return self._unwritten or self._client.read() or ClientFile(SCHEMA_VERSION)

    def new_csr(self, device_id: DeviceId) -> bytes:
        """A CSR whose key is on disk before anybody hears of it; the same one until it is used."""
        client = self.client()
        if client.pending is None:
            key = ec.generate_private_key(ec.SECP256R1())
            pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            csr = base64.b64encode(make_csr(key, device_id)).decode()
            pending = PendingKey(csr, pem.decode())
            self._change(client, pending=pending)
            return base64.b64decode(csr)
        return base64.b64decode(client.pending.csr_der)

    def accept(
        self, device_id: DeviceId, certificate_pem: str, ca_pem: str, ca_bundle_pem: str = ""
    ) -> Credential:
        """Keep the certificate of a pairing or a rejoin; those that there were are over.

        ``ca_pem`` is what the connection was verified under, ``ca_bundle_pem`` what the gateway
        wants to be trusted from now on.

        :raises VerificationFailed: it is not for the pending key, this device, or not from a CA
            of that bundle; or the bundle is one of strangers.
        """
        client = self.client()
        if client.current is not None and client.current.certificate_pem == certificate_pem:
            return client.current  # a crash came between this file and the next one
        bundle_pem = _successor(ca_pem, ca_bundle_pem)
        credential = _issued(client.pending, device_id, certificate_pem, bundle_pem)
        self._keep(ClientFile(SCHEMA_VERSION, bundle_pem, credential))
        return credential

    def accept_next(
        self, device_id: DeviceId, certificate_pem: str, ca_bundle_pem: str
    ) -> Credential:
        """Keep the certificate of a renewal beside the current one, until it is registered.

        :raises VerificationFailed: as :meth:`accept`; nothing is kept then.
        """
        client = self.client()
        bundle_pem = _successor(client.ca_bundle_pem, ca_bundle_pem)
        credential = _issued(client.pending, device_id, certificate_pem, bundle_pem)
        self._change(client, ca_bundle_pem=bundle_pem, next=credential, pending=None)
        return credential

    def registered(self, fingerprint: Fingerprint) -> None:
        """RegisterNode succeeded over that certificate: the next one becomes the current one.

        It is so in this process from now on, also where it cannot be written (:class:`DiskFull`,
        :class:`OSError`); the next write makes good for it, and so does a restart, which tries
        the next one first.
        """
        client = self.client()
        if client.next is not None and client.next.fingerprint == fingerprint:
            self._unwritten = msgspec.structs.replace(client, current=client.next, next=None)
            self._change(client, current=client.next, next=None)

    def drop_next(self) -> None:
        """The gateway does not take the next certificate: another key is made for another one."""
        self._change(self.client(), next=None)

    def trust(self, ca_bundle_pem: str) -> None:
        """Keep the CA bundle that the gateway tells of, where it is another one.

        As :meth:`registered` where it cannot be written.

        :raises VerificationFailed: it is one of strangers, or none; the old one stays.
        """
        client = self.client()
        bundle_pem = _successor(client.ca_bundle_pem, ca_bundle_pem)
        if bundle_pem != client.ca_bundle_pem:
            self._unwritten = msgspec.structs.replace(client, ca_bundle_pem=bundle_pem)
            self._change(client, ca_bundle_pem=bundle_pem)

    def _change(self, client: ClientFile, **changed: object) -> None:
        self._keep(msgspec.structs.replace(client, **changed))

    def _keep(self, client: ClientFile) -> None:
        self._client.write(client)
        self._unwritten = None

    def waiting(self) -> PairingFile | None:
        """The pairing session that waits for an operator."""
        return self._pairing.read()

    def keep_waiting(self, pairing: PairingFile) -> None:
        """Remember a pairing session until it is decided."""
        self._pairing.write(pairing)

    def stop_waiting(self) -> None:
        """It was decided."""
        self._pairing.path.unlink(missing_ok=True)


def _successor(trusted_pem: str, bundle_pem: str) -> str:
    """The bundle to trust from now on: the new one, where trust may move to it."""
    if bundle_pem in ("", trusted_pem):
        return trusted_pem
    Roots.read(trusted_pem).check_successor(Roots.read(bundle_pem))
    return bundle_pem


def _issued(
    pending: PendingKey | None, device_id: DeviceId, certificate_pem: str, bundle_pem: str
) -> Credential:
    """The certificate with the pending key, where the gateway issued it to that key."""
    if pending is None:
        raise VerificationFailed("a certificate came that nobody asked for")
    peer = read_certificate(certificate_pem.encode())
    key = load_pem_private_key(pending.private_key_pem.encode(), None)
    same_key = peer.public_key == key.public_key()
    if not same_key or peer.subject.role is not Role.DEVICE or peer.subject.id != device_id:
        raise VerificationFailed("the certificate is not for this device's key")
    if not Roots.read(bundle_pem).issued(peer.certificate):
        raise VerificationFailed("the certificate is not from this gateway's CA")
    return Credential(certificate_pem, pending.private_key_pem, peer.not_after_ms)


def _secret(path: Path, kind: type[S]) -> VersionedFile[S]:
    """A file that is refused where others may read it."""
    return VersionedFile(path, kind, SCHEMA_VERSION, secret=True)
