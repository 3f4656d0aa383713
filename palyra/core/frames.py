"""What the gateway and its peers say to each other, whatever carries it: sessions of nodes, and
calls of paired clients."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from palyra.core.devices import AnnouncedCapability
from palyra.core.identifiers import AttemptId, DeviceId
from palyra.core.jobs import Job, MediationAnswer, Report, Standing
from palyra.core.versions import FEATURES

STARTED = "node.started"
HEARTBEAT = "node.heartbeat"
STOPPING = "node.stopping"
AWAITING = "capability.awaiting_local_mediation"
RESULT = "capability.result"


@attrs.frozen
class Hello:
    """What a node tells of itself when it registers.  ``None`` memory is a version-1 node's."""

    device_id: DeviceId
    platform: str
    capabilities: tuple[AnnouncedCapability, ...]
    version: str = ""
    memory_id: str = ""
    store_epoch: str = ""
    max_in_flight: int = 1
    attempts: Mapping[str, Standing] = attrs.Factory(dict)
    extended: bool = False
    """Whether the node understands the extensions of the session's messages."""
    unix_ms: int = 0
    """The node's clock, for people; 0 where it does not say."""
    features: frozenset[str] = FEATURES
    """What it understands, of what this version knows (:mod:`palyra.core.versions`)."""

    def standing(self, attempt_id: str, memory_id: str) -> Standing:
        """What the node knows of an attempt that was dispatched to the memory ``memory_id``."""
        listed = self.attempts.get(attempt_id)
        if listed is not None:
            return listed
        same_memory = self.extended and memory_id != "" and memory_id == self.memory_id
        return Standing.NOT_LISTED if same_memory else Standing.DIED


@attrs.frozen
class Welcome:
    """The gateway's answer to a registration."""

    device_id: DeviceId
    store_epoch: str
    session_epoch: int
    heartbeat_interval_ms: int
    gateway_unix_ms: int
    ca_bundle_pem: str
    granted: tuple[str, ...]
    device_name: str
    version: str
    renew_after_s: int | None = None
    """In how many seconds to renew the certificate of this connection; 0: at once."""
    quic_address: str = ""
    """HOST:PORT of the QUIC listener; empty where the gateway has none."""
    unknown_digests: tuple[str, ...] = ()
    """Of the descriptors that the gateway asks for."""
    features: frozenset[str] = FEATURES
    """What the gateway understands, of what this version knows."""


@attrs.frozen
class Progress:
    """How far an attempt is; ``fraction`` is 0 to 1 or unknown."""

    attempt_id: AttemptId
    fraction: float | None
    text: str


@attrs.frozen
class JobUpdate:
    """What whoever follows a job is told: the job as it is now, and how far it is."""

    job: Job
    progress: Progress | None = None


@attrs.frozen
class Wanted:
    """A call that a paired client makes; None and empty texts take the gateway's defaults."""

    device_id: DeviceId
    capability: str
    input_json: bytes
    max_payload_bytes: int | None = None
    timeout_ms: int | None = None
    ttl_ms: int | None = None
    idempotency_key: str = ""


@attrs.frozen
class Waiting:
    """A person at the device is being asked (or has said yes, when ``answered``)."""

    attempt_id: AttemptId
    answered: bool
    remaining_ms: int
    mediation: MediationAnswer | None = None
    """What was said, where answered."""


@attrs.frozen
class Chunk:
    """A piece of a payload that is too large for one message (PROTOCOL: Sessions)."""

    transfer_id: int
    index: int
    data: bytes
    sha256: bytes | None = None
    """Of the whole payload, on its last piece."""

    @property
    def last(self) -> bool:
        """Whether the payload is complete with it."""
        return self.sha256 is not None


@attrs.frozen
class NodeEvent:
    """One message of a node."""

    name: str = ""
    session_epoch: int = 0
    reports: tuple[Report, ...] = ()
    progress: tuple[Progress, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    chunks: tuple[Chunk, ...] = ()
    transferred: tuple[tuple[Report, int], ...] = ()
    """Reports without their outputs, each with the transfer that has brought it."""
    catalog: tuple[AnnouncedCapability, ...] | None = None
    """What the node offers from now on; None: nothing has changed."""
    descriptors: tuple[bytes, ...] = ()
    """Descriptors that the gateway asked for (:mod:`palyra.core.descriptors`)."""


@attrs.frozen
class CatalogAnswer:
    """What the gateway says to a catalog."""

    granted: tuple[str, ...]
    unknown_digests: tuple[str, ...]


@attrs.frozen
class Dispatch:
    """One attempt, as it is sent to a node.  ``remaining_ms`` is what is left of the run time."""

    attempt_id: AttemptId
    job_id: str
    number: int
    capability: str
    input_json: bytes
    max_payload_bytes: int
    remaining_ms: int
    requested_by: str
    traceparent: str = ""
    """The span that the run is part of; empty where nothing is traced."""


@attrs.frozen
class Drained:
    """The gateway asks the node to take its session elsewhere, or to come back later."""

    reason: str
    retry_after_ms: int = 0


@attrs.frozen
class Renew:
    """The gateway asks the node for a new certificate, at a moment of its own within that time."""

    reason: str
    within_ms: int


@attrs.define
class GatewayFrame:
    """Everything that gathered for a node since the last message was written."""

    dispatches: list[Dispatch] = attrs.Factory(list)
    acknowledged: list[str] = attrs.Factory(list)
    cancels: list[tuple[str, str]] = attrs.Factory(list)
    """Attempt id and reason."""
    answers: int = 0
    """How many events of the node are answered by this message (heartbeats)."""
    drain: Drained | None = None
    renew: Renew | None = None
    chunks: list[Chunk] = attrs.Factory(list)
    transferred: list[tuple[Dispatch, int]] = attrs.Factory(list)
    """Dispatches without their inputs, each with the transfer that has brought it."""
    catalog: CatalogAnswer | None = None
