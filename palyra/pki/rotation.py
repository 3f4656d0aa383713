"""The gateway's own CAs on disk, and the way from one to the next (PROTOCOL section 2).

Everything is in the one sealed file ``ca.key.sealed``: the pair of the only CA, or, while the CA is
rotated, both pairs and how far the rotation is.  So each step is one atomic write, and what is not
written has not happened.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import attrs
import msgspec

from palyra.core.identifiers import Entropy, Fingerprint
from palyra.errors import CertificateRefused, Malformed, RotationRunning
from palyra.pki.authority import Authority
from palyra.pki.keypair import (
    pair_pem,
    read_pair,
    read_sealed,
    unreadable,
    write_sealed,
)
from palyra.pki.sealing import Sealer

CA_SEALED = "ca.key.sealed"

Phase = Literal["overlap", "switched"]


@attrs.frozen
class CaRotation:
    """A CA rotation under way; times are Unix milliseconds.

    In ``overlap`` the new CA issues while the listeners still show a certificate of the old one;
    since ``switched`` they show one of the new.  Both are trusted until the rotation is finished.
    """

    phase: Phase
    started_at_ms: int
    switched_at_ms: int | None
    old: Fingerprint
    new: Fingerprint


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is sealed during a rotation; both pairs as PEM."""

    schema_version: Literal[1]
    phase: Phase
    started_at_ms: int
    switched_at_ms: int | None
    old: str
    new: str


class Authorities:
    """The CAs whose keys are here: one, or two while the CA is rotated."""

    def __init__(
        self,
        directory: Path,
        sealer: Sealer,
        newest: Authority,
        old: Authority | None,
        rotation: CaRotation | None,
    ) -> None:
        self.issuing = newest
        """The CA that signs new certificates of devices and operators."""
        self.rotation = rotation
        self._directory = directory
        self._sealer = sealer
        self._old = old

    @classmethod
    def open(
        cls,
        directory: Path,
        sealer: Sealer,
        *,
        trust_domain: str,
        now_ms: int,
        entropy: Entropy,
        traces: Iterable[str] = (),
    ) -> Authorities:
        """Load the CAs in ``directory``, or make one where none of ``traces`` says there was one.

        :class:`SealedEntryUnreadable`, :class:`KeyFilePermission`, :class:`DiskFull`.
        """
        if not (directory / CA_SEALED).exists():
            if any((directory / trace).exists() for trace in traces):
                raise unreadable(CA_SEALED, "it is missing although it was made before")
            first = Authority.create(trust_domain=trust_domain, now_ms=now_ms, entropy=entropy)
            write_sealed(directory, sealer, CA_SEALED, _pair(first))
        plain = read_sealed(directory, sealer, CA_SEALED)
        if not plain.startswith(b"{"):
            only = _authority(plain, trust_domain, entropy)
            return cls(directory, sealer, only, None, None)
        document = _document(plain)
        old = _authority(document.old.encode(), trust_domain, entropy)
        new = _authority(document.new.encode(), trust_domain, entropy)
        return cls(directory, sealer, new, old, _rotation(document, old, new))

    @property
    def all(self) -> tuple[Authority, ...]:
        """Every CA whose key is here and which is trusted, the issuing one first."""
        return (self.issuing,) if self._old is None else (self.issuing, self._old)

    def serving(self, now_ms: int) -> Authority:
        """The CA that is to sign the listeners' certificate.

        In overlap that is the old one, the only one that every device trusts; unless its own life
        is over, so that nobody can trust it any more.
        """
        old, rotation = self._old, self.rotation
        if old is None or rotation is None or rotation.phase == "switched":
            return self.issuing
        return old if now_ms <= old.ca_not_after_ms else self.issuing

    def begin(self, now_ms: int, entropy: Entropy) -> CaRotation:
        """Make a new CA that issues from now on; :class:`RotationRunning` if one was made."""
        if self.rotation is not None:
            raise RotationRunning()
        old = self.issuing
        new = Authority.create(trust_domain=old.trust_domain, now_ms=now_ms, entropy=entropy)
        rotation = CaRotation("overlap", now_ms, None, old.ca_hash, new.ca_hash)
        self._keep(new, old, rotation)
        return rotation

    def switch(self, now_ms: int) -> bool:
        """Let the new CA sign for the listeners; false where there is no overlap to end."""
        if self.rotation is None or self.rotation.phase != "overlap":
            return False
        switched = attrs.evolve(self.rotation, phase="switched", switched_at_ms=now_ms)
        self._keep(self.issuing, self._old, switched)
        return True

    def finish(self) -> bool:
        """Drop the old CA, its key and its trust; false where nothing was switched."""
        if self.rotation is None or self.rotation.phase != "switched":
            return False
        self._keep(self.issuing, None, None)
        return True

    def _keep(self, newest: Authority, old: Authority | None, rotation: CaRotation | None) -> None:
        """Write, then believe: what did not reach the disk is not so in memory either."""
        plain = _pair(newest)
        if old is not None and rotation is not None:
            plain = msgspec.json.encode(
                _Document(
                    schema_version=1,
                    phase=rotation.phase,
                    started_at_ms=rotation.started_at_ms,
                    switched_at_ms=rotation.switched_at_ms,
                    old=_pair(old).decode(),
                    new=plain.decode(),
                )
            )
        write_sealed(self._directory, self._sealer, CA_SEALED, plain)
        self.issuing, self._old, self.rotation = newest, old, rotation


def _pair(authority: Authority) -> bytes:
    return pair_pem(authority.ca_key, authority.ca_certificate)


def _authority(plain: bytes, trust_domain: str, entropy: Entropy) -> Authority:
    key, certificate = read_pair(plain, CA_SEALED)
    try:
        return Authority(certificate, key, trust_domain=trust_domain, entropy=entropy)
    except (CertificateRefused, Malformed) as cause:
        raise unreadable(CA_SEALED, "its certificate is not that of an authority") from cause


def _document(plain: bytes) -> _Document:
    try:
        return msgspec.json.decode(plain, type=_Document)
    except msgspec.DecodeError as cause:
        raise unreadable(CA_SEALED, "it does not say how far the CA rotation is") from cause


def _rotation(document: _Document, old: Authority, new: Authority) -> CaRotation:
    return CaRotation(
        document.phase,
        document.started_at_ms,
        document.switched_at_ms,
        old.ca_hash,
        new.ca_hash,
    )
