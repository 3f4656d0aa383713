from palyra.wire.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AttemptOutcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ATTEMPT_OUTCOME_UNSPECIFIED: _ClassVar[AttemptOutcome]
    ATTEMPT_OUTCOME_SUCCEEDED: _ClassVar[AttemptOutcome]
    ATTEMPT_OUTCOME_FAILED: _ClassVar[AttemptOutcome]
    ATTEMPT_OUTCOME_TIMED_OUT: _ClassVar[AttemptOutcome]
    ATTEMPT_OUTCOME_CANCELLED: _ClassVar[AttemptOutcome]
    ATTEMPT_OUTCOME_REJECTED: _ClassVar[AttemptOutcome]
    ATTEMPT_OUTCOME_DIED: _ClassVar[AttemptOutcome]
ATTEMPT_OUTCOME_UNSPECIFIED: AttemptOutcome
ATTEMPT_OUTCOME_SUCCEEDED: AttemptOutcome
ATTEMPT_OUTCOME_FAILED: AttemptOutcome
ATTEMPT_OUTCOME_TIMED_OUT: AttemptOutcome
ATTEMPT_OUTCOME_CANCELLED: AttemptOutcome
ATTEMPT_OUTCOME_REJECTED: AttemptOutcome
ATTEMPT_OUTCOME_DIED: AttemptOutcome

class PairingMethod(_message.Message):
    __slots__ = ("pin_code", "qr_token")
    PIN_CODE_FIELD_NUMBER: _ClassVar[int]
    QR_TOKEN_FIELD_NUMBER: _ClassVar[int]
    pin_code: str
    qr_token: str
    def __init__(self, pin_code: _Optional[str] = ..., qr_token: _Optional[str] = ...) -> None: ...

class PakeOffer(_message.Message):
    __slots__ = ("suite", "nameplate")
    SUITE_FIELD_NUMBER: _ClassVar[int]
    NAMEPLATE_FIELD_NUMBER: _ClassVar[int]
    suite: int
    nameplate: int
    def __init__(self, suite: _Optional[int] = ..., nameplate: _Optional[int] = ...) -> None: ...

class RejoinOffer(_message.Message):
    __slots__ = ("device_id",)
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    device_id: _common_pb2.CanonicalId
    def __init__(self, device_id: _Optional[_Union[_common_pb2.CanonicalId, _Mapping]] = ...) -> None: ...

class PakeShare(_message.Message):
    __slots__ = ("suite", "share")
    SUITE_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    suite: int
    share: bytes
    def __init__(self, suite: _Optional[int] = ..., share: _Optional[bytes] = ...) -> None: ...

class Enrolment(_message.Message):
    __slots__ = ("csr_der", "identity_signature", "announcement", "pake_share", "pake_confirm")
    CSR_DER_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    ANNOUNCEMENT_FIELD_NUMBER: _ClassVar[int]
    PAKE_SHARE_FIELD_NUMBER: _ClassVar[int]
    PAKE_CONFIRM_FIELD_NUMBER: _ClassVar[int]
    csr_der: bytes
    identity_signature: bytes
    announcement: bytes
    pake_share: bytes
    pake_confirm: bytes
    def __init__(self, csr_der: _Optional[bytes] = ..., identity_signature: _Optional[bytes] = ..., announcement: _Optional[bytes] = ..., pake_share: _Optional[bytes] = ..., pake_confirm: _Optional[bytes] = ...) -> None: ...

class StatusProof(_message.Message):
    __slots__ = ("counter", "signature")
    COUNTER_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    counter: int
    signature: bytes
    def __init__(self, counter: _Optional[int] = ..., signature: _Optional[bytes] = ...) -> None: ...

class BeginPairingSessionRequest(_message.Message):
    __slots__ = ("v", "client_kind", "method", "replay", "pake", "rejoin")
    V_FIELD_NUMBER: _ClassVar[int]
    CLIENT_KIND_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    REPLAY_FIELD_NUMBER: _ClassVar[int]
    PAKE_FIELD_NUMBER: _ClassVar[int]
    REJOIN_FIELD_NUMBER: _ClassVar[int]
    v: int
    client_kind: str
    method: PairingMethod
    replay: _common_pb2.ReplayProtection
    pake: PakeOffer
    rejoin: RejoinOffer
    def __init__(self, v: _Optional[int] = ..., client_kind: _Optional[str] = ..., method: _Optional[_Union[PairingMethod, _Mapping]] = ..., replay: _Optional[_Union[_common_pb2.ReplayProtection, _Mapping]] = ..., pake: _Optional[_Union[PakeOffer, _Mapping]] = ..., rejoin: _Optional[_Union[RejoinOffer, _Mapping]] = ...) -> None: ...

class BeginPairingSessionResponse(_message.Message):
    __slots__ = ("v", "session_id", "client_kind", "gateway_ephemeral_public", "challenge", "expires_at_unix_ms", "pake", "gateway_unix_ms")
    V_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_KIND_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_EPHEMERAL_PUBLIC_FIELD_NUMBER: _ClassVar[int]
    CHALLENGE_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    PAKE_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    v: int
    session_id: str
    client_kind: str
    gateway_ephemeral_public: bytes
    challenge: bytes
    expires_at_unix_ms: int
    pake: PakeShare
    gateway_unix_ms: int
    def __init__(self, v: _Optional[int] = ..., session_id: _Optional[str] = ..., client_kind: _Optional[str] = ..., gateway_ephemeral_public: _Optional[bytes] = ..., challenge: _Optional[bytes] = ..., expires_at_unix_ms: _Optional[int] = ..., pake: _Optional[_Union[PakeShare, _Mapping]] = ..., gateway_unix_ms: _Optional[int] = ...) -> None: ...

class CompletePairingSessionRequest(_message.Message):
    __slots__ = ("v", "session_id", "device_id", "client_kind", "proof", "device_signing_public", "device_x25519_public", "challenge_signature", "transcript_mac", "enrolment")
    V_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_KIND_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    DEVICE_SIGNING_PUBLIC_FIELD_NUMBER: _ClassVar[int]
    DEVICE_X25519_PUBLIC_FIELD_NUMBER: _ClassVar[int]
    CHALLENGE_SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    TRANSCRIPT_MAC_FIELD_NUMBER: _ClassVar[int]
    ENROLMENT_FIELD_NUMBER: _ClassVar[int]
    v: int
    session_id: str
    device_id: _common_pb2.CanonicalId
    client_kind: str
    proof: str
    device_signing_public: bytes
    device_x25519_public: bytes
    challenge_signature: bytes
    transcript_mac: bytes
    enrolment: Enrolment
    def __init__(self, v: _Optional[int] = ..., session_id: _Optional[str] = ..., device_id: _Optional[_Union[_common_pb2.CanonicalId, _Mapping]] = ..., client_kind: _Optional[str] = ..., proof: _Optional[str] = ..., device_signing_public: _Optional[bytes] = ..., device_x25519_public: _Optional[bytes] = ..., challenge_signature: _Optional[bytes] = ..., transcript_mac: _Optional[bytes] = ..., enrolment: _Optional[_Union[Enrolment, _Mapping]] = ...) -> None: ...

class CompletePairingSessionResponse(_message.Message):
    __slots__ = ("v", "paired", "reason", "identity_fingerprint", "transcript_hash", "mtls_client_certificate_pem", "mtls_client_private_key_pem", "gateway_ca_certificate_pem", "cert_expires_at_unix_ms", "pake_confirm", "ca_bundle_pem", "retry_after_ms", "request_id", "renew_after_s")
    V_FIELD_NUMBER: _ClassVar[int]
    PAIRED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    TRANSCRIPT_HASH_FIELD_NUMBER: _ClassVar[int]
    MTLS_CLIENT_CERTIFICATE_PEM_FIELD_NUMBER: _ClassVar[int]
    MTLS_CLIENT_PRIVATE_KEY_PEM_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_CA_CERTIFICATE_PEM_FIELD_NUMBER: _ClassVar[int]
    CERT_EXPIRES_AT_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    PAKE_CONFIRM_FIELD_NUMBER: _ClassVar[int]
    CA_BUNDLE_PEM_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RENEW_AFTER_S_FIELD_NUMBER: _ClassVar[int]
    v: int
    paired: bool
    reason: str
    identity_fingerprint: str
    transcript_hash: str
    mtls_client_certificate_pem: str
    mtls_client_private_key_pem: str
    gateway_ca_certificate_pem: str
    cert_expires_at_unix_ms: int
    pake_confirm: bytes
    ca_bundle_pem: str
    retry_after_ms: int
    request_id: str
    renew_after_s: int
    def __init__(self, v: _Optional[int] = ..., paired: bool = ..., reason: _Optional[str] = ..., identity_fingerprint: _Optional[str] = ..., transcript_hash: _Optional[str] = ..., mtls_client_certificate_pem: _Optional[str] = ..., mtls_client_private_key_pem: _Optional[str] = ..., gateway_ca_certificate_pem: _Optional[str] = ..., cert_expires_at_unix_ms: _Optional[int] = ..., pake_confirm: _Optional[bytes] = ..., ca_bundle_pem: _Optional[str] = ..., retry_after_ms: _Optional[int] = ..., request_id: _Optional[str] = ..., renew_after_s: _Optional[int] = ...) -> None: ...

class GetPairingRequestStatusRequest(_message.Message):
    __slots__ = ("v", "session_id", "device_id", "proof")
    V_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    v: int
    session_id: str
    device_id: _common_pb2.CanonicalId
    proof: StatusProof
    def __init__(self, v: _Optional[int] = ..., session_id: _Optional[str] = ..., device_id: _Optional[_Union[_common_pb2.CanonicalId, _Mapping]] = ..., proof: _Optional[_Union[StatusProof, _Mapping]] = ...) -> None: ...

class GetPairingRequestStatusResponse(_message.Message):
    __slots__ = ("v", "status", "reason", "paired", "approval_id", "identity_fingerprint", "transcript_hash", "mtls_client_certificate_pem", "mtls_client_private_key_pem", "gateway_ca_certificate_pem", "cert_expires_at_unix_ms", "pake_confirm", "ca_bundle_pem", "retry_after_ms", "request_id", "device_name", "decided_by", "node_rpc_address", "renew_after_s", "quic_address")
    V_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PAIRED_FIELD_NUMBER: _ClassVar[int]
    APPROVAL_ID_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    TRANSCRIPT_HASH_FIELD_NUMBER: _ClassVar[int]
    MTLS_CLIENT_CERTIFICATE_PEM_FIELD_NUMBER: _ClassVar[int]
    MTLS_CLIENT_PRIVATE_KEY_PEM_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_CA_CERTIFICATE_PEM_FIELD_NUMBER: _ClassVar[int]
    CERT_EXPIRES_AT_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    PAKE_CONFIRM_FIELD_NUMBER: _ClassVar[int]
    CA_BUNDLE_PEM_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_NAME_FIELD_NUMBER: _ClassVar[int]
    DECIDED_BY_FIELD_NUMBER: _ClassVar[int]
    NODE_RPC_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    RENEW_AFTER_S_FIELD_NUMBER: _ClassVar[int]
    QUIC_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    v: int
    status: str
    reason: str
    paired: bool
    approval_id: str
    identity_fingerprint: str
    transcript_hash: str
    mtls_client_certificate_pem: str
    mtls_client_private_key_pem: str
    gateway_ca_certificate_pem: str
    cert_expires_at_unix_ms: int
    pake_confirm: bytes
    ca_bundle_pem: str
    retry_after_ms: int
    request_id: str
    device_name: str
    decided_by: str
    node_rpc_address: str
    renew_after_s: int
    quic_address: str
    def __init__(self, v: _Optional[int] = ..., status: _Optional[str] = ..., reason: _Optional[str] = ..., paired: bool = ..., approval_id: _Optional[str] = ..., identity_fingerprint: _Optional[str] = ..., transcript_hash: _Optional[str] = ..., mtls_client_certificate_pem: _Optional[str] = ..., mtls_client_private_key_pem: _Optional[str] = ..., gateway_ca_certificate_pem: _Optional[str] = ..., cert_expires_at_unix_ms: _Optional[int] = ..., pake_confirm: _Optional[bytes] = ..., ca_bundle_pem: _Optional[str] = ..., retry_after_ms: _Optional[int] = ..., request_id: _Optional[str] = ..., device_name: _Optional[str] = ..., decided_by: _Optional[str] = ..., node_rpc_address: _Optional[str] = ..., renew_after_s: _Optional[int] = ..., quic_address: _Optional[str] = ...) -> None: ...

class RotateDeviceCertificateRequest(_message.Message):
    __slots__ = ("v", "device_id", "replay", "csr_der", "identity_signature")
    V_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    REPLAY_FIELD_NUMBER: _ClassVar[int]
    CSR_DER_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    v: int
    device_id: _common_pb2.CanonicalId
    replay: _common_pb2.ReplayProtection
    csr_der: bytes
    identity_signature: bytes
    def __init__(self, v: _Optional[int] = ..., device_id: _Optional[_Union[_common_pb2.CanonicalId, _Mapping]] = ..., replay: _Optional[_Union[_common_pb2.ReplayProtection, _Mapping]] = ..., csr_der: _Optional[bytes] = ..., identity_signature: _Optional[bytes] = ...) -> None: ...

class RotateDeviceCertificateResponse(_message.Message):
    __slots__ = ("v", "rotated", "reason", "mtls_client_certificate_pem", "mtls_client_private_key_pem", "cert_expires_at_unix_ms", "ca_bundle_pem", "renew_after_s")
    V_FIELD_NUMBER: _ClassVar[int]
    ROTATED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MTLS_CLIENT_CERTIFICATE_PEM_FIELD_NUMBER: _ClassVar[int]
    MTLS_CLIENT_PRIVATE_KEY_PEM_FIELD_NUMBER: _ClassVar[int]
    CERT_EXPIRES_AT_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    CA_BUNDLE_PEM_FIELD_NUMBER: _ClassVar[int]
    RENEW_AFTER_S_FIELD_NUMBER: _ClassVar[int]
    v: int
    rotated: bool
    reason: str
    mtls_client_certificate_pem: str
    mtls_client_private_key_pem: str
    cert_expires_at_unix_ms: int
    ca_bundle_pem: str
    renew_after_s: int
    def __init__(self, v: _Optional[int] = ..., rotated: bool = ..., reason: _Optional[str] = ..., mtls_client_certificate_pem: _Optional[str] = ..., mtls_client_private_key_pem: _Optional[str] = ..., cert_expires_at_unix_ms: _Optional[int] = ..., ca_bundle_pem: _Optional[str] = ..., renew_after_s: _Optional[int] = ...) -> None: ...

class RevokeDevicePairingRequest(_message.Message):
    __slots__ = ("v", "device_id", "reason", "replay")
    V_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    REPLAY_FIELD_NUMBER: _ClassVar[int]
    v: int
    device_id: _common_pb2.CanonicalId
    reason: str
    replay: _common_pb2.ReplayProtection
    def __init__(self, v: _Optional[int] = ..., device_id: _Optional[_Union[_common_pb2.CanonicalId, _Mapping]] = ..., reason: _Optional[str] = ..., replay: _Optional[_Union[_common_pb2.ReplayProtection, _Mapping]] = ...) -> None: ...

class RevokeDevicePairingResponse(_message.Message):
    __slots__ = ("v", "revoked", "reason")
    V_FIELD_NUMBER: _ClassVar[int]
    REVOKED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    v: int
    revoked: bool
    reason: str
    def __init__(self, v: _Optional[int] = ..., revoked: bool = ..., reason: _Optional[str] = ...) -> None: ...

class DeviceCapability(_message.Message):
    __slots__ = ("name", "available", "descriptor_digest", "traits")
    NAME_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTOR_DIGEST_FIELD_NUMBER: _ClassVar[int]
    TRAITS_FIELD_NUMBER: _ClassVar[int]
    name: str
    available: bool
    descriptor_digest: str
    traits: CapabilityTraits
    def __init__(self, name: _Optional[str] = ..., available: bool = ..., descriptor_digest: _Optional[str] = ..., traits: _Optional[_Union[CapabilityTraits, _Mapping]] = ...) -> None: ...

class CapabilityTraits(_message.Message):
    __slots__ = ("version", "risk", "needs_mediation", "idempotent", "timeout_ms", "fault", "contract_digest")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    RISK_FIELD_NUMBER: _ClassVar[int]
    NEEDS_MEDIATION_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENT_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    CONTRACT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    version: str
    risk: str
    needs_mediation: bool
    idempotent: bool
    timeout_ms: int
    fault: str
    contract_digest: str
    def __init__(self, version: _Optional[str] = ..., risk: _Optional[str] = ..., needs_mediation: bool = ..., idempotent: bool = ..., timeout_ms: _Optional[int] = ..., fault: _Optional[str] = ..., contract_digest: _Optional[str] = ...) -> None: ...

class CapabilityDescriptor(_message.Message):
    __slots__ = ("json",)
    JSON_FIELD_NUMBER: _ClassVar[int]
    json: bytes
    def __init__(self, json: _Optional[bytes] = ...) -> None: ...

class CapabilityCatalog(_message.Message):
    __slots__ = ("capabilities",)
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    capabilities: _containers.RepeatedCompositeFieldContainer[DeviceCapability]
    def __init__(self, capabilities: _Optional[_Iterable[_Union[DeviceCapability, _Mapping]]] = ...) -> None: ...

class CatalogAnswer(_message.Message):
    __slots__ = ("granted", "unknown_digests")
    GRANTED_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_DIGESTS_FIELD_NUMBER: _ClassVar[int]
    granted: _containers.RepeatedScalarFieldContainer[str]
    unknown_digests: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, granted: _Optional[_Iterable[str]] = ..., unknown_digests: _Optional[_Iterable[str]] = ...) -> None: ...

class NodeHello(_message.Message):
    __slots__ = ("memory_id", "running_attempts", "finished_attempts", "died_attempts", "version", "store_epoch", "max_in_flight", "features", "unix_ms")
    MEMORY_ID_FIELD_NUMBER: _ClassVar[int]
    RUNNING_ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    FINISHED_ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    DIED_ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STORE_EPOCH_FIELD_NUMBER: _ClassVar[int]
    MAX_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    memory_id: str
    running_attempts: _containers.RepeatedScalarFieldContainer[str]
    finished_attempts: _containers.RepeatedScalarFieldContainer[str]
    died_attempts: _containers.RepeatedScalarFieldContainer[str]
    version: str
    store_epoch: str
    max_in_flight: int
    features: _containers.RepeatedScalarFieldContainer[str]
    unix_ms: int
    def __init__(self, memory_id: _Optional[str] = ..., running_attempts: _Optional[_Iterable[str]] = ..., finished_attempts: _Optional[_Iterable[str]] = ..., died_attempts: _Optional[_Iterable[str]] = ..., version: _Optional[str] = ..., store_epoch: _Optional[str] = ..., max_in_flight: _Optional[int] = ..., features: _Optional[_Iterable[str]] = ..., unix_ms: _Optional[int] = ...) -> None: ...

class RegisterNodeRequest(_message.Message):
    __slots__ = ("v", "device_id", "platform", "capabilities", "replay", "hello")
    V_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    PLATFORM_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    REPLAY_FIELD_NUMBER: _ClassVar[int]
    HELLO_FIELD_NUMBER: _ClassVar[int]
    v: int
    device_id: _common_pb2.CanonicalId
    platform: str
    capabilities: _containers.RepeatedCompositeFieldContainer[DeviceCapability]
    replay: _common_pb2.ReplayProtection
    hello: NodeHello
    def __init__(self, v: _Optional[int] = ..., device_id: _Optional[_Union[_common_pb2.CanonicalId, _Mapping]] = ..., platform: _Optional[str] = ..., capabilities: _Optional[_Iterable[_Union[DeviceCapability, _Mapping]]] = ..., replay: _Optional[_Union[_common_pb2.ReplayProtection, _Mapping]] = ..., hello: _Optional[_Union[NodeHello, _Mapping]] = ...) -> None: ...

class RegisterNodeResponse(_message.Message):
    __slots__ = ("v", "device_id", "accepted", "reason", "welcome")
    V_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    v: int
    device_id: _common_pb2.CanonicalId
    accepted: bool
    reason: str
    welcome: NodeWelcome
    def __init__(self, v: _Optional[int] = ..., device_id: _Optional[_Union[_common_pb2.CanonicalId, _Mapping]] = ..., accepted: bool = ..., reason: _Optional[str] = ..., welcome: _Optional[_Union[NodeWelcome, _Mapping]] = ...) -> None: ...

class NodeWelcome(_message.Message):
    __slots__ = ("store_epoch", "session_epoch", "heartbeat_interval_ms", "gateway_unix_ms", "ca_bundle_pem", "granted", "device_name", "version", "renew_after_s", "quic_address", "unknown_digests", "features")
    STORE_EPOCH_FIELD_NUMBER: _ClassVar[int]
    SESSION_EPOCH_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    CA_BUNDLE_PEM_FIELD_NUMBER: _ClassVar[int]
    GRANTED_FIELD_NUMBER: _ClassVar[int]
    DEVICE_NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    RENEW_AFTER_S_FIELD_NUMBER: _ClassVar[int]
    QUIC_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_DIGESTS_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    store_epoch: str
    session_epoch: int
    heartbeat_interval_ms: int
    gateway_unix_ms: int
    ca_bundle_pem: str
    granted: _containers.RepeatedScalarFieldContainer[str]
    device_name: str
    version: str
    renew_after_s: int
    quic_address: str
    unknown_digests: _containers.RepeatedScalarFieldContainer[str]
    features: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, store_epoch: _Optional[str] = ..., session_epoch: _Optional[int] = ..., heartbeat_interval_ms: _Optional[int] = ..., gateway_unix_ms: _Optional[int] = ..., ca_bundle_pem: _Optional[str] = ..., granted: _Optional[_Iterable[str]] = ..., device_name: _Optional[str] = ..., version: _Optional[str] = ..., renew_after_s: _Optional[int] = ..., quic_address: _Optional[str] = ..., unknown_digests: _Optional[_Iterable[str]] = ..., features: _Optional[_Iterable[str]] = ...) -> None: ...

class PayloadChunk(_message.Message):
    __slots__ = ("transfer_id", "index", "last", "data", "sha256")
    TRANSFER_ID_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    transfer_id: int
    index: int
    last: bool
    data: bytes
    sha256: bytes
    def __init__(self, transfer_id: _Optional[int] = ..., index: _Optional[int] = ..., last: bool = ..., data: _Optional[bytes] = ..., sha256: _Optional[bytes] = ...) -> None: ...

class NodeEventRequest(_message.Message):
    __slots__ = ("v", "device_id", "event_name", "payload_json", "replay", "session_epoch", "reports", "progress", "waiting", "chunks", "catalog", "descriptors")
    V_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_NAME_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_JSON_FIELD_NUMBER: _ClassVar[int]
    REPLAY_FIELD_NUMBER: _ClassVar[int]
    SESSION_EPOCH_FIELD_NUMBER: _ClassVar[int]
    REPORTS_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    CATALOG_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTORS_FIELD_NUMBER: _ClassVar[int]
    v: int
    device_id: _common_pb2.CanonicalId
    event_name: str
    payload_json: bytes
    replay: _common_pb2.ReplayProtection
    session_epoch: int
    reports: _containers.RepeatedCompositeFieldContainer[AttemptReport]
    progress: _containers.RepeatedCompositeFieldContainer[AttemptProgress]
    waiting: _containers.RepeatedCompositeFieldContainer[AttemptWaiting]
    chunks: _containers.RepeatedCompositeFieldContainer[PayloadChunk]
    catalog: CapabilityCatalog
    descriptors: _containers.RepeatedCompositeFieldContainer[CapabilityDescriptor]
    def __init__(self, v: _Optional[int] = ..., device_id: _Optional[_Union[_common_pb2.CanonicalId, _Mapping]] = ..., event_name: _Optional[str] = ..., payload_json: _Optional[bytes] = ..., replay: _Optional[_Union[_common_pb2.ReplayProtection, _Mapping]] = ..., session_epoch: _Optional[int] = ..., reports: _Optional[_Iterable[_Union[AttemptReport, _Mapping]]] = ..., progress: _Optional[_Iterable[_Union[AttemptProgress, _Mapping]]] = ..., waiting: _Optional[_Iterable[_Union[AttemptWaiting, _Mapping]]] = ..., chunks: _Optional[_Iterable[_Union[PayloadChunk, _Mapping]]] = ..., catalog: _Optional[_Union[CapabilityCatalog, _Mapping]] = ..., descriptors: _Optional[_Iterable[_Union[CapabilityDescriptor, _Mapping]]] = ...) -> None: ...

class AttemptReport(_message.Message):
    __slots__ = ("request_id", "outcome", "output_json", "error_code", "error", "stopped", "took_ms", "output_transfer", "mediation")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_JSON_FIELD_NUMBER: _ClassVar[int]
    ERROR_CODE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    STOPPED_FIELD_NUMBER: _ClassVar[int]
    TOOK_MS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TRANSFER_FIELD_NUMBER: _ClassVar[int]
    MEDIATION_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    outcome: AttemptOutcome
    output_json: bytes
    error_code: str
    error: str
    stopped: bool
    took_ms: int
    output_transfer: int
    mediation: MediationAnswer
    def __init__(self, request_id: _Optional[str] = ..., outcome: _Optional[_Union[AttemptOutcome, str]] = ..., output_json: _Optional[bytes] = ..., error_code: _Optional[str] = ..., error: _Optional[str] = ..., stopped: bool = ..., took_ms: _Optional[int] = ..., output_transfer: _Optional[int] = ..., mediation: _Optional[_Union[MediationAnswer, _Mapping]] = ...) -> None: ...

class MediationAnswer(_message.Message):
    __slots__ = ("decided_by", "choice")
    DECIDED_BY_FIELD_NUMBER: _ClassVar[int]
    CHOICE_FIELD_NUMBER: _ClassVar[int]
    decided_by: str
    choice: str
    def __init__(self, decided_by: _Optional[str] = ..., choice: _Optional[str] = ...) -> None: ...

class AttemptProgress(_message.Message):
    __slots__ = ("request_id", "fraction", "text")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    FRACTION_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    fraction: float
    text: str
    def __init__(self, request_id: _Optional[str] = ..., fraction: _Optional[float] = ..., text: _Optional[str] = ...) -> None: ...

class AttemptWaiting(_message.Message):
    __slots__ = ("request_id", "answered", "remaining_ms", "mediation")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_FIELD_NUMBER: _ClassVar[int]
    REMAINING_MS_FIELD_NUMBER: _ClassVar[int]
    MEDIATION_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    answered: bool
    remaining_ms: int
    mediation: MediationAnswer
    def __init__(self, request_id: _Optional[str] = ..., answered: bool = ..., remaining_ms: _Optional[int] = ..., mediation: _Optional[_Union[MediationAnswer, _Mapping]] = ...) -> None: ...

class NodeCapabilityDispatch(_message.Message):
    __slots__ = ("request_id", "capability", "input_json", "max_payload_bytes", "remaining_ms", "job_id", "attempt", "requested_by", "input_transfer", "traceparent")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CAPABILITY_FIELD_NUMBER: _ClassVar[int]
    INPUT_JSON_FIELD_NUMBER: _ClassVar[int]
    MAX_PAYLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    REMAINING_MS_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_BY_FIELD_NUMBER: _ClassVar[int]
    INPUT_TRANSFER_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    request_id: _common_pb2.CanonicalId
    capability: str
    input_json: bytes
    max_payload_bytes: int
    remaining_ms: int
    job_id: str
    attempt: int
    requested_by: str
    input_transfer: int
    traceparent: str
    def __init__(self, request_id: _Optional[_Union[_common_pb2.CanonicalId, _Mapping]] = ..., capability: _Optional[str] = ..., input_json: _Optional[bytes] = ..., max_payload_bytes: _Optional[int] = ..., remaining_ms: _Optional[int] = ..., job_id: _Optional[str] = ..., attempt: _Optional[int] = ..., requested_by: _Optional[str] = ..., input_transfer: _Optional[int] = ..., traceparent: _Optional[str] = ...) -> None: ...

class AttemptCancel(_message.Message):
    __slots__ = ("request_id", "reason")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    reason: str
    def __init__(self, request_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class Drain(_message.Message):
    __slots__ = ("reason", "retry_after_ms")
    REASON_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    reason: str
    retry_after_ms: int
    def __init__(self, reason: _Optional[str] = ..., retry_after_ms: _Optional[int] = ...) -> None: ...

class Renew(_message.Message):
    __slots__ = ("reason", "within_ms")
    REASON_FIELD_NUMBER: _ClassVar[int]
    WITHIN_MS_FIELD_NUMBER: _ClassVar[int]
    reason: str
    within_ms: int
    def __init__(self, reason: _Optional[str] = ..., within_ms: _Optional[int] = ...) -> None: ...

class NodeEventResponse(_message.Message):
    __slots__ = ("v", "event_id", "accepted", "reason", "dispatch", "dispatches", "acknowledged", "cancels", "drain", "gateway_unix_ms", "renew", "chunks", "catalog")
    V_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DISPATCH_FIELD_NUMBER: _ClassVar[int]
    DISPATCHES_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    CANCELS_FIELD_NUMBER: _ClassVar[int]
    DRAIN_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    RENEW_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    CATALOG_FIELD_NUMBER: _ClassVar[int]
    v: int
    event_id: _common_pb2.CanonicalId
    accepted: bool
    reason: str
    dispatch: NodeCapabilityDispatch
    dispatches: _containers.RepeatedCompositeFieldContainer[NodeCapabilityDispatch]
    acknowledged: _containers.RepeatedScalarFieldContainer[str]
    cancels: _containers.RepeatedCompositeFieldContainer[AttemptCancel]
    drain: Drain
    gateway_unix_ms: int
    renew: Renew
    chunks: _containers.RepeatedCompositeFieldContainer[PayloadChunk]
    catalog: CatalogAnswer
    def __init__(self, v: _Optional[int] = ..., event_id: _Optional[_Union[_common_pb2.CanonicalId, _Mapping]] = ..., accepted: bool = ..., reason: _Optional[str] = ..., dispatch: _Optional[_Union[NodeCapabilityDispatch, _Mapping]] = ..., dispatches: _Optional[_Iterable[_Union[NodeCapabilityDispatch, _Mapping]]] = ..., acknowledged: _Optional[_Iterable[str]] = ..., cancels: _Optional[_Iterable[_Union[AttemptCancel, _Mapping]]] = ..., drain: _Optional[_Union[Drain, _Mapping]] = ..., gateway_unix_ms: _Optional[int] = ..., renew: _Optional[_Union[Renew, _Mapping]] = ..., chunks: _Optional[_Iterable[_Union[PayloadChunk, _Mapping]]] = ..., catalog: _Optional[_Union[CatalogAnswer, _Mapping]] = ...) -> None: ...

class ExecuteCapabilityRequest(_message.Message):
    __slots__ = ("v", "device_id", "capability", "input_json", "max_payload_bytes", "timeout_ms", "ttl_ms", "idempotency_key")
    V_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    CAPABILITY_FIELD_NUMBER: _ClassVar[int]
    INPUT_JSON_FIELD_NUMBER: _ClassVar[int]
    MAX_PAYLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    v: int
    device_id: _common_pb2.CanonicalId
    capability: str
    input_json: bytes
    max_payload_bytes: int
    timeout_ms: int
    ttl_ms: int
    idempotency_key: str
    def __init__(self, v: _Optional[int] = ..., device_id: _Optional[_Union[_common_pb2.CanonicalId, _Mapping]] = ..., capability: _Optional[str] = ..., input_json: _Optional[bytes] = ..., max_payload_bytes: _Optional[int] = ..., timeout_ms: _Optional[int] = ..., ttl_ms: _Optional[int] = ..., idempotency_key: _Optional[str] = ...) -> None: ...

class ExecuteCapabilityResponse(_message.Message):
    __slots__ = ("v", "success", "output_json", "error", "job_id", "state", "error_code")
    V_FIELD_NUMBER: _ClassVar[int]
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_JSON_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ERROR_CODE_FIELD_NUMBER: _ClassVar[int]
    v: int
    success: bool
    output_json: bytes
    error: str
    job_id: str
    state: str
    error_code: str
    def __init__(self, v: _Optional[int] = ..., success: bool = ..., output_json: _Optional[bytes] = ..., error: _Optional[str] = ..., job_id: _Optional[str] = ..., state: _Optional[str] = ..., error_code: _Optional[str] = ...) -> None: ...

class SubmitJobRequest(_message.Message):
    __slots__ = ("v", "tag", "call", "report_accepted", "takes_more", "more")
    V_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    CALL_FIELD_NUMBER: _ClassVar[int]
    REPORT_ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    TAKES_MORE_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    v: int
    tag: int
    call: ExecuteCapabilityRequest
    report_accepted: bool
    takes_more: bool
    more: _containers.RepeatedCompositeFieldContainer[SubmitJobRequest]
    def __init__(self, v: _Optional[int] = ..., tag: _Optional[int] = ..., call: _Optional[_Union[ExecuteCapabilityRequest, _Mapping]] = ..., report_accepted: bool = ..., takes_more: bool = ..., more: _Optional[_Iterable[_Union[SubmitJobRequest, _Mapping]]] = ...) -> None: ...

class SubmitJobResponse(_message.Message):
    __slots__ = ("v", "tag", "final", "result", "refusal_code", "refusal_hint", "retry_after_ms", "more")
    V_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    FINAL_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_CODE_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_HINT_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    v: int
    tag: int
    final: bool
    result: ExecuteCapabilityResponse
    refusal_code: str
    refusal_hint: str
    retry_after_ms: int
    more: _containers.RepeatedCompositeFieldContainer[SubmitJobResponse]
    def __init__(self, v: _Optional[int] = ..., tag: _Optional[int] = ..., final: bool = ..., result: _Optional[_Union[ExecuteCapabilityResponse, _Mapping]] = ..., refusal_code: _Optional[str] = ..., refusal_hint: _Optional[str] = ..., retry_after_ms: _Optional[int] = ..., more: _Optional[_Iterable[_Union[SubmitJobResponse, _Mapping]]] = ...) -> None: ...

class FollowJobRequest(_message.Message):
    __slots__ = ("v", "job_id")
    V_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    v: int
    job_id: str
    def __init__(self, v: _Optional[int] = ..., job_id: _Optional[str] = ...) -> None: ...

class FollowJobResponse(_message.Message):
    __slots__ = ("v", "job_id", "state", "waiting_for", "fraction", "text", "final")
    V_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    WAITING_FOR_FIELD_NUMBER: _ClassVar[int]
    FRACTION_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    FINAL_FIELD_NUMBER: _ClassVar[int]
    v: int
    job_id: str
    state: str
    waiting_for: str
    fraction: float
    text: str
    final: bool
    def __init__(self, v: _Optional[int] = ..., job_id: _Optional[str] = ..., state: _Optional[str] = ..., waiting_for: _Optional[str] = ..., fraction: _Optional[float] = ..., text: _Optional[str] = ..., final: bool = ...) -> None: ...

class CancelJobRequest(_message.Message):
    __slots__ = ("v", "job_id")
    V_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    v: int
    job_id: str
    def __init__(self, v: _Optional[int] = ..., job_id: _Optional[str] = ...) -> None: ...

class CancelJobResponse(_message.Message):
    __slots__ = ("v", "state")
    V_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    v: int
    state: str
    def __init__(self, v: _Optional[int] = ..., state: _Optional[str] = ...) -> None: ...
