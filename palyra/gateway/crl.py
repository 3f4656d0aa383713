"""The revocation lists that this gateway signs and publishes (``crl.pem``), one of each CA."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from palyra._files import write_atomic
from palyra.core.devices import CertificateState
from palyra.core.identifiers import Fingerprint
from palyra.gateway.inventory import Inventory
from palyra.gateway.onethread import InThread
from palyra.pki.authority import DAY_MS, Authority
from palyra.pki.crl import RevokedEntry, make_crl
from palyra.pki.keystore import GatewayIdentity

CRL_NAME = "crl.pem"
LIFE_MS = 7 * DAY_MS

Entries = list[tuple[Fingerprint | None, RevokedEntry]]


class RevocationLists:
    """Keeps ``crl.pem`` in step with what is revoked.

    The gateway itself never reads it: it asks its index at every call.  The list is for others
    that see certificates of this CA.  A large one takes long to sign, so that is done in a thread.
    """

    _log = Logger()

    def __init__(
        self,
        file: Path,
        *,
        identity: GatewayIdentity,
        inventory: Inventory,
        now_ms: Callable[[], int],
        in_thread: InThread,
        of_operators: Callable[[int], Entries] = lambda now_ms: [],
    ) -> None:
        """``of_operators``: what is revoked at a time (Unix ms) and is no device's."""
        self._file = file
        self._identity = identity
        self._inventory = inventory
        self._now_ms = now_ms
        self._in_thread = in_thread
        self._of_operators = of_operators
        self._making: Deferred[Any] | None = None
        self._again = False
        self._number = 0
        self.pem = b""
        """The lists as they were published last, PEM, one after the other."""

    def publish(self) -> None:
        """Write the lists anew, soon; what changes meanwhile is in the next ones."""
        if self._making is not None:
            self._again = True
            return
        now_ms = self._now_ms()
        # Time rises by itself, over restarts and restores too: a CRL number must.
        self._number = max(self._number + 1, now_ms)
        made = self._in_thread(
            _write,
            self._file,
            self._identity.authorities,
            self._entries(now_ms),
            now_ms,
            self._number,
        )
        self._making = made
        made.addCallbacks(self._published, self._failed)
        made.addBoth(self._made)

    def when_published(self) -> Deferred[None]:
        """Fires when nothing is being written."""
        if self._making is None:
            return succeed(None)
        written: Deferred[None] = Deferred()
        self._making.addBoth(lambda _: self.when_published().chainDeferred(written))
        return written

    def _published(self, pem: bytes) -> None:
        self.pem = pem

    def _failed(self, failure: Any) -> None:
        """A disk that is full, for example: trust does not rest on the file."""
        self._log.failure("{file} was not written", failure, file=self._file)

    def _made(self, _: object) -> None:
        self._making = None
        if self._again:
            self._again = False
            self.publish()

    def _entries(self, now_ms: int) -> Entries:
        """Every certificate that is refused although its dates still hold, and who issued it."""
        revoked = [
            (each.issuer, RevokedEntry(each.serial, revocation.at_ms, superseded=False))
            for revocation in self._inventory.revocations()
            for each in revocation.certificates
            if each.serial and each.not_after_ms > now_ms
        ]
        superseded = [
            (each.issuer, RevokedEntry(each.serial, each.issued_at_ms, superseded=True))
            for each in self._inventory.certificates()
            if each.state is CertificateState.SUPERSEDED and each.not_after_ms > now_ms
        ]
        return revoked + superseded + self._of_operators(now_ms)


def _write(
    file: Path, authorities: Sequence[Authority], entries: Entries, now_ms: int, number: int
) -> bytes:
    lists = b"".join(
        make_crl(
            authority,
            _of(authority, authorities, entries),
            now_ms,
            number=number,
            life_ms=LIFE_MS,
        )
        for authority in authorities
    )
    write_atomic(file, lists)
    return lists


def _of(
    authority: Authority, authorities: Sequence[Authority], entries: Entries
) -> list[RevokedEntry]:
    """What a CA issued, and of the oldest one also what nobody else is known to have issued."""
    oldest = authority is authorities[-1]
    return [
        entry
        for issuer, entry in entries
        if issuer == authority.ca_hash or (issuer is None and oldest)
    ]
