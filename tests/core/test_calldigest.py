"""The exact call: one spelling of an input, and one digest of everything that is approved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.core.callapprovals import CallTarget
from palyra.core.calldigest import (
    ExactCall,
    call_digest,
    canonical_json,
    exact_input,
    repeat_digest,
)
from palyra.core.identifiers import DeviceId, Fingerprint, JobId
from palyra.errors import InputInvalid

VECTORS = json.loads((Path(__file__).parent / "vectors" / "calldigest.json").read_bytes())

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**40), 10**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"]), max_size=4), inner, max_size=4
        )
    ),
    max_leaves=12,
)


def a_call(given: dict[str, Any]) -> ExactCall:
    """The call of a vector."""
    fields = dict(given, input_json=given["input_json"].encode())
    fields["targets"] = tuple(CallTarget(**each) for each in given["targets"])
    return ExactCall(**fields)


def reversed_keys(value: object) -> object:
    """The same JSON with the members of every object the other way round."""
    if isinstance(value, dict):
        return {key: reversed_keys(each) for key, each in reversed(value.items())}
    return [reversed_keys(each) for each in value] if isinstance(value, list) else value


# -- the input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "spelt"),
    [
        (b' {"b" : 1,\n"a":2} ', b'{"a":2,"b":1}'),
        (b'{"a":1,"a":2}', b'{"a":2}'),
        (b'{"\\u0061":1,"a":2}', b'{"a":2}'),
        (b'"\\u00e9\\/\\ud83d\\ude00"', '"é/😀"'.encode()),
        (b'"\\u0000\x7f"', b'"\\u0000\x7f"'),
        (b'{"\\ud83d\\ude00":1,"\\uffff":2,"z":3}', '{"z":3,"\uffff":2,"😀":1}'.encode()),
        (b"1", b"1"),
        (b"1.0", b"1.0"),
        (b"-0", b"0"),
        (b"-0.0", b"-0.0"),
        (b"1E2", b"100.0"),
        (b"1e15", b"1000000000000000.0"),
        (b"1e16", b"1e16"),
        (b"1e-400", b"0.0"),
        (b"0.1000000000000000055511151231257827", b"0.1"),
        (b"18446744073709551616", b"18446744073709551616"),
        (b"-123456789012345678901234567890", b"-123456789012345678901234567890"),
        (b"[" * 200 + b"]" * 200, b"[" * 200 + b"]" * 200),
    ],
)
def test_one_value_has_one_spelling(sent: bytes, spelt: bytes) -> None:
    """What is judged is what is sent: blanks, escapes and twins of a member are gone."""
    assert canonical_json(sent) == spelt
    assert msgspec.json.encode(exact_input(sent).value, order="deterministic") == spelt


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"nonsense",
        b"NaN",
        b"Infinity",
        b"1e400",
        b"1" * 5000,
        b"01",
        b"1 2",
        b"{'a':1}",
        b"[1,]",
        b"\xef\xbb\xbf1",
        b"\xff",
        b'"\xff"',
        b'"\x00"',
        b'"\\ud800"',
        b"[" * 100_000 + b"]" * 100_000,
    ],
)
def test_what_is_no_json_is_refused(sent: bytes) -> None:
    """With the error that every other input of a capability gets."""
    with pytest.raises(InputInvalid) as refused:
        canonical_json(sent, "echo")
    assert (refused.value.field, refused.value.capability) == ("input", "echo")
    assert len(refused.value.sentence) < 200


@given(values)
@settings(max_examples=100)
def test_the_spelling_is_stable(value: object) -> None:
    """It is its own spelling, reads as the same value, and the order of members is no matter."""
    spelt = canonical_json(json.dumps(value).encode())
    assert canonical_json(spelt) == spelt
    assert json.loads(spelt) == value
    assert canonical_json(json.dumps(reversed_keys(value), indent=1).encode()) == spelt


# -- the digest -----------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda vector: vector["name"])
def test_known_answers(vector: dict[str, Any]) -> None:
    """Another implementation gets these digests."""
    call = a_call(vector["given"])
    assert call_digest(call) == vector["expected"]["call_digest"]
    assert repeat_digest(call) == vector["expected"]["repeat_digest"]


CALL = a_call(VECTORS["vectors"][1]["given"])


def target(**changes: Any) -> tuple[CallTarget, ...]:
    return (attrs.evolve(CALL.targets[0], **changes), *CALL.targets[1:])


CHANGES: list[dict[str, Any]] = [
    {"trust_domain": "other"},
    {"operator_id": "local:0"},
    {"capability": "system.health"},
    {"input_json": b"{}"},
    {"max_payload_bytes": 65_537},
    {"run_timeout_ms": 30_001},
    {"queue_ttl_ms": None},
    {"targets": CALL.targets[:1]},
    {"targets": (*CALL.targets, CALL.targets[0])},
    {"targets": target(device_id=DeviceId("01J9ZC5QXGX4K7QM2ZT9B3FVHE"))},
    {"targets": target(identity_fingerprint=Fingerprint("00"))},
    {"targets": target(descriptor_digest="00")},
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
def test_everything_is_bound(change: dict[str, Any]) -> None:
    """Whatever is changed, it is another call, and no repeat of the approved one."""
    changed = attrs.evolve(CALL, **change)
    assert call_digest(changed) != call_digest(CALL)
    assert repeat_digest(changed) != repeat_digest(CALL)


def test_a_repeat_may_have_another_key() -> None:
    """The idempotency key is of the call, and not of its repeats."""
    again = attrs.evolve(CALL, idempotency_key="deploy-8")
    assert call_digest(again) != call_digest(CALL)
    assert repeat_digest(again) == repeat_digest(CALL) != call_digest(CALL)


def test_what_is_not_asked_is_not_bound() -> None:
    """Neither the order of devices, nor what they are called, nor the ids of jobs."""
    other = attrs.evolve(CALL, targets=CALL.targets[::-1])
    renamed = attrs.evolve(CALL, targets=target(device_name="x", job_id=JobId("y")))
    assert call_digest(other) == call_digest(renamed) == call_digest(CALL)
