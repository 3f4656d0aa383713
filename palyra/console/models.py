"""Request and response bodies of ``/console/v1``: the one place that names their keys.

Every answer carries ``contract``; lists carry ``page``.  Times are Unix milliseconds.
"""

from __future__ import annotations

from typing import Any

import msgspec

CONTRACT_VERSION = "control-plane.v1"
NULL = msgspec.Raw(b"null")
"""An output that is not there; msgspec does not decode ``Raw | None``."""


class Contract(msgspec.Struct, frozen=True):
    """Which contract an answer keeps."""

    contract_version: str = CONTRACT_VERSION


class Page(msgspec.Struct, frozen=True, omit_defaults=False):
    """Where a list stands: ``next_cursor`` is given where ``has_more``."""

    limit: int
    returned: int
    has_more: bool
    next_cursor: str | None = None


class CapabilityItem(msgspec.Struct, frozen=True):
    """One capability of a device, as announced and as granted."""

    name: str
    available: bool
    granted: bool
    version: str
    risk: str
    needs_mediation: bool
    idempotent: bool
    fault: str


class NodeItem(msgspec.Struct, frozen=True):
    """One row of the inventory."""

    device_id: str
    name: str
    client_kind: str
    presence: str
    trust: str
    platform: str
    version: str
    capabilities: list[CapabilityItem]
    jobs_running: int
    last_heard_unix_ms: int | None
    transport: str
    address: str
    certificate_expires_unix_ms: int | None
    labels: dict[str, str]
    identity_fingerprint: str
    approved_by: str
    paired_at_unix_ms: int
    certificate_renews_unix_ms: int | None = None
    """When the device is expected to ask for its next certificate."""
    certificate_ca: str = ""
    """Fingerprint of the CA that signed its newest certificate."""
    rotate_asked_unix_ms: int | None = None
    """When an operator ordered a new certificate that it does not use yet."""
    rotate_asked_by: str = ""
    clock_ahead_ms: int | None = None
    """How far its clock was ahead when it registered last, or behind (negative)."""
    grant_risk: str = "low"
    """Up to which risk a capability that it announces later is granted by itself."""


class NodeList(msgspec.Struct, frozen=True):
    """GET nodes."""

    contract: Contract
    page: Page
    nodes: list[NodeItem]
    waiting_for_approval: int


class NodeAnswer(msgspec.Struct, frozen=True):
    """GET nodes/{id}."""

    contract: Contract
    node: NodeItem


class SeenBefore(msgspec.Struct, frozen=True):
    """What is known of a device id that asks to pair: ``kind`` is never, same_key, another_key
    or revoked."""

    kind: str
    name: str = ""
    at_unix_ms: int | None = None
    identity_fingerprint: str = ""
    by: str = ""
    reason: str = ""
    removed_at_unix_ms: int | None = None
    certificate_ended_unix_ms: int | None = None
    """Of a rejoin: when its last certificate ran out."""


class PairingItem(msgspec.Struct, frozen=True):
    """One pairing request, with what an operator must see before deciding."""

    request_id: str
    state: str
    device_id: str
    name: str
    client_kind: str
    platform: str
    version: str
    source: str
    identity_fingerprint: str
    capabilities: list[CapabilityItem]
    labels: dict[str, str]
    method: str
    issued_by: str
    issued_at_unix_ms: int
    created_at_unix_ms: int
    expires_at_unix_ms: int
    seen_before: SeenBefore
    decided_by: str
    reason: str
    approval_id: str


class PairingList(msgspec.Struct, frozen=True):
    """GET pairing/requests and nodes/pending; ``failed_tries`` are sources with wrong tries."""

    contract: Contract
    page: Page
    requests: list[PairingItem]
    codes: list[CodeItem]
    failed_tries: list[FailedTries]
    pins_paused_until_unix_ms: int | None = None
    """Until when nobody may pair by PIN, after too many wrong ones."""


class CodeItem(msgspec.Struct, frozen=True):
    """A pairing code, without the code: active, or ``burnt`` by wrong tries of late."""

    code_id: str
    method: str
    issued_by: str
    issued_at_unix_ms: int
    expires_at_unix_ms: int
    labels: dict[str, str]
    source: str
    failed: int
    state: str = "active"
    nameplate: int | None = None


class FailedTries(msgspec.Struct, frozen=True):
    """Wrong tries from one source in the last ten minutes."""

    source: str
    count: int


class PairingAnswer(msgspec.Struct, frozen=True):
    """The answer to a decision."""

    contract: Contract
    request: PairingItem


class MintCode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST pairing/requests/code."""

    method: str = "pin"
    issued_by: str = ""
    ttl_ms: int | None = None
    labels: dict[str, str] = {}
    source: str = ""


class MintedCode(msgspec.Struct, frozen=True):
    """A new code: the only time it is ever shown, as ``uri`` or as ``pin``; the other is empty.

    ``address`` is where devices pair, ``loopback_only``: no other machine can.
    """

    contract: Contract
    code: CodeItem
    uri: str
    address: str
    loopback_only: bool
    pin: str = ""

    def __repr__(self) -> str:
        return f"<MintedCode {self.code.code_id}>"


class Decision(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST pairing/requests/{id}/approve|reject.  ``grants`` None grants what was announced;
    ``grant_risk`` (none, low, medium, high) grants what is announced later up to that risk."""

    reason: str = ""
    grants: list[str] | None = None
    grant_risk: str = "low"
    accept_new_identity: bool = False
    decision_scope: str = "once"
    decision_scope_ttl_ms: int | None = None


class Invoke(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST nodes/{id}/invoke.  ``input_json`` is any JSON value; ``wait_ms`` 0 does not wait.

    ``ttl_ms`` lets the job wait that long for a device that is away; ``idempotency_key`` makes a
    repetition of the same call answer with the same job.
    """

    capability: str
    input_json: msgspec.Raw = msgspec.Raw(b"null")
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
    input_json: msgspec.Raw = msgspec.Raw(b"null")
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


class LabelNode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST devices/{id}/labels.  A label without a value is a group; ``unlabel`` are keys."""

    name: str | None = None
    labels: dict[str, str] = {}
    unlabel: list[str] = []


class InvokeAnswer(msgspec.Struct, frozen=True):
    """What became of an invocation; ``output_json`` is the capability's output."""

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


class Revoke(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST devices/{id}/revoke."""

    reason: str = ""


class RevokeAnswer(msgspec.Struct, frozen=True):
    """What a revocation ended."""

    contract: Contract
    device_id: str
    name: str
    certificates: int


class GrantNode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST devices/{id}/grants: capabilities to grant and to withhold, and the risk up to which
    later ones are granted by themselves (None: as it was)."""

    grant: list[str] = []
    withhold: list[str] = []
    grant_risk: str | None = None


class Rotate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST devices/rotate and devices/{id}/rotate: order a new certificate from the devices that
    are named, that an expression matches, or (``everything``) from all."""

    targets: list[str] = []
    where: str = ""
    everything: bool = False
    reason: str = ""


class RotateAnswer(msgspec.Struct, frozen=True):
    """The devices that were told, or will be when they come back."""

    contract: Contract
    nodes: list[NodeItem]


class Remove(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST devices/{id}/remove and devices/clear."""

    reason: str = ""


class RemoveAnswer(msgspec.Struct, frozen=True):
    """What removing a device did; ``revoked`` says that it was revoked by it."""

    contract: Contract
    device_id: str
    name: str
    revoked: bool
    certificates: int
    pairing_requests: int


class ClearAnswer(msgspec.Struct, frozen=True):
    """POST devices/clear: every revoked device was removed."""

    contract: Contract
    removed: list[RemoveAnswer]


class CaItem(msgspec.Struct, frozen=True):
    """One CA of the gateway: whether it signs new certificates, and whether it signed the one
    that the listeners show."""

    fingerprint: str
    issues: bool
    serves: bool
    not_after_unix_ms: int


class CaAnswer(msgspec.Struct, frozen=True):
    """GET ca, POST ca/rotate.

    ``phase`` is steady, overlap (devices move to the new CA) or switched (the listeners show a
    certificate of the new one), since ``started_unix_ms``.  ``left`` are devices that would be
    locked out by the next step, which is taken without them not before ``next_step_unix_ms``.
    """

    contract: Contract
    phase: str
    cas: list[CaItem]
    started_unix_ms: int | None
    next_step_unix_ms: int | None
    left: list[NodeItem]
    left_total: int


class RotateCa(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST ca/rotate."""

    reason: str = ""


class ConfirmState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST state/confirm: nothing has to be said."""


class StateAnswer(msgspec.Struct, frozen=True):
    """GET state, POST state/confirm: whether devices are served.

    ``unconfirmed_since_unix_ms`` is the age of what was restored or imported, until an operator
    has confirmed the revocations since then.
    """

    contract: Contract
    serving: bool
    unconfirmed_since_unix_ms: int | None


class Check(msgspec.Struct, frozen=True):
    """One line of ``doctor``; ``verdict`` is ok, warn or FAIL."""

    verdict: str
    name: str
    finding: str
    where: str = ""
    hint: str = ""


class Health(msgspec.Struct, frozen=True):
    """GET doctor: the checks only the running gateway can make."""

    contract: Contract
    version: str
    pid: int
    state_root: str
    started_at_unix_ms: int
    ca_fingerprint: str
    listeners: dict[str, str]
    checks: list[Check]


class Problem(msgspec.Struct, frozen=True):
    """Every refusal: a sentence, a stable code and the hint that comes next."""

    error: str
    code: str
    hint: str
    category: str
    retryable: bool
    validation_errors: list[dict[str, Any]] = []
