"""Jobs: what cannot be asked of a device, and what became of what was asked."""

from __future__ import annotations

import shlex

import attrs

from palyra.errors.base import Category, PalyraError


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
        # The name is a device's word, and this is copied into shells.
        return f"palyra nodes grant {self.name} {shlex.quote(self.capability)}"


@attrs.define
class CapabilityDisabled(PalyraError):
    """The device announces the capability as not available.  ``fault`` is what is wrong with it;
    empty: nothing, its owner has switched it off."""

    code = "capability_disabled"
    category = Category.PRECONDITION
    name: str
    capability: str
    fault: str = ""

    @property
    def sentence(self) -> str:
        if not self.fault:
            return f"{self.capability} is switched off on {self.name}."
        return f"{self.capability} is not available on {self.name}: {self.fault.rstrip('.')}."

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
