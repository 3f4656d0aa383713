"""Bodies of ``jobs``, ``fanouts`` and ``nodes/{id}/invoke``."""

from __future__ import annotations

import msgspec

from palyra.console.models.common import Contract, Page, null
from palyra.core.callapprovals import APPROVAL


class Invoke(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST nodes/{id}/invoke.  ``input_json`` is any JSON value; ``wait_ms`` 0 does not wait.

    ``ttl_ms`` lets the job wait that long for a device that is away; ``idempotency_key`` makes a
    repetition of the same call answer with the same job.
    """

    capability: str
    input_json: msgspec.Raw = msgspec.field(default_factory=null)
    max_payload_bytes: int | None = None
    timeout_ms: int | None = None
    wait_ms: int | None = None
    ttl_ms: int | None = None
    idempotency_key: str = ""


class SubmitJobs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST jobs: one call to many devices, named in ``targets`` or chosen by ``where``.

    ``batch`` is a number of devices or a percentage (``25%``) that run at a time; when more than
    ``max_failures`` have failed, no other is started.
    """

    capability: str
    targets: list[str] = []
    where: str = ""
    input_json: msgspec.Raw = msgspec.field(default_factory=null)
    max_payload_bytes: int | None = None
    timeout_ms: int | None = None
    ttl_ms: int | None = None
    idempotency_key: str = ""
    batch: str = ""
    max_failures: int | None = None


class FanoutItem(msgspec.Struct, frozen=True):
    """A fan-out: what was asked, and how many rows are in which state.

    ``counts`` names only states that occur; their sum is ``targets``.  ``stopped``: more than
    ``max_failures`` rows have failed, and no other is started.
    """

    fanout_id: str
    capability: str
    expression: str
    requested_by: str
    submitted_at_unix_ms: int
    targets: int
    batch: int | None
    max_failures: int | None
    counts: dict[str, int]
    finished: bool
    stopped: bool
    approval_id: str | None = None
    """Of the rows that a rule holds until an operator has said yes."""


class FanoutAnswer(msgspec.Struct, frozen=True):
    """POST jobs (every row), GET fanouts/{id} (a page of rows, newest id first)."""

    contract: Contract
    page: Page
    fanout: FanoutItem
    rows: list[JobItem]


class CancelJob(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST jobs/{id}/cancel and fanouts/{id}/cancel."""

    reason: str = ""


class PurgeJobs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST jobs/purge: cancel what waits, for one device or (``device`` empty) for all."""

    device: str = ""
    reason: str = ""


class PurgeAnswer(msgspec.Struct, frozen=True):
    """How many queued jobs were cancelled."""

    contract: Contract
    cancelled: int


class InvokeAnswer(msgspec.Struct, frozen=True):
    """What became of an invocation; ``output_json`` is the capability's output.

    Of a call that waits for approval (status 202) ``approval_id`` says which.
    """

    contract: Contract
    device_id: str
    capability: str
    success: bool
    job_id: str
    state: str
    output_json: msgspec.Raw
    error: str | None
    error_code: str | None
    effect_possible: bool
    took_ms: int | None
    approval_id: str | None = None
    waiting_for: str = ""

    @property
    def accepted_only(self) -> bool:
        """Whether it says only that the call was taken: an operator has to decide."""
        return self.waiting_for == APPROVAL


class MediationItem(msgspec.Struct, frozen=True):
    """What became of the question at the device.

    ``decided_by`` is a person as the device names them, or a rule of its owner (``rule ID``);
    ``choice`` is once, session, always, rule or no, empty as long as nobody has answered.
    """

    asked_at_unix_ms: int | None
    decided_at_unix_ms: int | None
    decided_by: str
    choice: str


class JobItem(msgspec.Struct, frozen=True):
    """One job of a list; ``note`` is a redacted summary of output, error or reason."""

    job_id: str
    device_id: str
    device_name: str
    capability: str
    state: str
    submitted_at_unix_ms: int
    finished_at_unix_ms: int | None
    took_ms: int | None
    requested_by: str
    attempts: int
    waiting_for: str
    error_code: str
    note: str
    effect_possible: bool
    fanout_id: str | None = None
    queue_expires_unix_ms: int | None = None
    """Until when a queued job waits for its device."""
    cancel_requested_unix_ms: int | None = None
    cancelled_by: str = ""
    """Who asked first for its end, and why."""
    cancel_reason: str = ""
    retry_at_unix_ms: int | None = None
    approval_id: str | None = None
    """The approval that it waits for, or waited for."""
    mediation: MediationItem | None = None
    """Where the device's owner, or a rule of theirs, had a say."""


class JobEvent(msgspec.Struct, frozen=True):
    """One event of a stream that follows a job or a fan-out.

    ``kind`` is ``job`` (the state, or how far it is), ``fanout`` (the counts), or ``end``: nothing
    will follow.  A follower that reads slowly misses states in between, never the newest one.
    """

    kind: str
    job: JobItem | None = None
    progress: float | None = None
    progress_text: str = ""
    fanout: FanoutItem | None = None


class JobList(msgspec.Struct, frozen=True):
    """GET jobs."""

    contract: Contract
    page: Page
    jobs: list[JobItem]


class JobNote(msgspec.Struct, frozen=True):
    """What a node reported of an attempt after the job had ended: it changed nothing.

    ``note`` is the redacted beginning of its output; not ``stopped``: it may still run.
    """

    attempt_id: str
    outcome: str
    error_code: str
    error: str
    took_ms: int
    stopped: bool
    note: str


class JobAnswer(msgspec.Struct, frozen=True):
    """GET jobs/{id}, with the whole input and output; ``notes`` in the order they came."""

    contract: Contract
    job: JobItem
    input_json: msgspec.Raw
    output_json: msgspec.Raw
    error: str | None
    progress: float | None = None
    """0 to 1, of a job that runs and says so."""
    progress_text: str = ""
    notes: list[JobNote] = []
