"""PIN pairing as PROTOCOL writes it, with nothing of Palyra and nothing of the library spake2.

SPAKE2 is that of the library's documentation: group edwards25519, X* = x*B + pw*M, Y* = y*B + pw*N,
scalars from 64 bytes of entropy, and pw from 48 bytes of HKDF.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

from .edwards import BASE, ORDER, Point, add, decoded, encoded, times

M = decoded(bytes.fromhex("15cfd18e385952982b6a8f8c7854963b58e34388c8e6dae891db756481a02312"))
N = decoded(bytes.fromhex("f04f2e7eb734b2a8f8b472eaf9c3c632576ac64aea650b496a8a20ff00e583c3"))
BOUND = (
    "client_kind",
    "device_id",
    "identity_public",
    "x25519_public",
    "challenge_signature",
    "transcript_mac",
    "csr_der",
    "identity_signature",
    "announcement",
)


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def hmac_sha256(key: bytes, data: bytes) -> bytes:
    return hmac.new(key, data, hashlib.sha256).digest()


def hkdf(salt: bytes, ikm: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869."""
    key = hmac_sha256(salt or bytes(32), ikm)
    block, output = b"", b""
    for counter in range(1, -(-length // 32) + 1):
        block = hmac_sha256(key, block + info + bytes([counter]))
        output += block
    return output[:length]


def lp(*fields: bytes) -> bytes:
    return b"".join(len(field).to_bytes(4, "little") + field for field in fields)


def negative(point: Point) -> Point:
    return times(point, ORDER - 1)


def reference(given: Mapping[str, bytes]) -> dict[str, bytes]:
    """All values of one honest run; ``given`` has entropy, PIN, nameplate and the fields of T."""
    pin = given["pin"]
    pw = int.from_bytes(hkdf(b"", pin, b"SPAKE2 pw", 48), "big") % ORDER
    x = int.from_bytes(given["device_entropy"], "big") % ORDER
    y = int.from_bytes(given["gateway_entropy"], "big") % ORDER
    device = encoded(add(times(BASE, x), times(M, pw)))
    gateway = encoded(add(times(BASE, y), times(N, pw)))
    shared = times(add(decoded(gateway), negative(times(N, pw))), x)
    assert shared == times(add(decoded(device), negative(times(M, pw))), y)
    names = sha256(b"palyra-pake-v1 device"), sha256(b"palyra-pake-v1 gateway")
    key = sha256(sha256(pin) + b"".join(names) + device + gateway + encoded(shared))
    device_share, gateway_share = b"A" + device, b"B" + gateway
    transcript = sha256(
        lp(
            b"palyra-pake-v1",
            given["session_id"],
            int(given["nameplate"]).to_bytes(4, "little"),
            given["challenge"],
            given["gateway_public"],
            given["ca_hash"],
            gateway_share,
            device_share,
            lp(*(given[name] for name in BOUND)),
        )
    )
    derived = hkdf(transcript, key, b"palyra-pake-v1 confirm", 64)
    device_confirm = hmac_sha256(derived[:32], transcript)
    return {
        "device_share": device_share,
        "gateway_share": gateway_share,
        "key": key,
        "transcript": transcript,
        "device_confirm": device_confirm,
        "gateway_confirm": hmac_sha256(derived[32:], lp(transcript, device_confirm)),
    }
