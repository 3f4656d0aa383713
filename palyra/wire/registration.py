"""Translation of a registration between protobuf and core values.

Reading never trusts: lengths and enums are checked here, and what does not fit raises
:class:`palyra.errors.Malformed`.
"""

from __future__ import annotations

from collections.abc import Collection

from palyra.core.announcement import checked_capabilities
from palyra.core.devices import MAX_CAPABILITIES, AnnouncedCapability, clean_text
from palyra.core.frames import Hello, Welcome
from palyra.core.identifiers import DeviceId, parse_ulid
from palyra.core.jobs import Standing
from palyra.core.versions import MAX_FEATURE, MAX_FEATURES, features_of
from palyra.errors import Malformed
from palyra.wire.checks import VERSION, check_version, checked_attempt_id
from palyra.wire.v1 import common_pb2, node_pb2

MAX_ATTEMPTS_LISTED = 3_584
"""With as many capabilities as there may be a registration stays below 512 KiB."""
RISKS = ("low", "medium", "high")
_PUBLISHED_RISKS = {
    "echo": "low",
    "system.health": "low",
    "system.identity": "low",
    "desktop.open_path": "high",
}
"""Of the capabilities that version-1 nodes announce by name alone; any other is medium."""


def read_hello(message: node_pb2.RegisterNodeRequest) -> Hello:
    """RegisterNodeRequest, checked."""
    check_version(message.v)
    hello = message.hello
    listed = (
        (hello.running_attempts, Standing.RUNNING),
        (hello.finished_attempts, Standing.FINISHED),
        (hello.died_attempts, Standing.DIED),
    )
    if sum(len(ids) for ids, _ in listed) > MAX_ATTEMPTS_LISTED:
        raise Malformed("hello", f"lists more than {MAX_ATTEMPTS_LISTED} attempts")
    attempts: dict[str, Standing] = {
        checked_attempt_id(attempt, "hello"): standing
        for ids, standing in listed
        for attempt in ids
    }
    return Hello(
        device_id=DeviceId(parse_ulid(message.device_id.ulid, "device_id")),
        platform=clean_text(message.platform, 64),
        capabilities=capabilities_of(message.capabilities),
        version=clean_text(hello.version, 64),
        memory_id=hello.memory_id[:64],
        store_epoch=hello.store_epoch[:64],
        max_in_flight=max(1, hello.max_in_flight),
        attempts=attempts,
        extended=message.HasField("hello"),
        unix_ms=hello.unix_ms,
        features=_features(hello.features),
    )


def write_hello(hello: Hello) -> node_pb2.RegisterNodeRequest:
    """The node's side of :func:`read_hello`."""
    by_standing: dict[Standing, list[str]] = {standing: [] for standing in Standing}
    for attempt, standing in hello.attempts.items():
        by_standing[standing].append(attempt)
    return node_pb2.RegisterNodeRequest(
        v=VERSION,
        device_id=common_pb2.CanonicalId(ulid=hello.device_id),
        platform=hello.platform,
        capabilities=[write_capability(item) for item in hello.capabilities],
        hello=node_pb2.NodeHello(
            memory_id=hello.memory_id,
            running_attempts=by_standing[Standing.RUNNING],
            finished_attempts=by_standing[Standing.FINISHED],
            died_attempts=by_standing[Standing.DIED],
            version=hello.version,
            store_epoch=hello.store_epoch,
            max_in_flight=hello.max_in_flight,
            unix_ms=hello.unix_ms,
            features=sorted(hello.features),
        ),
    )


def read_welcome(message: node_pb2.RegisterNodeResponse) -> Welcome:
    """RegisterNodeResponse, as a node of ours reads it."""
    welcome = message.welcome
    return Welcome(
        device_id=DeviceId(message.device_id.ulid),
        store_epoch=welcome.store_epoch,
        session_epoch=welcome.session_epoch,
        heartbeat_interval_ms=welcome.heartbeat_interval_ms,
        gateway_unix_ms=welcome.gateway_unix_ms,
        ca_bundle_pem=welcome.ca_bundle_pem,
        granted=tuple(welcome.granted),
        device_name=welcome.device_name,
        version=welcome.version,
        renew_after_s=welcome.renew_after_s if welcome.HasField("renew_after_s") else None,
        quic_address=welcome.quic_address,
        unknown_digests=tuple(welcome.unknown_digests),
        features=_features(welcome.features),
    )


def write_welcome(welcome: Welcome) -> node_pb2.RegisterNodeResponse:
    """The gateway's answer to a registration it accepted."""
    return node_pb2.RegisterNodeResponse(
        v=VERSION,
        device_id=common_pb2.CanonicalId(ulid=welcome.device_id),
        accepted=True,
        welcome=node_pb2.NodeWelcome(
            store_epoch=welcome.store_epoch,
            session_epoch=welcome.session_epoch,
            heartbeat_interval_ms=welcome.heartbeat_interval_ms,
            gateway_unix_ms=welcome.gateway_unix_ms,
            ca_bundle_pem=welcome.ca_bundle_pem,
            granted=welcome.granted,
            device_name=welcome.device_name,
            version=welcome.version,
            renew_after_s=welcome.renew_after_s,
            quic_address=welcome.quic_address,
            unknown_digests=welcome.unknown_digests,
            features=sorted(welcome.features),
        ),
    )


def _features(told: Collection[str]) -> frozenset[str]:
    """What is known of it; a list that is too long, or a name, is left."""
    return features_of(
        tuple(each for each in tuple(told)[:MAX_FEATURES] if len(each) <= MAX_FEATURE)
    )


def capabilities_of(
    messages: Collection[node_pb2.DeviceCapability],
) -> tuple[AnnouncedCapability, ...]:
    """What a node offers, checked."""
    if len(messages) > MAX_CAPABILITIES:
        raise Malformed("capabilities", f"at most {MAX_CAPABILITIES} (got {len(messages)})")
    return checked_capabilities(map(_read_capability, messages))


def _read_capability(message: node_pb2.DeviceCapability) -> AnnouncedCapability:
    traits = message.traits
    if message.HasField("traits") and traits.risk not in RISKS:
        raise Malformed(
            f"capabilities.{clean_text(message.name, 64)}.risk", f"must be one of {RISKS}"
        )
    return AnnouncedCapability(
        name=message.name,
        available=message.available,
        digest=message.descriptor_digest,
        version=traits.version,
        risk=traits.risk or _PUBLISHED_RISKS.get(message.name, "medium"),
        needs_mediation=traits.needs_mediation,
        idempotent=traits.idempotent,
        timeout_ms=traits.timeout_ms,
        fault=traits.fault,
        contract=traits.contract_digest,
    )


def write_capability(item: AnnouncedCapability) -> node_pb2.DeviceCapability:
    """One capability as a node offers it."""
    return node_pb2.DeviceCapability(
        name=item.name,
        available=item.available,
        descriptor_digest=item.digest,
        traits=node_pb2.CapabilityTraits(
            version=item.version,
            risk=item.risk,
            needs_mediation=item.needs_mediation,
            idempotent=item.idempotent,
            timeout_ms=item.timeout_ms,
            fault=item.fault,
            contract_digest=item.contract,
        ),
    )
