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


@attrs.frozen
class _Kept:
    """The CAs of one moment, the issuing one first, and how far their rotation is."""

    authorities: tuple[Authority] | tuple[Authority, Authority]
    rotation: CaRotation | None = None


class Authorities:
    """The CAs whose keys are here: one, or two while the CA is rotated.

    Steps are taken in one thread, but what is trusted is read in others: by each handshake.  So
    what is kept is one value, which a step replaces whole.
    """

    def __init__(self, directory: Path, sealer: Sealer, kept: _Kept) -> None:
        self._directory = directory
        self._sealer = sealer
        self._kept = kept

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
            return cls(directory, sealer, _Kept((only,)))
        document = _document(plain)
        old = _authority(document.old.encode(), trust_domain, entropy)
        new = _authority(document.new.encode(), trust_domain, entropy)
        return cls(directory, sealer, _Kept((new, old), _rotation(document, old, new)))

    @property
    def all(self) -> tuple[Authority, ...]:
        """Every CA whose key is here and which is trusted, the issuing one first."""
        return self._kept.authorities

    @property
    def issuing(self) -> Authority:
        """The CA that signs new certificates of devices and operators."""
        return self._kept.authorities[0]

    @property
    def rotation(self) -> CaRotation | None:
        """How far the rotation is; None when there is none."""
        return self._kept.rotation

    def serving(self, now_ms: int) -> Authority:
        """The CA that is to sign the listeners' certificate.

        In overlap that is the old one, the only one that every device trusts; unless its own life
        is over, so that nobody can trust it any more.
        """
        newest, *older = self._kept.authorities
        rotation = self._kept.rotation
        if rotation is None or rotation.phase == "switched":
            return newest
        (old,) = older
        return old if now_ms <= old.ca_not_after_ms else newest

    def begin(self, now_ms: int, entropy: Entropy) -> CaRotation:
        """Make a new CA that issues from now on; :class:`RotationRunning` if one was made."""
        if self.rotation is not None:
            raise RotationRunning()
        old = self.issuing
        new = Authority.create(trust_domain=old.trust_domain, now_ms=now_ms, entropy=entropy)
        rotation = CaRotation("overlap", now_ms, None, old.ca_hash, new.ca_hash)
        self._keep(_Kept((new, old), rotation))
        return rotation

    def switch(self, now_ms: int) -> bool:
        """Let the new CA sign for the listeners; false where there is no overlap to end."""
        kept = self._kept
        if kept.rotation is None or kept.rotation.phase != "overlap":
            return False
        switched = attrs.evolve(kept.rotation, phase="switched", switched_at_ms=now_ms)
        self._keep(attrs.evolve(kept, rotation=switched))
        return True

    def finish(self) -> bool:
        """Drop the old CA, its key and its trust; false where nothing was switched."""
        if self.rotation is None or self.rotation.phase != "switched":
            return False
        self._keep(_Kept((self.issuing,)))
        return True

    def _keep(self, kept: _Kept) -> None:
        """Write, then believe: what did not reach the disk is not so in memory either."""
        write_sealed(self._directory, self._sealer, CA_SEALED, _plain(kept))
        self._kept = kept


def _plain(kept: _Kept) -> bytes:
    newest, *older = kept.authorities
    rotation = kept.rotation
    if rotation is None:
        return _pair(newest)
    (old,) = older
    return msgspec.json.encode(
        _Document(
            schema_version=1,
            phase=rotation.phase,
            started_at_ms=rotation.started_at_ms,
            switched_at_ms=rotation.switched_at_ms,
            old=_pair(old).decode(),
            new=_pair(newest).decode(),
        )
    )


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
