"""Calls as a stranger makes them, and refusals as values."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from typing import Any

import attrs
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from palyra.transport import grpcclient
from palyra.wire.service import NodeServiceServicer, NodeServiceStub, messages

# With the environment that the transport sets before the first import.
grpc = grpcclient.grpc  # type: ignore[attr-defined]

__all__ = [
    "CALL_S",
    "TLS_NAME",
    "Key",
    "NodeServiceServicer",
    "Refusal",
    "Stub",
    "channel",
    "grpc",
    "key_pem",
    "lp",
    "messages",
    "refusal_of",
    "refused",
    "ulid",
]

CALL_S = 10.0
TLS_NAME = "palyrad-node-rpc"
OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.ssl_target_name_override", TLS_NAME),
    ("grpc.default_authority", TLS_NAME),
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

Key = ec.EllipticCurvePrivateKey


def lp(*fields: bytes) -> bytes:
    """PROTOCOL's LP: each field as its length, 4 bytes little-endian, and its bytes."""
    return b"".join(len(field).to_bytes(4, "little") + field for field in fields)


def ulid() -> str:
    """A canonical ULID of now."""
    number = int(time.time() * 1000) << 80 | int.from_bytes(os.urandom(10), "big")
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))


def key_pem(key: Any) -> bytes:
    """A private key as TLS libraries take it."""
    pem: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem


@attrs.frozen
class Refusal:
    """How a call ended: the gRPC status, the stable code, the sentence, and all the text of it."""

    status: str
    code: str
    details: str
    text: str

    @property
    def kind(self) -> tuple[str, str]:
        """Status and code."""
        return self.status, self.code


def refusal_of(error: Any) -> Refusal:
    """A gRPC error as a value."""
    trailing = {key: str(value) for key, value in error.trailing_metadata() or ()}
    details = error.details() or ""
    text = "\n".join([details, *trailing.values()])
    return Refusal(error.code().name, trailing.get("palyra-code", ""), details, text)


def refused(
    secrets: Iterable[str], call: Callable[..., object], *arguments: object, **named: object
) -> Refusal:
    """Make a call that must be refused, in words that hold no key and none of ``secrets``."""
    try:
        call(*arguments, **named)
    except grpc.RpcError as error:
        refusal = refusal_of(error)
    else:
        raise AssertionError("it was not refused")
    told = [secret for secret in (*secrets, "-----BEGIN") if secret in refusal.text]
    assert not told, f"the refusal tells a secret: {refusal}"
    return refusal


def channel(
    address: str,
    ca_pem: bytes,
    key: Key | None = None,
    chain_pem: bytes = b"",
    resumption: Any = None,
) -> Any:
    """A channel that believes ``ca_pem`` alone.  ``resumption`` is a cache of TLS sessions."""
    key_bytes = None if key is None else key_pem(key)
    credentials = grpc.ssl_channel_credentials(ca_pem, key_bytes, chain_pem or None)
    options = OPTIONS if resumption is None else (*OPTIONS, ("grpc.ssl_session_cache", resumption))
    return grpc.secure_channel(address, credentials, options)


class Stub:
    """A channel and its calls, for the length of a block."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel

    def __enter__(self) -> Any:
        return NodeServiceStub(self._channel)

    def __exit__(self, *_: object) -> None:
        self._channel.close()
