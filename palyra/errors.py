"""Every refusal and failure Palyra knows, as one tree.

An error is a value: typed fields, a stable wire ``code``, a :class:`Category` that each border
translates once (gRPC status, HTTP status, exit code), a ``sentence`` for a person and a ``hint``
that names the one command which comes next.  Sentences never contain a code, a token, a key or a
session id.
"""

from __future__ import annotations

import enum
from typing import ClassVar

import attrs


class Category(enum.Enum):
    """What kind of refusal this is; the borders map it, nothing else decides a status."""

    INVALID = "invalid"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    PRECONDITION = "precondition"
    TOO_LARGE = "too_large"
    EXHAUSTED = "exhausted"
    UNAVAILABLE = "unavailable"
    DEADLINE = "deadline"
    INTERNAL = "internal"


@attrs.define
class PalyraError(Exception):
    """The root of the tree.  Subclasses set ``code`` and ``category`` and write the sentence."""

    code: ClassVar[str] = "internal"
    category: ClassVar[Category] = Category.INTERNAL
    retryable: ClassVar[bool] = False
    exit_code: ClassVar[int] = 1

    @property
    def sentence(self) -> str:
        """What is wrong, in one sentence with the thing first and the wrong value in it."""
        return "Something failed inside the gateway; its log has the details."

    @property
    def hint(self) -> str:
        """The one command, or the one act, that comes next."""
        return "palyra doctor"

    def __str__(self) -> str:
        return self.sentence


# -- input from outside -------------------------------------------------------------------------


@attrs.define
class Malformed(PalyraError):
    """A field from outside does not parse.  ``field`` is its path, ``problem`` what is wrong."""

    code = "malformed"
    category = Category.INVALID
    field: str
    problem: str

    @property
    def sentence(self) -> str:
        return f"{self.field}: {self.problem}."

    @property
    def hint(self) -> str:
        return "correct that field and send it again"


@attrs.define
class ExpressionInvalid(Malformed):
    """A targeting expression that does not parse.  ``column`` counts from 1.

    ``text`` is the expression; whoever shows the error may put a caret under the column.
    """

    code = "expression_invalid"
    exit_code = 2
    column: int
    text: str

    @property
    def sentence(self) -> str:
        return f"{self.field}, column {self.column}: {self.problem}."

    @property
    def hint(self) -> str:
        return "palyra nodes list --help"


@attrs.define
class MalformedIdentifier(Malformed):
    """Not a canonical ULID (26 upper-case Crockford characters)."""

    code = "malformed_id"


@attrs.define
class InputInvalid(Malformed):
    """The input of a capability is not JSON or does not fit the capability's type."""

    code = "input_invalid"
    capability: str = ""

    @property
    def hint(self) -> str:
        return "correct that field and send it again"


@attrs.define
class DescriptorInvalid(Malformed):
    """A capability plugin describes a capability in a way no host accepts; its author mends it."""

    code = "descriptor_invalid"

    @property
    def hint(self) -> str:
        return "palyra capability list"


@attrs.define
class OutputInvalid(PalyraError):
    """A handler returned what its own output type does not allow, or what JSON cannot say."""

    code = "output_invalid"
    capability: str
    field: str
    problem: str

    @property
    def sentence(self) -> str:
        return f"{self.capability} answered wrongly: {self.field}: {self.problem}."

    @property
    def hint(self) -> str:
        return "report it to the author of the plugin"


@attrs.define
class CannotOpen(PalyraError):
    """The desktop of the device could not open a URL or a path; ``cause`` says why."""

    code = "cannot_open"
    category = Category.PRECONDITION
    what: str
    cause: str

    @property
    def sentence(self) -> str:
        return f"Cannot open {self.what}: {self.cause}."

    @property
    def hint(self) -> str:
        return "on the device: palyra capability list"


@attrs.define
class PayloadTooLarge(PalyraError):
    """A payload is above its limit.  ``size`` and ``limit`` are bytes."""

    code = "payload_too_large"
    category = Category.TOO_LARGE
    what: str
    size: int
    limit: int

    @property
    def sentence(self) -> str:
        return f"The {self.what} is {_kib(self.size)}; the limit is {_kib(self.limit)}."

    @property
    def hint(self) -> str:
        return f"add --max-payload-bytes {self.size} (at most 3 MiB)"


@attrs.define
class ConfigInvalid(PalyraError):
    """A value of palyra.toml is unknown, of the wrong type, or out of range."""

    code = "config_invalid"
    category = Category.INVALID
    file: str
    path: str
    problem: str

    @property
    def sentence(self) -> str:
        return f"{self.file}: {self.path}: {self.problem}."

    @property
    def hint(self) -> str:
        return f"correct {self.path} in {self.file}; docs/configuration.md lists every value"


@attrs.define
class NamesRequired(PalyraError):
    """A listener is bound beyond loopback but the gateway has no name that devices could use."""

    code = "names_required"
    category = Category.PRECONDITION
    address: str

    @property
    def sentence(self) -> str:
        return (
            f"Binding {self.address} needs configured names: they go into the console's "
            "certificate and the pairing line."
        )

    @property
    def hint(self) -> str:
        return "add the name devices use to palyra.toml; check: palyra doctor"


# -- pairing ------------------------------------------------------------------------------------


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

    @property
    def sentence(self) -> str:
        return f"The operator rejected this device: {self.reason or 'no reason given'}."

    @property
    def hint(self) -> str:
        return "palyra node run --gateway HOST (with a new code)"


@attrs.define
class PairingExpired(PalyraError):
    """Nobody decided within the approval's life (seconds)."""

    code = "pairing_expired"
    category = Category.PRECONDITION
    after_s: int = 600

    @property
    def sentence(self) -> str:
        return f"Nobody approved it within {self.after_s // 60} min."

    @property
    def hint(self) -> str:
        return "palyra node run --gateway HOST (with a new code)"


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


# -- trust --------------------------------------------------------------------------------------


@attrs.define
class CertificateRefused(PalyraError):
    """A peer's certificate is not acceptable here; ``reason`` is stable and ends up in metrics."""

    code = "certificate_refused"
    category = Category.FORBIDDEN
    reason: str

    @property
    def sentence(self) -> str:
        return f"This certificate is refused: {self.reason.replace('_', ' ')}."

    @property
    def hint(self) -> str:
        return "on the gateway: palyra doctor"


@attrs.define
class CertificateExpired(CertificateRefused):
    """This device's certificate ran out; ``when`` is a text."""

    code = "certificate_expired"
    when: str = ""
    reason: str = "expired"

    @property
    def sentence(self) -> str:
        return f"This device's certificate ran out on {self.when}."

    @property
    def hint(self) -> str:
        return "pair it again: palyra node run --gateway HOST"


@attrs.define
class CertificateUnknown(CertificateRefused):
    """The chain holds but this gateway never recorded the certificate; the node rejoins."""

    code = "certificate_unknown"
    reason: str = "certificate_unknown"


@attrs.define
class CertificateSuperseded(CertificateRefused):
    """A newer certificate of the device has registered; the holder of the old one rejoins."""

    code = "certificate_superseded"
    reason: str = "certificate_superseded"


@attrs.define
class DeviceRevoked(PalyraError):
    """The device, its identity key or its certificate was revoked."""

    code = "device_revoked"
    category = Category.FORBIDDEN
    device: str
    when: str = ""
    reason: str = ""

    @property
    def sentence(self) -> str:
        when = f" on {self.when}" if self.when else ""
        why = f": {self.reason}" if self.reason else ""
        return f"This device was revoked{when}{why}."

    @property
    def hint(self) -> str:
        return f"on the gateway: palyra nodes remove {self.device}, then pair again"


@attrs.define
class RotationRunning(PalyraError):
    """A CA rotation is under way; there can be only one."""

    code = "rotation_running"
    category = Category.CONFLICT

    @property
    def sentence(self) -> str:
        return "A CA rotation is under way already."

    @property
    def hint(self) -> str:
        return "palyra ca show"


@attrs.define
class NotBoundToDevice(PalyraError):
    """A certificate of one device was used to speak for another."""

    code = "device_mismatch"
    category = Category.FORBIDDEN
    claimed: str

    @property
    def sentence(self) -> str:
        return f"This certificate does not speak for device {self.claimed}."

    @property
    def hint(self) -> str:
        return "use the certificate that was issued to that device"


@attrs.define
class NotRegistered(PalyraError):
    """A node opened its stream before RegisterNode succeeded."""

    code = "not_registered"
    category = Category.PRECONDITION

    @property
    def sentence(self) -> str:
        return "This node has not registered."

    @property
    def hint(self) -> str:
        return "call RegisterNode first"


# -- things that are looked up ------------------------------------------------------------------


@attrs.define
class NotFound(PalyraError):
    """No thing of that kind has this name or id."""

    code = "not_found"
    category = Category.NOT_FOUND
    kind: str
    wanted: str

    @property
    def sentence(self) -> str:
        return f"No {self.kind} is called {self.wanted}."

    @property
    def hint(self) -> str:
        return {
            "device": "palyra nodes list",
            "pairing request": "palyra pairing list",
            "job": "palyra jobs list",
            "fan-out": "palyra jobs list",
        }.get(self.kind, "palyra doctor")


@attrs.define
class AmbiguousTarget(PalyraError):
    """A prefix fits more than one thing; ``candidates`` are ``SHORTID name`` texts."""

    code = "ambiguous_target"
    category = Category.CONFLICT
    kind: str
    wanted: str
    candidates: tuple[str, ...]

    @property
    def sentence(self) -> str:
        shown = ", ".join(self.candidates[:5])
        return f"{self.wanted} is the beginning of {len(self.candidates)} {self.kind}s: {shown}."

    @property
    def hint(self) -> str:
        return (
            "palyra nodes list" if self.kind == "device" else f"palyra {self.kind.split()[0]} list"
        )


# -- jobs ---------------------------------------------------------------------------------------


@attrs.define
class DeviceOffline(PalyraError):
    """The target has no live session and the call has no time to wait for one."""

    code = "device_offline"
    category = Category.PRECONDITION
    retryable = True
    name: str
    heard: str = ""
    job_id: str = ""

    @property
    def sentence(self) -> str:
        heard = f", last heard {self.heard}" if self.heard else ""
        return f"{self.name} is offline{heard}; nothing was queued."

    @property
    def hint(self) -> str:
        return f"palyra nodes show {self.name}"


@attrs.define
class CapabilityUnknown(PalyraError):
    """The device does not announce the capability; ``nearest`` are names that are close."""

    code = "capability_unknown"
    category = Category.NOT_FOUND
    name: str
    capability: str
    nearest: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        maybe = f" Did you mean {', '.join(self.nearest)}?" if self.nearest else ""
        return f"{self.name} has no capability {self.capability}.{maybe}"

    @property
    def hint(self) -> str:
        return f"palyra nodes show {self.name}"


@attrs.define
class CapabilityNotGranted(PalyraError):
    """The device announces it but the approval did not grant it."""

    code = "capability_not_granted"
    category = Category.FORBIDDEN
    name: str
    capability: str

    @property
    def sentence(self) -> str:
        return f"{self.capability} was announced by {self.name} but not granted."

    @property
    def hint(self) -> str:
        return f"palyra nodes grant {self.name} {self.capability}"


@attrs.define
class CapabilityDisabled(PalyraError):
    """The device announces the capability as not available."""

    code = "capability_disabled"
    category = Category.PRECONDITION
    name: str
    capability: str

    @property
    def sentence(self) -> str:
        return f"{self.capability} is not available on {self.name}."

    @property
    def hint(self) -> str:
        return f"palyra nodes show {self.name}"


@attrs.define
class PolicyDenied(PalyraError):
    """The caller may not do this here."""

    code = "policy_denied"
    category = Category.FORBIDDEN
    who: str
    what: str
    why: str

    @property
    def sentence(self) -> str:
        return f"{self.who} may not {self.what}: {self.why}."

    @property
    def hint(self) -> str:
        return "ask an operator for that grant: palyra nodes show"


@attrs.define
class QueueFull(PalyraError):
    """The gateway, or one device, has as many waiting jobs as it may keep."""

    code = "queue_full"
    category = Category.EXHAUSTED
    retryable = True
    who: str
    limit: int
    retry_after_s: float = 5.0

    @property
    def sentence(self) -> str:
        return f"{self.who} has {self.limit} waiting jobs; try again in {self.retry_after_s:.0f}s."

    @property
    def hint(self) -> str:
        return "palyra jobs list --state queued"


@attrs.define
class JobFinal(PalyraError):
    """What was asked of a job comes too late: it has ended.  ``when`` is a time people read."""

    code = "job_final"
    category = Category.CONFLICT
    job_id: str
    state: str
    when: str = ""

    @property
    def sentence(self) -> str:
        at = f" at {self.when}" if self.when else ""
        return f"Job {self.job_id} {_ended(self.state)}{at}; there is nothing to cancel."

    @property
    def hint(self) -> str:
        return f"palyra jobs show {self.job_id}"


def _ended(state: str) -> str:
    """What a job in a final state did, or what was done to it."""
    return {
        "rejected": "was already rejected",
        "cancelled": "was already cancelled",
        "outcome_unknown": "already ended with an unknown outcome",
    }.get(state, "already " + state.replace("_", " "))


@attrs.define
class IdempotencyConflict(PalyraError):
    """An idempotency key came a second time, with another call.  ``subject`` is the first one's
    job or fan-out."""

    code = "idempotency_conflict"
    category = Category.CONFLICT
    subject: str

    @property
    def sentence(self) -> str:
        return f"That idempotency key was used for another call ({self.subject}); nothing was sent."

    @property
    def hint(self) -> str:
        return "use a new key for a new call, or repeat the first call unchanged"


@attrs.define
class NoTargets(PalyraError):
    """A fan-out whose expression no device matches."""

    code = "no_targets"
    category = Category.NOT_FOUND
    expression: str

    @property
    def sentence(self) -> str:
        return f"No device matches {self.expression}."

    @property
    def hint(self) -> str:
        return "palyra nodes list"


@attrs.define
class TooManyTargets(PalyraError):
    """A fan-out to more devices than one call may address; nothing was accepted."""

    code = "too_many_targets"
    category = Category.INVALID
    count: int
    limit: int

    @property
    def sentence(self) -> str:
        return f"{self.count} devices match; one call may address {self.limit}."

    @property
    def hint(self) -> str:
        return "narrow --where, or raise jobs.max_targets in palyra.toml"


@attrs.define
class JobStillRunning(PalyraError):
    """The caller's limit passed; the job goes on."""

    code = "job_running"
    category = Category.DEADLINE
    retryable = True
    job_id: str
    state: str

    @property
    def sentence(self) -> str:
        return f"Job {self.job_id} is still {self.state}; it goes on."

    @property
    def hint(self) -> str:
        return f"palyra jobs show {self.job_id}"


@attrs.define
class JobUnsuccessful(PalyraError):
    """A job ended without success; ``reason`` is the gateway's sentence, empty when it has none."""

    code = "job_unsuccessful"
    category = Category.CONFLICT
    job_id: str
    device: str
    state: str
    reason: str = ""
    effect_possible: bool = False

    @property
    def sentence(self) -> str:
        if self.reason:
            return self.reason
        if self.state == "outcome_unknown":
            return (
                f"Outcome unknown: {self.device} went away while running it, so it may have taken "
                f"effect; check {self.device} before repeating."
            )
        perhaps = f"; it may still have taken effect: check {self.device} before repeating"
        return (
            f"Job {self.job_id} on {self.device} ended: {self.state.replace('_', ' ')}"
            f"{perhaps if self.effect_possible else ''}."
        )

    @property
    def hint(self) -> str:
        return f"palyra jobs show {self.job_id}"


@attrs.define
class ChildEnded(PalyraError):
    """A daemon that ``palyra quickstart`` started went away; ``last_line`` is what it said last."""

    code = "child_ended"
    category = Category.UNAVAILABLE
    who: str
    last_line: str
    log: str

    @property
    def sentence(self) -> str:
        return f"The {self.who} ended: {self.last_line or 'it said nothing'}"

    @property
    def hint(self) -> str:
        return f"its whole output is in {self.log}"


@attrs.define
class TookTooLong(PalyraError):
    """Something that was waited for did not happen within ``limit_s`` seconds."""

    code = "took_too_long"
    category = Category.DEADLINE
    retryable = True
    what: str
    limit_s: float
    see: str = "palyra doctor"

    @property
    def sentence(self) -> str:
        return f"{self.what} within {self.limit_s:.0f} s."

    @property
    def hint(self) -> str:
        return self.see


@attrs.define
class Draining(PalyraError):
    """The gateway is about to stop and takes no new work."""

    code = "draining"
    category = Category.UNAVAILABLE
    retryable = True

    @property
    def sentence(self) -> str:
        return "The gateway is stopping and takes no new work."

    @property
    def hint(self) -> str:
        return "try again when it is back"


# -- the machine it runs on ---------------------------------------------------------------------


@attrs.define
class GatewayNotRunning(PalyraError):
    """Nothing answers on the state root's console socket."""

    code = "gateway_not_running"
    category = Category.UNAVAILABLE
    exit_code = 3
    state_root: str

    @property
    def sentence(self) -> str:
        return f"No gateway runs on state root {self.state_root}."

    @property
    def hint(self) -> str:
        return "twistd -n palyra, or set PALYRA_STATE_ROOT"


@attrs.define
class GatewayUnreachable(PalyraError):
    """A TCP or TLS connection to the gateway could not be made."""

    code = "gateway_unreachable"
    category = Category.UNAVAILABLE
    retryable = True
    exit_code = 3
    address: str
    cause: str

    @property
    def sentence(self) -> str:
        return f"Cannot reach {self.address}: {self.cause}."

    @property
    def hint(self) -> str:
        return "on the gateway: palyra doctor"


@attrs.define
class ClockSkew(PalyraError):
    """A gateway's certificate is not valid by this clock; both times are named (texts).

    It begins later, or it ended before (``ends`` is set then).
    """

    code = "clock_skew"
    category = Category.PRECONDITION
    here: str
    begins: str = ""
    ends: str = ""

    @property
    def sentence(self) -> str:
        what = f"before the gateway's certificate begins ({self.begins})"
        if self.ends:
            what = f"after the gateway's certificate ended ({self.ends})"
        return f"This clock ({self.here}) is {what}."

    @property
    def hint(self) -> str:
        return "timedatectl set-ntp true"


@attrs.define
class PortTaken(PalyraError):
    """Another process listens on the address already."""

    code = "port_taken"
    category = Category.PRECONDITION
    listener: str
    port: int
    by: str = ""
    pid: int = 0

    @property
    def sentence(self) -> str:
        whom = f" by {self.by}" if self.by else ""
        pid = f" (pid {self.pid})" if self.pid else ""
        return f"Port {self.port} is taken{whom}{pid}."

    @property
    def hint(self) -> str:
        stop = f", or stop it: kill {self.pid}" if self.pid else ""
        return f"set another {self.listener} address in palyra.toml{stop}"


@attrs.define
class CannotBind(PalyraError):
    """An address cannot be listened on for a reason other than being taken."""

    code = "cannot_bind"
    category = Category.PRECONDITION
    listener: str
    address: str
    cause: str

    @property
    def sentence(self) -> str:
        return f"Cannot listen on {self.address} for {self.listener}: {self.cause}."

    @property
    def hint(self) -> str:
        return f"set another {self.listener} address in palyra.toml"


@attrs.define
class WrongReactor(PalyraError):
    """Another reactor than Twisted's asyncio reactor was chosen, and gRPC cannot run on it."""

    code = "wrong_reactor"
    category = Category.PRECONDITION
    reactor: str

    @property
    def sentence(self) -> str:
        return f"Palyra runs on Twisted's asyncio reactor, not on {self.reactor}."

    @property
    def hint(self) -> str:
        return "leave --reactor out"


@attrs.define
class StateRootLocked(PalyraError):
    """Another process of ours uses this state root."""

    code = "state_root_locked"
    category = Category.CONFLICT
    state_root: str
    pid: int
    who: str = "A gateway"

    @property
    def sentence(self) -> str:
        pid = f" (pid {self.pid})" if self.pid else ""
        return f"{self.who}{pid} already uses state root {self.state_root}."

    @property
    def hint(self) -> str:
        stop = f"stop it with kill {self.pid}, or " if self.pid else ""
        return f"{stop}use --state-root DIR"


@attrs.define
class KeyFilePermission(PalyraError):
    """A file that holds a key can be read by others.  ``mode`` is the octal permission bits."""

    code = "key_file_permission"
    category = Category.PRECONDITION
    path: str
    mode: int

    @property
    def sentence(self) -> str:
        return f"{self.path} may be read by others (mode {self.mode:04o})."

    @property
    def hint(self) -> str:
        return f"chmod 600 {self.path}"


@attrs.define
class StoreKeyUnusable(PalyraError):
    """The key that an operator provided to seal secrets is missing or is not a key.  Nothing is
    ever sealed with a fresh one instead."""

    code = "store_key_unusable"
    category = Category.PRECONDITION
    path: str
    problem: str

    @property
    def sentence(self) -> str:
        return f"The store key {self.path} cannot be used: {self.problem}."

    @property
    def hint(self) -> str:
        return "put the key in its place, or correct gateway.store_key_file"


@attrs.define
class DirectoryNotPrivate(PalyraError):
    """A directory that is to hold secrets is open to others and was not made by us."""

    code = "directory_not_private"
    category = Category.PRECONDITION
    path: str
    mode: int

    @property
    def sentence(self) -> str:
        return f"{self.path} may be entered by others (mode {self.mode:04o}); keys do not go there."

    @property
    def hint(self) -> str:
        return f"chmod 700 {self.path}"


@attrs.define
class SealedEntryUnreadable(PalyraError):
    """A sealed entry cannot be opened, or its key is missing.  Names the entry, never contents."""

    code = "sealed_entry_unreadable"
    category = Category.INTERNAL
    entry: str
    problem: str

    @property
    def sentence(self) -> str:
        return f"{self.entry} cannot be read: {self.problem}; it was left as it is."

    @property
    def hint(self) -> str:
        return "put the identity directory of a backup in its place"


@attrs.define
class SocketPermission(PalyraError):
    """console.sock belongs to somebody else."""

    code = "socket_permission"
    category = Category.FORBIDDEN
    owner: str
    you: str

    @property
    def sentence(self) -> str:
        return f"console.sock belongs to user {self.owner}; you are {self.you}."

    @property
    def hint(self) -> str:
        return f"sudo -u {self.owner} palyra nodes list"


@attrs.define
class SocketPathTooLong(PalyraError):
    """A UNIX socket path is limited to 107 bytes by the kernel (unix(7))."""

    code = "socket_path_too_long"
    category = Category.PRECONDITION
    path: str

    @property
    def sentence(self) -> str:
        return f"{self.path} is {len(self.path.encode())} bytes; a socket path has at most 107."

    @property
    def hint(self) -> str:
        return "use a shorter --state-root DIR"


RESTORE = "palyra state restore FILE --state-root DIR (an empty one)"
"""What comes next where a part of a gateway's state is damaged or gone."""


@attrs.define
class StoreCorrupt(PalyraError):
    """A database, snapshot or identity file is damaged; it was left as it is."""

    code = "store_corrupt"
    category = Category.INTERNAL
    file: str
    detail: str = ""

    @property
    def sentence(self) -> str:
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.file} is damaged{detail}; it was left as it is."

    @property
    def hint(self) -> str:
        if self.file.endswith("palyra.sqlite3"):
            return RESTORE  # without it nothing starts anew: store_epoch says that it was there
        return "move it away to start anew, or put a backup in its place"


@attrs.define
class StoreMissing(PalyraError):
    """The state root was used before but its database is gone: an error, never a fresh start.

    ``snapshot``: node-runtime.v1.json is there, of which a database can be made.
    """

    code = "store_missing"
    category = Category.INTERNAL
    file: str
    snapshot: bool = False

    @property
    def sentence(self) -> str:
        return f"{self.file} is missing although this state root was used before; nothing was made."

    @property
    def hint(self) -> str:
        # Without the snapshot a removed store_epoch would mean an empty database under a known CA.
        if not self.snapshot:
            return RESTORE
        return f"{RESTORE}, or remove store_epoch to start from node-runtime.v1.json"


@attrs.define
class RestoreUnconfirmed(PalyraError):
    """The state is a restored or imported one (``since`` is a text), and nobody has confirmed yet
    that who lost trust since then has lost it here too."""

    code = "restore_unconfirmed"
    category = Category.UNAVAILABLE
    since: str

    @property
    def sentence(self) -> str:
        return (
            f"This state is of {self.since}; devices that were revoked, removed or paired with "
            "another key since then must be revoked or removed again before it is served."
        )

    @property
    def hint(self) -> str:
        return "palyra nodes revoke or remove each of them, then: palyra state confirm"


@attrs.define
class StateRootNotEmpty(PalyraError):
    """A backup is restored, or a document imported, into an empty state root only."""

    code = "state_root_not_empty"
    category = Category.CONFLICT
    root: str
    found: str

    @property
    def sentence(self) -> str:
        return f"{self.root} is not empty ({self.found}); nothing was changed."

    @property
    def hint(self) -> str:
        return "choose another directory with --state-root, or move this one away"


@attrs.define
class NoGatewayState(PalyraError):
    """A directory holds no state of a gateway, or not the part of it that was asked for."""

    code = "no_gateway_state"
    category = Category.NOT_FOUND
    root: str

    @property
    def sentence(self) -> str:
        return f"{self.root} holds no state of a gateway."

    @property
    def hint(self) -> str:
        return "name the gateway's state root with --state-root"


@attrs.define
class DatabaseElsewhere(PalyraError):
    """The record of a gateway is in a database server, which has its own backups; ``then`` is the
    command that goes with those."""

    code = "database_elsewhere"
    category = Category.PRECONDITION
    database: str
    then: str

    @property
    def sentence(self) -> str:
        return f"The record of this gateway is in {self.database}, not in its state root."

    @property
    def hint(self) -> str:
        return self.then


@attrs.define
class BackupInvalid(PalyraError):
    """A file is not a backup, or it is damaged, or the passphrase does not open it."""

    code = "backup_invalid"
    category = Category.INVALID
    file: str
    problem: str

    @property
    def sentence(self) -> str:
        return f"{self.file} cannot be restored: {self.problem}."

    @property
    def hint(self) -> str:
        return "try another backup, or type the passphrase again"


@attrs.define
class StoreUnavailable(PalyraError):
    """A database cannot be read or written now: read-only, locked, or an I/O error."""

    code = "store_unavailable"
    category = Category.UNAVAILABLE
    retryable = True
    file: str
    cause: str

    @property
    def sentence(self) -> str:
        return f"{self.file} cannot be used ({self.cause}); nothing was accepted."


@attrs.define
class StoreInUse(PalyraError):
    """Another gateway uses the database, or used it while this one had no connection."""

    code = "store_in_use"
    category = Category.UNAVAILABLE
    store: str

    @property
    def sentence(self) -> str:
        return f"Another gateway uses {self.store}."

    @property
    def hint(self) -> str:
        return "stop that gateway and restart this one, or give this one its own [store] url"


@attrs.define
class StoreEmpty(PalyraError):
    """The state root was used before but its database server has nothing: never a fresh start."""

    code = "store_empty"
    category = Category.INTERNAL
    store: str

    @property
    def sentence(self) -> str:
        return f"{self.store} is empty although this state root was used before; nothing was made."

    @property
    def hint(self) -> str:
        return "correct [store] url, or pg_restore it; to begin anew move node-runtime.v1.json away"


@attrs.define
class StoreDriverMissing(PalyraError):
    """A PostgreSQL database is configured, but its driver cannot be imported."""

    code = "store_driver_missing"
    category = Category.PRECONDITION
    detail: str

    @property
    def sentence(self) -> str:
        return f"The PostgreSQL driver cannot be loaded ({self.detail})."

    @property
    def hint(self) -> str:
        return "pip install 'palyra[postgres]' 'psycopg[binary]'"


@attrs.define
class StoreTooNew(PalyraError):
    """A database was written by a newer version, with a schema that this one does not know."""

    code = "store_too_new"
    category = Category.PRECONDITION
    file: str
    revision: str

    @property
    def sentence(self) -> str:
        return f"{self.file} was written by a newer Palyra (schema {self.revision})."

    @property
    def hint(self) -> str:
        return "pip install --upgrade palyra"


@attrs.define
class NameTaken(PalyraError):
    """Another device has that name."""

    code = "name_taken"
    category = Category.CONFLICT
    name: str

    @property
    def sentence(self) -> str:
        return f"Another device is called {self.name}; nothing was changed."

    @property
    def hint(self) -> str:
        return f"palyra nodes show {self.name}"


@attrs.define
class AlreadyKept(PalyraError):
    """The store keeps something under that id or name already; nothing was changed."""

    code = "already_kept"
    category = Category.CONFLICT

    @property
    def sentence(self) -> str:
        return "That id is in use already."


@attrs.define
class DiskFull(PalyraError):
    """The store cannot grow; what was asked was not accepted."""

    code = "disk_full"
    category = Category.UNAVAILABLE
    retryable = True
    where: str

    @property
    def sentence(self) -> str:
        return f"No space left on {self.where}; nothing was accepted."

    @property
    def hint(self) -> str:
        return "palyra doctor"


@attrs.define
class NotPaired(PalyraError):
    """A node host was started on a state root without an identity that a gateway approved."""

    code = "not_paired"
    category = Category.PRECONDITION
    state_root: str

    @property
    def sentence(self) -> str:
        return f"The node host on state root {self.state_root} is not paired."

    @property
    def hint(self) -> str:
        return "palyra node run --gateway HOST"


@attrs.define
class InsecureCodeArgument(PalyraError):
    """A code or token was given where the shell history and the process list keep it.

    ``pin``: it was a PIN, and not a pairing line.
    """

    code = "insecure_code_argument"
    category = Category.INVALID
    exit_code = 2
    pin: bool = False

    @property
    def sentence(self) -> str:
        return "A code as an argument stays in the shell history."

    @property
    def hint(self) -> str:
        if self.pin:
            return "palyra node run --gateway HOST (it asks), or --pairing-code-stdin"
        return "palyra node run --pairing-uri - (it asks), or --allow-insecure-pairing-code-arg"


def _kib(size: int) -> str:
    """Bytes as people read them, 1024-based: ``71 KiB``, ``3 MiB``."""
    if size < 1024:
        return f"{size} bytes"
    if size < 1024 * 1024:
        return f"{-(-size // 1024)} KiB"
    return f"{size / (1024 * 1024):.1f}".rstrip("0").rstrip(".") + " MiB"


@attrs.define
class RemoteRefusal(PalyraError):
    """The gateway refused a call of this device: its stable code, its sentence, its hint.

    ``final``: trying again cannot help until a person acts.  ``transient``: the gateway could not
    decide now; the same call may succeed later, best after ``retry_after_s`` where that is known.
    """

    code = "refused_by_gateway"
    category = Category.PRECONDITION
    remote_code: str
    remote_sentence: str
    remote_hint: str = ""
    final: bool = False
    transient: bool = False
    retry_after_s: float | None = None
    job_id: str = ""
    """The record that the refusal left, where it is known to have left one."""

    @property
    def sentence(self) -> str:
        return self.remote_sentence or f"The gateway refused: {self.remote_code}."

    @property
    def hint(self) -> str:
        return self.remote_hint or "on the gateway: palyra doctor"
