"""Proofs: the ways in which a device shows that it may ask (PROTOCOL: Exchanges).

Each way opens a pairing session for itself, and checks the one proof that comes in it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn, Protocol

import attrs
from twisted.logger import Logger

from palyra.config.enrolment import EnrolmentSection
from palyra.core.handshake import GatewayHandshake, Verified
from palyra.core.identifiers import Entropy
from palyra.core.pairing import PairingCode
from palyra.core.pake import Confirmations, GatewayPake, PakeTranscript, confirms
from palyra.core.pin import PinCode
from palyra.core.rates import SourceLedger
from palyra.core.transcript import DeviceProof, Purpose
from palyra.errors import (
    Malformed,
    PairingFailed,
    PairingPaused,
    PairingSessionUnknown,
    PalyraError,
    VerificationFailed,
    VersionOneRefused,
)
from palyra.gateway.codes import Codes
from palyra.gateway.inventory import Inventory
from palyra.gateway.pinwork import PinWork
from palyra.gateway.requests import Opening, PairingRequests
from palyra.pki.csr import check_csr
from palyra.wire.pairing import Begin, Completed


@attrs.frozen
class Stranger:
    """Who speaks to the enrolment listener: its IP address, and the source that counts as."""

    address: str
    source: str


class IProof(Protocol):
    """What a pairing session was opened with."""

    purpose: Purpose
    share: bytes
    """Y, for a nameplate; else empty."""

    async def check(
        self, handshake: GatewayHandshake, message: DeviceProof, peer: Stranger
    ) -> Completed:
        """Check the device's proof and act on it.

        :raises PairingFailed: it was a guess, and is counted.
        :raises PalyraError: it was refused for another reason.
        """


class Verifier:
    """Everything that is checked of a proof, whatever it proves."""

    def __init__(self, *, ca_hashes: Callable[[], Sequence[bytes]], inventory: Inventory) -> None:
        self.ca_hashes = ca_hashes
        self._inventory = inventory

    def verify(
        self,
        handshake: GatewayHandshake,
        message: DeviceProof,
        expected: str,
        now_ms: int,
        *,
        version_one: bool = False,
    ) -> Verified:
        """Signatures, bindings, CSR, and that neither device nor key is revoked.

        :raises PairingFailed: the proof is not ``expected``.
        :raises VerificationFailed, Malformed, VersionOneRefused, DeviceRevoked: as they say.
        """
        verified = handshake.verify(
            message,
            ca_hashes=self.ca_hashes(),
            proof_expected=expected,
            now_ms=now_ms,
            allow_version_one=version_one,
        )
        if verified.csr_der:
            check_csr(verified.csr_der, verified.device_id)
        self._inventory.revoked.check_device(verified.device_id)
        self._inventory.revoked.check_key(verified.identity_fingerprint)
        self._inventory.refuse_key_of_another(verified.device_id, verified.identity_fingerprint)
        return verified


@attrs.frozen
class Office:
    """What every way of proving needs."""

    _log = Logger()

    codes: Codes
    verifier: Verifier
    requests: PairingRequests
    ledger: SourceLedger
    limits: EnrolmentSection
    entropy: Entropy
    now_ms: Callable[[], int]
    elapsed_ms: Callable[[], int]

    @property
    def version_one(self) -> bool:
        """Whether devices that send no CSR may pair."""
        return self.limits.allow_v1_codes and self.limits.allow_gateway_made_keys

    @contextlib.contextmanager
    def reserved(self, source: str) -> Iterator[None]:
        """Reserve a guess of a source while it is verified."""
        self.ledger.reserve_proof(source, self.elapsed_ms())
        try:
            yield
        finally:
            self.ledger.release_proof(source)

    async def guessed(self, code: PairingCode | None) -> NoReturn:
        """Count a wrong PIN, with its code where it took one of the tries of that.

        It is a guess whether or not that can be put on record: a full disk must not make it free.
        """
        if code is not None:
            try:
                await self.codes.failed(code)
            except PalyraError as error:
                self._log.error("a wrong PIN is not on record: {why}", why=error.sentence)
        raise PairingFailed(pin=True)

    @contextlib.contextmanager
    def faults_of(self, code: PairingCode) -> Iterator[None]:
        """Whoever knows a code's secret has so many faulty messages before it is of no more use."""
        try:
            yield
        except (PairingFailed, PairingSessionUnknown):
            raise
        except PalyraError:
            self.codes.faulty(code)
            raise


class ByToken:
    """A QR token, sent in clear under a CA that the pairing line named."""

    purpose = Purpose.PAIR_URI
    share = b""

    def __init__(self, office: Office, code: PairingCode, token: str) -> None:
        self._office = office
        self._code = code
        self._token = token

    @classmethod
    async def open(cls, office: Office, message: Begin, peer: Stranger) -> ByToken:
        """:raises PairingFailed: the token is unknown, used, over, or not for this source."""
        code = await office.codes.by_token(message.code, peer.address)
        if code is None:
            raise PairingFailed()
        return cls(office, code, message.code)

    async def check(
        self, handshake: GatewayHandshake, message: DeviceProof, peer: Stranger
    ) -> Completed:
        office, code = self._office, self._code
        with office.faults_of(code):
            verified = office.verifier.verify(
                handshake, message, self._token, office.now_ms(), version_one=office.version_one
            )
        opening = Opening(verified, handshake.session_id, peer.address, code)
        completed = await office.requests.open(opening)
        office.codes.used(code)
        return completed


class ByPin:
    """A PIN that is never sent: SPAKE2, the device confirming first.

    An unknown, ended or burnt nameplate runs the same exchange with a PIN that nobody knows.
    """

    purpose = Purpose.PAIR_PIN

    def __init__(
        self,
        office: Office,
        work: PinWork,
        code: PairingCode | None,
        nameplate: int,
        run: GatewayPake,
    ) -> None:
        self._office = office
        self._work = work
        self._code = code
        self._nameplate = nameplate
        self._run = run
        self.share = run.share

    @classmethod
    async def open(cls, office: Office, work: PinWork, message: Begin, peer: Stranger) -> ByPin:
        """:raises PairingPaused: nobody may pair by PIN now.
        :raises LimitReached: too many try at once."""
        nameplate = message.nameplate
        assert nameplate is not None, "a PIN comes with its nameplate"
        _refuse_paused(office)
        code = office.codes.by_nameplate(nameplate, peer.address)
        run = await work.begin(office.codes.pin_of(code))
        return cls(office, work, code, nameplate, run)

    async def check(
        self, handshake: GatewayHandshake, message: DeviceProof, peer: Stranger
    ) -> Completed:
        office, code = self._office, self._code
        with office.reserved(peer.source):
            _refuse_paused(office)
            reserved = office.codes.reserve(code)
            try:
                confirmed = await self._confirmed(handshake, message)
            except BaseException:  # the gateway stops: nothing was compared
                if code is not None and reserved:
                    office.codes.released(code)
                raise
            if code is None or not reserved or confirmed is None:
                handshake.fail()
                await office.guessed(code if reserved else None)
            try:
                return await self._open(handshake, message, peer, code, confirmed)
            finally:
                office.codes.released(code)

    async def _open(
        self,
        handshake: GatewayHandshake,
        message: DeviceProof,
        peer: Stranger,
        code: PairingCode,
        confirmed: Confirmations,
    ) -> Completed:
        office = self._office
        with office.faults_of(code):
            verified = office.verifier.verify(handshake, message, "", office.now_ms())
        opening = Opening(
            verified, handshake.session_id, peer.address, code, pake_confirm=confirmed.gateway
        )
        try:
            completed = await office.requests.open(opening)
        except PairingFailed as lost:
            raise PairingFailed(pin=True) from lost
        office.codes.used(code)
        return completed

    async def _confirmed(
        self, handshake: GatewayHandshake, message: DeviceProof
    ) -> Confirmations | None:
        """Both confirmations, if the device's is right: it knew the PIN and saw our CA."""
        enrolment = message.enrolment
        given = enrolment.pake_confirm if enrolment is not None else b""
        share = enrolment.pake_share if enrolment is not None else b""
        try:
            key = await self._work.finish(self._run, share, lambda: _refuse_paused(self._office))
        except VerificationFailed:
            return None
        found = None
        for ca_hash in self._office.verifier.ca_hashes():
            transcript = PakeTranscript(
                begun=handshake.begun,
                nameplate=self._nameplate,
                ca_hash=ca_hash,
                gateway_share=self.share,
                device_share=share,
                proof=message,
            )
            confirmations = Confirmations.of(key, transcript)
            if confirms(given, confirmations.device):
                found = confirmations
        return found


class ByClearPin:
    """The PIN itself, as version-1 devices send it over TLS; only where the operator allows it."""

    _log = Logger()
    purpose = Purpose.PAIR_PIN
    share = b""

    def __init__(self, office: Office, code: PairingCode | None, expected: str) -> None:
        self._office = office
        self._code = code
        self._expected = expected

    @classmethod
    async def open(cls, office: Office, message: Begin, peer: Stranger) -> ByClearPin:
        """:raises VersionOneRefused, PairingPaused: it is not allowed, or not now."""
        if not office.limits.allow_v1_codes:
            raise VersionOneRefused()
        _refuse_paused(office)
        cls._log.warn(
            "a version-1 device at {address} sends its PIN in clear", address=peer.address
        )
        try:
            typed = PinCode.parse(message.code)
        except Malformed:
            return cls(office, None, office.entropy(16).hex())
        code = office.codes.by_nameplate(typed.nameplate, peer.address)
        right = confirms(typed.pin.encode(), office.codes.pin_of(code).encode())
        return cls(office, code, message.code if right else office.entropy(16).hex())

    async def check(
        self, handshake: GatewayHandshake, message: DeviceProof, peer: Stranger
    ) -> Completed:
        office, code = self._office, self._code
        with office.reserved(peer.source):
            _refuse_paused(office)
            reserved = office.codes.reserve(code)
            guessed = not confirms(message.proof.encode(), self._expected.encode())
            if code is None or not reserved or guessed:
                handshake.fail()
                await office.guessed(code if reserved else None)
            try:
                with office.faults_of(code):
                    verified = office.verifier.verify(
                        handshake,
                        message,
                        self._expected,
                        office.now_ms(),
                        version_one=office.version_one,
                    )
                opening = Opening(verified, handshake.session_id, peer.address, code)
                completed = await office.requests.open(opening)
            finally:
                office.codes.released(code)
            office.codes.used(code)
            return completed


def _refuse_paused(office: Office) -> None:
    until_ms, now_ms = office.ledger.pin_paused_until_ms, office.elapsed_ms()
    if until_ms is not None and now_ms < until_ms:
        raise PairingPaused((until_ms - now_ms) / 1000)
