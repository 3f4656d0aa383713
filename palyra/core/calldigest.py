"""The exact call: its input in one spelling, and the digest that an approval is bound to.

The input is decoded once and encoded again; rules, the digest and the dispatch use what comes out,
so that nothing is judged which is not sent.  Of two members of one name the last stays, members are
in the order of their code points, blanks and needless escapes go.  A float keeps its point (``1.0``
is not ``1``) and is written as shortly as it can be read back; an integer keeps every digit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import attrs
import msgspec

from palyra.core.callapprovals import CallTarget
from palyra.core.schemas import Checker, FieldFault
from palyra.core.transcript import lp
from palyra.errors import InputInvalid

_encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder().decode


@attrs.frozen
class ExactInput:
    """One JSON value: decoded for rules, and as the bytes that are kept, hashed and sent."""

    value: object
    json: bytes
    _faults: dict[str, tuple[FieldFault, ...]] = attrs.field(
        factory=dict, init=False, eq=False, repr=False
    )

    def faults(self, digest: str, checker: Checker) -> tuple[FieldFault, ...]:
        """What the schema in the descriptor of that digest finds wrong; each is asked once,
        however many devices are."""
        if digest not in self._faults:
            self._faults[digest] = checker.faults(self.value, size=len(self.json))
        return self._faults[digest]


@attrs.frozen(kw_only=True)
class ExactCall:
    """Everything that an approver says yes to.  Lengths are bytes and milliseconds.

    ``input_json`` is canonical (:func:`canonical_json`).  Without a ``queue_ttl_ms`` the call does
    not wait for a device that is away.  The order of ``targets`` means nothing.
    """

    trust_domain: str
    operator_id: str
    capability: str
    input_json: bytes
    max_payload_bytes: int
    run_timeout_ms: int
    queue_ttl_ms: int | None
    idempotency_key: str
    targets: tuple[CallTarget, ...]


def exact_input(data: bytes, capability: str = "") -> ExactInput:
    """Any one JSON value in UTF-8, in its one spelling; ``capability`` is only for the error.

    The spelling may be longer than ``data`` (``1e15`` is written out): check limits of size on it.

    :raises InputInvalid: it is no JSON, holds a number no float or 4,300 digits can hold, or is
        nested beyond what a parser can follow.
    """
    try:
        value = _decode(data)
        return ExactInput(value, _encode(value))
    except (msgspec.DecodeError, UnicodeDecodeError) as cause:
        raise InputInvalid("input", f"is not JSON ({cause})", capability) from cause
    except RecursionError as cause:
        raise InputInvalid("input", "is nested too deeply", capability) from cause


def canonical_json(data: bytes, capability: str = "") -> bytes:
    """:func:`exact_input`, and of that the bytes."""
    return exact_input(data, capability).json


def call_digest(call: ExactCall) -> str:
    """SHA-256 (hex) of the whole call: what an approver sends back with a yes.

    H(LP("palyra-call-v1", trust_domain, operator_id, capability, input, LE64 max_payload, LE64
    run_timeout_ms, LE64 queue_ttl_ms, idempotency_key, LE32 n, and for each target in the order of
    ids device_id, identity_fingerprint, descriptor_digest)): text in UTF-8, hashes as their hex
    digits, 0 for no TTL.
    """
    targets = sorted(call.targets, key=lambda target: target.device_id)
    fields = (
        b"palyra-call-v1",
        call.trust_domain.encode(),
        call.operator_id.encode(),
        call.capability.encode(),
        call.input_json,
        _le64(call.max_payload_bytes),
        _le64(call.run_timeout_ms),
        _le64(call.queue_ttl_ms or 0),
        call.idempotency_key.encode(),
        len(targets).to_bytes(4, "little"),
    )
    return hashlib.sha256(lp(*fields, *_bound(targets))).hexdigest()


def repeat_digest(call: ExactCall) -> str:
    """The digest that repeats of the call share: that of the call without its idempotency key."""
    return call_digest(attrs.evolve(call, idempotency_key=""))


def _bound(targets: Iterable[CallTarget]) -> Iterable[bytes]:
    for target in targets:
        yield target.device_id.encode()
        yield target.identity_fingerprint.encode()
        yield target.descriptor_digest.encode()


def _le64(number: int) -> bytes:
    return number.to_bytes(8, "little")
