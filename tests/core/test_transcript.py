"""The transcript: payloads that bind every field, and keys that are keys."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.core.devices import ClientKind
from palyra.core.identifiers import Fingerprint
from palyra.core.pairing import CodeMethod
from palyra.core.transcript import (
    Purpose,
    check_identity_key,
    identity_payload,
    lp,
    renewal_payload,
    status_payload,
    v1_signature_payload,
    verify_identity_signature,
)
from palyra.errors import VerificationFailed

from .edwards import ORDER, P, Point, recover_x, times

fields = st.lists(st.binary(max_size=12), max_size=5)


def small_order_points() -> set[Point]:
    """The eight points of small order: multiples by the group's prime order of arbitrary ones."""
    points: set[Point] = set()
    for y in range(2, 60):
        x = recover_x(y)
        if x is not None:
            points |= {times((x, y), ORDER), times((-x % P, y), ORDER)}
    return points


def written(y: int, sign: int) -> bytes:
    return (y | sign << 255).to_bytes(32, "little")


@settings(max_examples=100)
@given(fields, fields)
def test_lp_is_injective(left: list[bytes], right: list[bytes]) -> None:
    """Two lists of fields have one encoding only if they are one list."""
    assert (lp(*left) == lp(*right)) == (left == right)


def test_lp_is_what_the_protocol_says() -> None:
    """Each field is four little-endian bytes of length and then itself."""
    assert lp() == b""
    assert lp(b"", b"ab") == bytes.fromhex("0000000002000000") + b"ab"


def test_v1_payload_is_the_published_concatenation() -> None:
    """The version-1 payload has no separators and a little-endian version."""
    payload = v1_signature_payload("5e", b"C", b"G", "D", ClientKind.CLI, "123456")
    assert payload == b"palyra-pairing-v1\x01\x00\x00\x005eCGDcli123456"


def test_payloads_of_our_own() -> None:
    """Identity, status and renewal payloads are the lists of PROTOCOL, under different labels."""

    def digest(data: bytes) -> bytes:
        return hashlib.sha256(data).digest()

    assert identity_payload(
        Purpose.REJOIN, "5e", b"C", b"CA", "D", ClientKind.NODE, b"K", b"csr", b"{}"
    ) == lp(
        *(b"palyra-identity-v1", b"rejoin", b"5e", b"C", b"CA", b"D", b"node", b"K"),
        *(digest(b"csr"), digest(b"{}")),
    )
    assert status_payload("5e", "D", b"CA", 258) == lp(
        b"palyra-status-v1", b"5e", b"D", b"CA", b"\x02\x01\x00\x00\x00\x00\x00\x00"
    )
    over = Fingerprint(digest(b"cert").hex())
    assert renewal_payload("D", b"CA", over, b"csr") == lp(
        b"palyra-renew-v1", b"D", b"CA", digest(b"cert"), digest(b"csr")
    )


def test_purposes_of_codes() -> None:
    """A PIN, a QR code and a rejoin are signed for under different purposes, as published."""
    purposes = {method: Purpose.of(method).value for method in CodeMethod}
    assert purposes == {
        CodeMethod.PIN: "pair-pin",
        CodeMethod.QR: "pair-uri",
        CodeMethod.REJOIN: "rejoin",
    }


@pytest.mark.parametrize("field", range(4))
def test_a_renewal_binds_all_of_it(field: int) -> None:
    """Another device, CA, certificate or CSR is another payload."""
    fields = ["D", b"CA", Fingerprint("ab" * 32), b"csr"]
    others = ["E", b"CB", Fingerprint("cd" * 32), b"csr2"]
    changed = [*fields[:field], others[field], *fields[field + 1 :]]
    assert renewal_payload(*changed) != renewal_payload(*fields)  # type: ignore[arg-type]


def test_every_small_order_key_is_refused() -> None:
    """All eight small-order points are refused with either sign, in every encoding they have."""
    points = small_order_points()
    assert len(points) == 8
    for _, y in points:
        spellings = [y] + ([y + P] if y + P < 2**255 else [])
        for spelling in spellings:
            for sign in (0, 1):
                with pytest.raises(VerificationFailed):
                    check_identity_key(written(spelling, sign))


@pytest.mark.parametrize("y", range(P, 2**255))
def test_non_canonical_keys_are_refused(y: int) -> None:
    """A y coordinate of the field's prime or more is another spelling of a smaller one."""
    for sign in (0, 1):
        with pytest.raises(VerificationFailed):
            check_identity_key(written(y, sign))


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_key_is_32_bytes(size: int) -> None:
    """Another length is refused."""
    with pytest.raises(VerificationFailed):
        check_identity_key(b"\x02" * size)


@settings(max_examples=50)
@given(st.binary(min_size=32, max_size=32), st.binary(max_size=64))
def test_real_keys_and_signatures_hold(seed: bytes, payload: bytes) -> None:
    """Every key that was made as a key is accepted, and its signature holds for its payload."""
    key = Ed25519PrivateKey.from_private_bytes(seed)
    public = key.public_key().public_bytes_raw()
    assert check_identity_key(public).public_bytes_raw() == public
    verify_identity_signature(public, key.sign(payload), payload)
    with pytest.raises(VerificationFailed) as caught:
        verify_identity_signature(public, key.sign(payload), payload + b"x", "status proof")
    assert "status proof" in caught.value.sentence


@pytest.mark.parametrize("signature", [b"", b"x" * 63, bytes(64), b"\xff" * 64])
def test_what_is_no_signature_is_refused(signature: bytes) -> None:
    """Signatures of any other form are refused, not an error."""
    public = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key().public_bytes_raw()
    with pytest.raises(VerificationFailed):
        verify_identity_signature(public, signature, b"payload")
