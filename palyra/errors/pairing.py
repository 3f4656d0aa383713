"""Pairing: codes, guesses, handshakes, decisions."""

from __future__ import annotations

import attrs

from palyra.errors.base import Category, PalyraError

PAIR_AGAIN = "palyra node run --gateway HOST (with a new code)"


@attrs.define
class PairingFailed(PalyraError):
    """The code is wrong, expired, used, burnt or of the other method.  Never says which.

    ``pin``: it was a PIN that was tried, and not a pairing line; ``tries`` how often by now.
    """

    code = "pairing_failed"
    category = Category.PRECONDITION
    pin: bool = False
    tries: int = 1

    @property
    def sentence(self) -> str:
        if not self.pin:
            return "That pairing line is wrong, expired or used up."
        between = " Someone may be in between." if self.tries > 1 else ""
        return f"That PIN is wrong, expired or used up.{between}"

    @property
    def hint(self) -> str:
        if self.pin:
            return "ask for a new one; on the gateway: palyra pairing code"
        return "on the gateway: palyra pairing code --method qr"


@attrs.define
class GatewayNotProven(PalyraError):
    """The key confirmation of the gateway is wrong or missing: it does not know the PIN."""

    code = "gateway_not_proven"
    category = Category.UNAUTHENTICATED

    @property
    def sentence(self) -> str:
        return "The gateway did not prove that it knows the PIN; stop, someone may be in between."

    @property
    def hint(self) -> str:
        return "compare CA fingerprints, then a new code: palyra pairing code"


@attrs.define
class PairingPaused(PalyraError):
    """Too many wrong PINs over all sources: PIN pairing pauses, pairing lines go on."""

    code = "pairing_paused"
    category = Category.EXHAUSTED
    retryable = True
    retry_after_s: float

    @property
    def sentence(self) -> str:
        wait = max(1, round(self.retry_after_s / 60))
        return f"Pairing by PIN is paused after many wrong tries; it opens again in {wait} min."

    @property
    def hint(self) -> str:
        return "on the gateway: palyra pairing code --method qr"


@attrs.define
class RejoinRefused(PalyraError):
    """The device is not known here, or did not prove its identity key.  Never says which."""

    code = "rejoin_refused"
    category = Category.FORBIDDEN

    @property
    def sentence(self) -> str:
        return "The gateway does not let this device back in by its identity key."

    @property
    def hint(self) -> str:
        return "pair it again: palyra node run --gateway HOST"


@attrs.define
class VerificationFailed(PalyraError):
    """A signature, MAC, CSR or binding of the handshake does not hold; the code is not consumed."""

    code = "verification_failed"
    category = Category.PRECONDITION
    what: str

    @property
    def sentence(self) -> str:
        return f"The pairing handshake was refused: {self.what}."

    @property
    def hint(self) -> str:
        return "start the pairing again on the device"


@attrs.define
class PairingLimited(PalyraError):
    """Too many wrong tries or too many open sessions from one source; opens again by itself."""

    code = "pairing_limited"
    category = Category.EXHAUSTED
    retryable = True
    retry_after_s: float

    @property
    def sentence(self) -> str:
        wait = max(1, round(self.retry_after_s / 60))
        return f"Too many wrong tries from this address; pairing opens again in {wait} min."

    @property
    def hint(self) -> str:
        return "wait; the operator sees the tries in: palyra pairing list"


@attrs.define
class PairingSessionUnknown(PalyraError):
    """The pairing session does not exist, was used, or its five minutes are over."""

    code = "pairing_session_unknown"
    category = Category.PRECONDITION

    @property
    def sentence(self) -> str:
        return "This pairing session is unknown or over."

    @property
    def hint(self) -> str:
        return "start the pairing again on the device"


@attrs.define
class VersionOneRefused(PalyraError):
    """A version-1 device (no CSR) asked to pair and the operator has not allowed such devices."""

    code = "csr_required"
    category = Category.PRECONDITION

    @property
    def sentence(self) -> str:
        return "This gateway pairs only devices that make their own key and send a CSR."

    @property
    def hint(self) -> str:
        return "update the node host on the device"


@attrs.define
class CaMismatch(PalyraError):
    """The CA of the chain that the gateway shows is not the one the pairing line names."""

    code = "ca_mismatch"
    category = Category.UNAUTHENTICATED

    @property
    def sentence(self) -> str:
        return "This gateway's CA is not the one in the pairing line; nothing was sent."

    @property
    def hint(self) -> str:
        return "on the gateway: palyra pairing code --method qr"


@attrs.define
class PairingRejected(PalyraError):
    """An operator said no."""

    code = "pairing_rejected"
    category = Category.FORBIDDEN
    reason: str = ""
    remedy: str = PAIR_AGAIN

    @property
    def sentence(self) -> str:
        return f"The operator rejected this device: {self.reason or 'no reason given'}."

    @property
    def hint(self) -> str:
        return self.remedy


@attrs.define
class PairingExpired(PalyraError):
    """Nobody decided within the approval's life (seconds)."""

    code = "pairing_expired"
    category = Category.PRECONDITION
    after_s: int = 600
    remedy: str = PAIR_AGAIN

    @property
    def sentence(self) -> str:
        return f"Nobody approved it within {self.after_s // 60} min."

    @property
    def hint(self) -> str:
        return self.remedy


@attrs.define
class IdentityChanged(PalyraError):
    """A device id asks to pair with another identity key; only a person may accept that."""

    code = "identity_changed"
    category = Category.CONFLICT
    name: str
    request: str
    was: str
    now: str

    @property
    def sentence(self) -> str:
        return (
            f"{self.name} was paired before with another key (was {self.was[:4]}.., "
            f"now {self.now[:4]}..); that needs a person."
        )

    @property
    def hint(self) -> str:
        return f"palyra pairing approve {self.request} on a terminal, or with --accept-new-identity"


@attrs.define
class KeyInUse(PalyraError):
    """An identity key asks to pair under one device id and is another paired device's already."""

    code = "key_in_use"
    category = Category.CONFLICT
    device: str

    @property
    def sentence(self) -> str:
        return f"That identity key is the one of {self.device} already; a key is one device."

    @property
    def hint(self) -> str:
        return f"on the gateway: palyra nodes remove {self.device}, then pair again"


@attrs.define
class ApprovalFinal(PalyraError):
    """The approval was decided or has expired; an approval is decided once."""

    code = "approval_final"
    category = Category.CONFLICT
    request: str
    state: str

    @property
    def sentence(self) -> str:
        return f"Pairing request {self.request} is already {self.state}."

    @property
    def hint(self) -> str:
        return "palyra pairing list"


@attrs.define
class LimitReached(PalyraError):
    """A bounded table is full.  ``retry_after_s`` says when to try again."""

    code = "limit_reached"
    category = Category.EXHAUSTED
    retryable = True
    what: str
    limit: int
    retry_after_s: float = 5.0

    @property
    def sentence(self) -> str:
        return f"The gateway has {self.limit} {self.what}; that is its limit."

    @property
    def hint(self) -> str:
        return f"try again in {self.retry_after_s:.0f} s"


@attrs.define
class NotPaired(PalyraError):
    """A node host was started on a state root without an identity that a gateway approved."""

    code = "not_paired"
    category = Category.PRECONDITION
    state_root: str
    remedy: str = "palyra node run --gateway HOST"

    @property
    def sentence(self) -> str:
        return f"The node host on state root {self.state_root} is not paired."

    @property
    def hint(self) -> str:
        return self.remedy
