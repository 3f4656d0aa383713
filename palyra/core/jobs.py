"""Jobs: one capability request and all that became of it (PROTOCOL: Jobs).

These are the values: the call, its attempts, what a node reports, and the record that the store
keeps.  What may happen to a job stands in :mod:`palyra.core.jobmachine`.
"""

from __future__ import annotations

import enum

import attrs

from palyra.core.identifiers import AttemptId, DeviceId, FanoutId, JobId


class JobState(enum.Enum):
    """Every state of a job, as the store, the wire and the CLI spell them."""

    QUEUED = "queued"
    DISPATCHED = "dispatched"
    AWAITING = "awaiting_local_mediation"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    OUTCOME_UNKNOWN = "outcome_unknown"


UNFINISHED = frozenset({JobState.QUEUED, JobState.DISPATCHED, JobState.AWAITING})
FINAL = frozenset(JobState) - UNFINISHED
MAX_REASON = 240
"""Characters of the reason for a cancel."""


class Outcome(enum.Enum):
    """How a node says an attempt ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    DIED = "died"


class Want(enum.Enum):
    """What the host of a job machine does next, besides committing the job."""

    CANCEL_ATTEMPT = "cancel_attempt"
    SEND_AGAIN = "send_again"
    DISPATCH = "dispatch"


class Standing(enum.Enum):
    """What a node that registers knows of an attempt the gateway has dispatched to it."""

    RUNNING = "running"
    FINISHED = "finished"
    NOT_LISTED = "not_listed"
    """Same memory, attempt unknown: it never started."""
    DIED = "died"
    """The node host, or its memory, died in the middle."""


@attrs.frozen
class Call:
    """What was asked; never changes.  Times are Unix milliseconds, lengths milliseconds, bytes."""

    job_id: JobId
    device_id: DeviceId
    device_name: str
    capability: str
    input_json: bytes
    requested_by: str
    submitted_at_ms: int
    run_timeout_ms: int
    max_payload_bytes: int
    idempotent: bool = False
    needs_mediation: bool = False
    queue_expires_at_ms: int | None = None
    idempotency_key: str | None = None
    fanout_id: FanoutId | None = None
    operator_id: str = ""
    """Who answers for it: an operator's id; empty where a paired client asked."""
    approval_id: str | None = None
    """The approval it needs, or needed, before its first attempt."""


@attrs.frozen
class Attempt:
    """One dispatch of a job; ``attempt_id`` is the wire's request_id."""

    attempt_id: AttemptId
    number: int
    gateway_id: str
    session_epoch: int
    memory_id: str
    dispatched_at_ms: int
    deadline_ms: int


ONCE, FOR_SESSION, ALWAYS, BY_RULE, REFUSED = "once", "session", "always", "rule", "no"
CHOICES = frozenset({ONCE, FOR_SESSION, ALWAYS, BY_RULE, REFUSED})
"""What may be said to an attempt on the device itself."""


@attrs.frozen
class MediationAnswer:
    """What a device says was said there: by a person as it names them, or by a rule of its owner
    (``rule ID``); ``choice`` is one of :data:`CHOICES`."""

    decided_by: str
    choice: str


@attrs.frozen
class Mediation:
    """What became of the question at the device.  Times are the gateway's, Unix milliseconds."""

    asked_at_ms: int | None = None
    decided_at_ms: int | None = None
    decided_by: str = ""
    choice: str = ""


@attrs.frozen
class Report:
    """What a node says became of an attempt.  ``stopped``: nothing of it runs any more."""

    attempt_id: AttemptId
    outcome: Outcome
    output_json: bytes = b""
    error_code: str = ""
    error: str = ""
    stopped: bool = True
    took_ms: int = 0
    mediation: MediationAnswer | None = None


@attrs.define
class Job:
    """A job's record: the call, and what became of it so far."""

    call: Call
    state: JobState = JobState.QUEUED
    attempt: Attempt | None = None
    attempts: int = 0
    deadline_ms: int | None = None
    waiting_for: str = ""
    retry_at_ms: int | None = None
    """When the next attempt might begin, after the last one was lost."""
    cancel_requested_at_ms: int | None = None
    cancel_requested_by: str = ""
    cancel_reason: str = ""
    finished_at_ms: int | None = None
    output_json: bytes | None = None
    error_code: str = ""
    error: str = ""
    effect_possible: bool = False
    took_ms: int | None = None
    mediation: Mediation | None = None
    """Where the device's owner, or a rule of theirs, had a say."""
    notes: list[Report] = attrs.Factory(list)
    wants: list[Want] = attrs.Factory(list)

    @property
    def final(self) -> bool:
        """Whether nothing can change the state any more."""
        return self.state not in UNFINISHED

    def take_wants(self) -> list[Want]:
        """What the host must do since it last asked."""
        wants, self.wants = self.wants, []
        return wants
