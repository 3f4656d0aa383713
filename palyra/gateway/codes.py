"""Pairing codes: minted, found, tried, burnt (PROTOCOL: Codes and guesses).

A QR token is kept as its SHA-256 only.  A PIN must be known to be compared, so it is kept sealed;
its counters live here while the gateway runs and are on record before any failure is answered.
"""

from __future__ import annotations

import ipaddress
from collections import deque
from collections.abc import Callable

import attrs

from palyra.config.enrolment import EnrolmentSection
from palyra.core.devices import MAX_LABELS, clean_text, valid_label
from palyra.core.identifiers import Entropy, new_ulid, sha256_hex, short_id
from palyra.core.interfaces import IPairingLog
from palyra.core.pairing import (
    MAX_CODE_TTL_MS,
    MAX_FAILED_ATTEMPTS,
    MIN_CODE_TTL_MS,
    TOKEN_BYTES,
    CodeMethod,
    CodeState,
    PairingCode,
    attempt_failed,
    code_machine,
    release_attempt,
    reserve_attempt,
)
from palyra.core.pairing_uri import spell_token
from palyra.core.pin import MAX_NAMEPLATES, PinCode, draw_pin, free_nameplate
from palyra.errors import (
    LimitReached,
    Malformed,
    NotFound,
    PalyraError,
    SealedEntryUnreadable,
)
from palyra.pki.sealing import Sealer

MAX_ACTIVE_CODES = 1_000
MAX_BURNT_SHOWN = 20
BURNT_SHOWN_MS = 3_600_000
_SEALED_IN = "pairing_codes"
_PURPOSE = "pin"


@attrs.frozen
class NewCode:
    """A code that was just minted, with its secret, which is shown once."""

    code: PairingCode
    token: bytes = attrs.field(default=b"", repr=False)
    pin: PinCode | None = attrs.field(default=None, repr=False)


@attrs.frozen
class CodeWish:
    """What an operator asks of a new code; ``ttl_ms`` None takes the configured life."""

    method: CodeMethod
    issued_by: str
    ttl_ms: int | None = None
    labels: dict[str, str] = attrs.Factory(dict)
    source: str = ""
    """The network (CIDR) that may use it; empty for any."""


class Codes:
    """Every code that a device may still use."""

    def __init__(
        self,
        *,
        log: IPairingLog,
        sealer: Sealer,
        entropy: Entropy,
        limits: EnrolmentSection,
        now_ms: Callable[[], int],
    ) -> None:
        self._log = log
        self._sealer = sealer
        self._entropy = entropy
        self._limits = limits
        self._now_ms = now_ms
        self._pins: dict[int, PairingCode] = {}
        self._faults: dict[str, int] = {}
        self._burnt: deque[tuple[int, PairingCode]] = deque(maxlen=MAX_BURNT_SHOWN)

    async def start(self) -> None:
        """Take over the PINs that were active when this gateway stopped."""
        for code in await self._log.active_codes(self._now_ms()):
            if code.nameplate is not None:
                # Whoever was in verification then has no answer and no session any more.
                self._pins[code.nameplate] = attrs.evolve(code, reserved=0)

    # -- minting ----------------------------------------------------------------------------

    async def mint(self, wish: CodeWish) -> NewCode:
        """A new code.

        :raises Malformed: a label, the life or the network is not acceptable.
        :raises LimitReached: too many codes are active.
        """
        life_ms = wish.ttl_ms if wish.ttl_ms is not None else self._limits.code_ttl_s * 1000
        if not MIN_CODE_TTL_MS <= life_ms <= MAX_CODE_TTL_MS:
            raise Malformed("ttl_ms", f"must be {MIN_CODE_TTL_MS} to {MAX_CODE_TTL_MS}")
        _check_labels(wish.labels)
        _check_network(wish.source)
        if len(await self._log.active_codes(self._now_ms())) >= MAX_ACTIVE_CODES:
            raise LimitReached("active pairing codes", MAX_ACTIVE_CODES, 60.0)
        await self.forget_ended()
        make = self._pin if wish.method is CodeMethod.PIN else self._token
        minted = make(wish, life_ms)
        try:
            await self._log.add_code(minted.code)
        except PalyraError:
            self._forget_pin(minted.code)
            raise
        return minted

    def _pin(self, wish: CodeWish, life_ms: int) -> NewCode:
        nameplate = free_nameplate(self._pins)
        if nameplate is None:
            raise LimitReached("active PINs", MAX_NAMEPLATES, 60.0)
        pin = draw_pin(self._entropy)
        code = self._code(wish, life_ms)
        code.nameplate = nameplate
        code.sealed_pin = self._sealer.seal(
            pin.encode(), path=_SEALED_IN, entry=code.code_id, purpose=_PURPOSE
        )
        self._pins[nameplate] = code
        return NewCode(code, pin=PinCode(nameplate, pin))

    def _token(self, wish: CodeWish, life_ms: int) -> NewCode:
        token = self._entropy(TOKEN_BYTES)
        code = self._code(wish, life_ms)
        code.digest = _token_digest(spell_token(token))
        return NewCode(code, token)

    def _code(self, wish: CodeWish, life_ms: int) -> PairingCode:
        now_ms = self._now_ms()
        return PairingCode(
            code_id=new_ulid(now_ms, self._entropy),
            method=wish.method,
            digest="",
            issued_by=clean_text(wish.issued_by, 64),
            issued_at_ms=now_ms,
            expires_at_ms=now_ms + life_ms,
            labels=dict(wish.labels),
            source=wish.source,
        )

    # -- using ------------------------------------------------------------------------------

    async def by_token(self, token: str, address: str) -> PairingCode | None:
        """The active code of a token, if that address may use it."""
        code = await self._log.code_by_digest(_token_digest(token))
        if code is None or code.method is not CodeMethod.QR:
            return None
        return code if self._is_usable(code, address) else None

    def by_nameplate(self, nameplate: int, address: str) -> PairingCode | None:
        """The active PIN code of a nameplate, if that address may use it."""
        code = self._pins.get(nameplate)
        return code if code is not None and self._is_usable(code, address) else None

    def pin_of(self, code: PairingCode | None) -> str:
        """The PIN of a code; where there is no code, one that nobody knows."""
        if code is not None:
            try:
                return self._sealer.open(
                    code.sealed_pin, path=_SEALED_IN, entry=code.code_id, purpose=_PURPOSE
                ).decode()
            except SealedEntryUnreadable:
                pass  # sealed under an earlier store key: nobody can use it any more
        return self._entropy(16).hex()

    def reserve(self, code: PairingCode | None) -> bool:
        """Reserve one try of a PIN; False where it has none left, or there is no such code."""
        return code is not None and reserve_attempt(code, self._now_ms())

    async def failed(self, code: PairingCode) -> None:
        """Count a reserved try that failed; fires when that is on record."""
        attempt_failed(code)
        if code.state is CodeState.BURNT:
            self._burnt.append((self._now_ms(), attrs.evolve(code)))
            self._forget_pin(code)
        await self._log.save_code(code)

    def released(self, code: PairingCode) -> None:
        """A reserved try was no guess."""
        release_attempt(code)

    def faulty(self, code: PairingCode) -> None:
        """Its holder knew the secret and sent something unacceptable: five times at most."""
        faults = self._faults.pop(code.code_id, 0) + 1
        self._faults[code.code_id] = faults
        if len(self._faults) > MAX_ACTIVE_CODES:
            del self._faults[next(iter(self._faults))]

    def used(self, code: PairingCode) -> None:
        """A request was opened with it: that is on record."""
        self._faults.pop(code.code_id, None)
        self._forget_pin(code)
        if code.state is CodeState.ACTIVE:  # whoever else is about to try it has come too late
            code_machine(code).used()

    async def withdraw(self, code: PairingCode) -> None:
        """An operator takes an active code back; fires when that is on record.  Whoever is in the
        middle of trying it fails.

        :raises NotFound: it is over already.
        """
        if not await self._log.withdraw_code(code.code_id, self._now_ms()):
            raise NotFound("pairing code", short_id(code.code_id))
        self._forget_pin(code)
        if code.state is CodeState.ACTIVE:
            code_machine(code).withdrawn()

    async def forget_ended(self) -> None:
        """Erase the PINs whose time is over."""
        now_ms = self._now_ms()
        for code in [each for each in self._pins.values() if now_ms >= each.expires_at_ms]:
            self._forget_pin(code)
            if code.state is CodeState.ACTIVE:
                code_machine(code).time_passed()
                await self._log.save_code(code)

    def burnt(self) -> list[PairingCode]:
        """The codes that wrong tries have burnt within the last hour."""
        since_ms = self._now_ms() - BURNT_SHOWN_MS
        return [code for at_ms, code in self._burnt if at_ms > since_ms]

    async def active(self) -> list[PairingCode]:
        """The codes that a device could use, with their failures so far."""
        listed = await self._log.active_codes(self._now_ms())
        here = {code.code_id: code for code in self._pins.values()}
        return [here.get(code.code_id, code) for code in listed]

    def _is_usable(self, code: PairingCode, address: str) -> bool:
        return (
            code.state is CodeState.ACTIVE
            and self._now_ms() < code.expires_at_ms
            and self._faults.get(code.code_id, 0) < MAX_FAILED_ATTEMPTS
            and _in_network(address, code.source)
        )

    def _forget_pin(self, code: PairingCode) -> None:
        if code.nameplate is not None and self._pins.get(code.nameplate) is code:
            del self._pins[code.nameplate]


def _check_labels(labels: dict[str, str]) -> None:
    if len(labels) > MAX_LABELS:
        raise Malformed("labels", f"must be at most {MAX_LABELS}")
    for key, value in labels.items():
        if not valid_label(key, value):
            raise Malformed("labels", f"{clean_text(key, 64)} is not a label (a-z0-9._/-=value)")


def _check_network(source: str) -> None:
    if source:
        try:
            ipaddress.ip_network(source)
        except ValueError as error:
            raise Malformed("source", f"must be a network in CIDR form ({error})") from error


def _in_network(address: str, network: str) -> bool:
    if not network:
        return True
    peer = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(peer, ipaddress.IPv6Address) and peer.ipv4_mapped is not None:
        peer = peer.ipv4_mapped  # as a listener on [::] shows an IPv4 device
    return peer in ipaddress.ip_network(network)


def _token_digest(token: str) -> str:
    return sha256_hex(token.encode())
