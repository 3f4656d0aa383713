"""Identities: the keys and certificates of devices, and the one CA that issues them.

Signatures are the production's, with keys of the system's making: nothing of what a world does
depends on their bytes.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.internet.defer import CancelledError

from palyra.core.identifiers import DeviceId
from palyra.node.identity import (
    SCHEMA_VERSION,
    ClientFile,
    DeviceIdentity,
    IdentityStore,
    PairingFile,
)
from palyra.pki.authority import Authority
from palyra.testing.simulation.clock import EPOCH_S, HostClock
from palyra.testing.simulation.disk import Disk

TRUST_DOMAIN = "palyra.sim"
_YEAR_MS = 365 * 86_400_000


class SimulatedTrust:
    """One CA that is older than the world and outlives it."""

    def __init__(self) -> None:
        made_ms = int(EPOCH_S * 1000) - _YEAR_MS
        self.issuing = Authority.create(
            trust_domain=TRUST_DOMAIN, now_ms=made_ms, entropy=os.urandom
        )

    @property
    def root(self) -> x509.Certificate:
        """Its certificate."""
        return self.issuing.ca_certificate

    @property
    def ca_bundle_pem(self) -> bytes:
        """Every CA that is trusted."""
        return self.issuing.ca_pem

    @property
    def ca_hashes(self) -> Sequence[bytes]:
        """SHA-256 of the DER of each of them."""
        return (bytes.fromhex(self.issuing.ca_hash),)


@functools.cache
def trust() -> SimulatedTrust:
    """The CA of every world of this process."""
    return SimulatedTrust()


class KeptIdentity:
    """A device's identity files; they survive every life of its host.

    ``writing`` is asked before the certificate file changes and told after it did; ``backups`` are
    what it was after each change.
    """

    def __init__(self, name: str, device_id: DeviceId, disk: Disk) -> None:
        key = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())
        self.identity = DeviceIdentity(device_id, key)
        self.client = ClientFile(SCHEMA_VERSION)
        self.backups: list[ClientFile] = []
        self.waiting: PairingFile | None = None
        self.disk = disk
        self.writing: Callable[[bool], object] = lambda durable: None


class IdentityOnDisk(IdentityStore):
    """The production's rules about certificates, for one life of a node host.

    A write is whole or it is not; where the host dies in it nothing that follows it happens.
    """

    def __init__(self, kept: KeptIdentity, clock: HostClock) -> None:
        super().__init__(Path("identity"))
        self._kept = kept
        self._clock = clock

    def client(self) -> ClientFile:
        return self._unwritten or self._kept.client

    def waiting(self) -> PairingFile | None:
        return self._kept.waiting

    def keep_waiting(self, pairing: PairingFile) -> None:
        self._check_writable()
        self._kept.waiting = pairing

    def stop_waiting(self) -> None:
        self._live()
        self._kept.waiting = None

    def _keep(self, client: ClientFile) -> None:
        self._check_writable()
        self._kept.writing(False)
        self._live()
        self._kept.client = client
        self._kept.backups.append(client)
        self._unwritten = None
        self._kept.writing(True)
        self._live()

    def _check_writable(self) -> None:
        self._live()
        refusal = self._kept.disk.refusal()
        if refusal is not None:
            raise refusal

    def _live(self) -> None:
        if self._clock.dead:
            raise CancelledError
